"""Read parameters and topics of running Nav2 nodes, and print them as one line of JSON.

python -m seg_perception.doctor.probe_nav2 SECONDS NODE [NODE ...]
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from seg_perception.doctor.nav2_graph import Nav2Node, Nav2Topic
from seg_perception.doctor.probe import Probe
from seg_perception.nav2.parameters import topics_of
from seg_perception.nodes.subscription import publishers, subscribers

ANSWER_S = 6.0  # for discovery and each question to a node
CLOUD = "sensor_msgs/msg/PointCloud2"
QUEUE = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class Nav2Probe(Probe):
    """Ask Nav2's nodes for their parameters and topics."""

    def read(self, seconds: float, names: Sequence[str]) -> list[Nav2Node]:
        """Return each node; one that does not answer has no parameters."""
        return [self._read(seconds, name) for name in names]

    def _read(self, seconds: float, name: str) -> Nav2Node:
        listed = self._ask(ListParameters, f"{name}/list_parameters", ListParameters.Request())
        if listed is None:
            return Nav2Node(name)
        keys = list(listed.result.names)
        request = GetParameters.Request(names=keys)
        values = self._ask(GetParameters, f"{name}/get_parameters", request)
        if values is None:
            return Nav2Node(name)
        state = self._ask(GetState, f"{name}/get_state", GetState.Request())
        read = map(parameter_value_to_python, values.values)
        parameters = _nested(dict(zip(keys, read, strict=True)))
        return Nav2Node(
            name,
            parameters,
            state.current_state.label if state is not None else "",
            self._topics(seconds, topics_of(parameters)),
        )

    def _topics(self, seconds: float, named: dict[str, str]) -> list[Nav2Topic]:
        """Return both ends of each topic, and the rate of the clouds."""
        counts = dict.fromkeys(named, 0)

        def counter(topic: str) -> Callable[[Any], None]:
            def count(_: Any) -> None:
                counts[topic] += 1

            return count

        known = dict(self.node.get_topic_names_and_types())
        clouds = [topic for topic in named if CLOUD in known.get(topic, [])]
        made = [
            self.node.create_subscription(PointCloud2, topic, counter(topic), QUEUE, raw=True)
            for topic in clouds
        ]
        self.spin(seconds if clouds else 0.0)
        for subscription in made:
            self.node.destroy_subscription(subscription)
        mine = self.node.get_fully_qualified_name().lstrip("/")
        return [
            Nav2Topic(
                topic,
                parameter,
                publishers(self.node, topic),
                [end for end in subscribers(self.node, topic) if end.node != mine],
                counts[topic] / seconds if topic in clouds else None,
            )
            for topic, parameter in named.items()
        ]

    def _ask(self, kind: Any, service: str, request: Any) -> Any:
        """Return the answer of a service, None where none comes."""
        client: Any = self.node.create_client(kind, service)
        self.spin(ANSWER_S, client.service_is_ready)
        future = client.call_async(request) if client.service_is_ready() else None
        if future is not None:
            self.spin(ANSWER_S, future.done)
        self.node.destroy_client(client)
        return future.result() if future is not None and future.done() else None


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as a YAML file has them: a dict for each part of a dotted name."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        at = nested
        for part in path:
            at = at.setdefault(part, {})
        at[last] = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        )
    return nested


def main() -> None:
    """Read and print."""
    seconds, names = float(sys.argv[1]), sys.argv[2:]
    rclpy.init()
    try:
        probe = Nav2Probe("seg_perception_doctor_nav2")
        print(json.dumps([asdict(node) for node in probe.read(seconds, names)]))
        probe.node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        sys.exit(130)
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
