"""A lifecycle node that stands for Nav2's local costmap: our reading of its layers, over DDS.

python costmap_stand_in.py PARAMS.yaml [--fault FAULT]

The robot stands still, and the costmap's frame is that of the clouds. A fault is one that a costmap
may have: `blind` hears what is free alone, `mute` never says that a source is silent, `mortal` dies
when occupancy_node was there first.
"""

import argparse
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from seg_perception.messages import stamp_ns, to_array
from seg_perception.nav2.costmap import Costmap
from seg_perception.nav2.layers import ObstacleLayer
from seg_perception.nav2.parameters import read_nodes
from seg_perception.nav2.semantic import SemanticLayer
from seg_perception.occupancy.mapper import Pose2D
from support.nav2 import floats
from support.world import mounted

OURS = "/occupancy_node"
SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
CAMERA = mounted(height=1.4, pitch=0.05)
STILL = Pose2D(0.0, 0.0, 0.0)
TRANSLATED = np.array(
    [0, *(1 + 97 * (cost - 1) // 251 for cost in range(1, 253)), 99, 100, -1], np.int8
)


class CostmapNode(LifecycleNode):
    """Layers and topics of one costmap."""

    def __init__(self, parameters: dict[str, Any], fault: str) -> None:
        super().__init__("local_costmap", namespace="/local_costmap")
        self._parameters, self._fault = parameters, fault
        self._set: dict[str, Any] = {}
        self._frame = "base_link"
        self._was_current = True

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._costmap = Costmap("local_costmap", self._parameters)
        self._output = self.create_publisher(OccupancyGrid, "/local_costmap/costmap", LATCHED)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._fault == "mortal" and self.count_publishers(f"{OURS}/obstacles"):
            os._exit(70)
        for name in ("obstacles", "clearing"):
            if self._fault != "blind" or name != "obstacles":
                self.create_subscription(
                    PointCloud2, f"{OURS}/{name}", lambda m, n=name: self._on_cloud(n, m),
                    SENSOR_DATA,
                )  # fmt: skip
        parts = (("label_mask", Image), ("confidence", Image), ("points", PointCloud2))
        for name, kind in parts if self._fault != "blind" else ():
            self.create_subscription(
                kind, f"{OURS}/costmap/{name}", lambda m, n=name: self._on_part(n, m), SENSOR_DATA
            )
        for layer in self._obstacle_layers():
            for source in layer.buffers.values():
                source.on_cloud(np.zeros((0, 3)), np.zeros(3), time.monotonic())
        self.create_timer(0.2, self._update)
        return super().on_activate(state)

    def _obstacle_layers(self) -> list[ObstacleLayer]:
        return [x for x in self._costmap.layers if isinstance(x, ObstacleLayer)]

    def _on_cloud(self, name: str, cloud: PointCloud2) -> None:
        self._frame = cloud.header.frame_id
        for layer in self._obstacle_layers():
            layer.buffers[name].on_cloud(floats(cloud), CAMERA.translation, time.monotonic())

    def _on_part(self, name: str, message: Any) -> None:
        self._set[name] = message
        if len(self._set) < 3 or len({stamp_ns(m.header) for m in self._set.values()}) > 1:
            return
        places = CAMERA.apply(floats(self._set["points"]))
        mask, confidence = (to_array(self._set[n]).ravel() for n in ("label_mask", "confidence"))
        for layer in self._costmap.layers:
            if isinstance(layer, SemanticLayer):
                for source in layer.sources.values():
                    now = time.monotonic()
                    source.on_pixels(mask, confidence, places, CAMERA.translation, now)

    def _update(self) -> None:
        self._costmap.update(STILL, time.monotonic())
        window = self._costmap.window
        grid = OccupancyGrid()
        grid.header.frame_id = self._frame
        grid.info.resolution = window.resolution
        grid.info.height, grid.info.width = window.costs.shape
        grid.info.origin.position.x, grid.info.origin.position.y = window.origin
        grid.data = TRANSLATED[window.costs].ravel().tolist()
        self._output.publish(grid)
        if self._was_current and not self._costmap.is_current and self._fault != "mute":
            self.get_logger().warning("The obstacles observation buffer has not been updated")
        self._was_current = self._costmap.is_current


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("params", type=Path)
    parser.add_argument("--fault", default="")
    options = parser.parse_args()
    rclpy.init()
    parameters = dict(read_nodes(options.params)["local_costmap/local_costmap"])
    node = CostmapNode(parameters, options.fault)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    main()
