"""A node that answers for its parameters and subscribes as a costmap or collision monitor does.

python nav2_parameters.py FILE NODE [STATE]    FILE is a parameters file of Nav2, NODE one of it

Written after nav2_costmap_2d's lifecycle node: parameters with dots, a get_state service, reliable
subscriptions of clouds (sensor data), latched ones of grids.
"""

import sys
from pathlib import Path
from typing import Any

import rclpy
import yaml
from lifecycle_msgs.srv import GetState
from nav_msgs.msg import OccupancyGrid
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2

from seg_perception.nav2.parameters import topics_of


def flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{path}{key}.")
        else:
            found[path + key] = value
    return found


def main() -> None:
    path, name, *state = sys.argv[1:]
    values = yaml.safe_load(Path(path).read_text())
    for part in name.strip("/").split("/"):
        values = values[part]
    parameters = values["ros__parameters"]
    rclpy.init()
    space, _, short = name.rpartition("/")
    node = rclpy.create_node(
        short, namespace=space or "/", allow_undeclared_parameters=True,
        automatically_declare_parameters_from_overrides=True,
        parameter_overrides=[Parameter(n, value=v) for n, v in flat(parameters).items()],
    )  # fmt: skip

    def get_state(_: Any, response: Any) -> Any:
        response.current_state.label = (state or ["active"])[0]
        return response

    node.create_service(GetState, "~/get_state", get_state)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    for topic, parameter in topics_of(parameters).items():
        if parameter.endswith("map_topic"):
            node.create_subscription(OccupancyGrid, topic, lambda _: None, latched)
        elif parameter.endswith((".topic", "pointcloud_topic")):
            node.create_subscription(PointCloud2, topic, lambda _: None, qos_profile_sensor_data)
    print("ready", flush=True)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
