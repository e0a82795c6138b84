"""A process that subscribes as kiwicampus/semantic_segmentation_layer does, and dies as it does.

While it is configured it subscribes to each topic and unsubscribes at once (its message_filters do
so when they are made); activated, it subscribes to mask, confidence, names and cloud, in this
order: mask, confidence and cloud best effort, depth 50; the names reliable and, with the
message_filters of Kilted, volatile. A synchronised set before the names ends the process with
DEAD, where the real one dereferences a null pointer. It ends with 0 after so many sets.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from seg_perception.messages import stamp_ns

DEAD = 70  # exit status
SYNCHRONOUS = 100_000_000  # ns between stamps of a set
SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class Layer(Node):
    """The subscriptions of one observation source."""

    def __init__(self, topics: list[str], durability: DurabilityPolicy) -> None:
        """Configure: `topics` are those of mask, confidence, names and cloud."""
        super().__init__("semantic_layer")
        mask, confidence, names, cloud = topics
        latched = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        self._kinds: list[tuple[Any, str, Callable[[Any], None], QoSProfile]] = [
            (Image, mask, lambda m: self._synchronise("mask", m), SENSOR_DATA),
            (Image, confidence, lambda m: self._synchronise("confidence", m), SENSOR_DATA),
            (DiagnosticArray, names, self._on_names, latched),
            (PointCloud2, cloud, lambda m: self._synchronise("cloud", m), SENSOR_DATA),
        ]
        self.sets = 0
        self._names = 0
        self._stamps: dict[str, int] = {}
        self._alive: list[Any] = []
        for kind in self._kinds:
            self.destroy_subscription(self.create_subscription(*kind))

    def activate(self) -> None:
        self._alive = [self.create_subscription(*kind) for kind in self._kinds]

    def deactivate(self) -> None:
        for subscription in self._alive:
            self.destroy_subscription(subscription)

    def forget(self) -> None:
        """Be as a process that has just started."""
        self.sets = self._names = 0
        self._stamps.clear()

    def _on_names(self, message: DiagnosticArray) -> None:
        self._names = len(message.status)
        print(f"{self._names} names", flush=True)

    def _synchronise(self, topic: str, message: Any) -> None:
        self._stamps[topic] = stamp_ns(message.header)
        stamps = self._stamps.values()
        if len(stamps) < 3 or max(stamps) - min(stamps) > SYNCHRONOUS:
            return
        if not self._names:
            print("a set came before the names", flush=True)
            os._exit(DEAD)
        self._stamps.clear()
        self.sets += 1


def main() -> None:
    """Live until every start had its sets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("topics", nargs=4, help="of mask, confidence, names and cloud")
    parser.add_argument("--durability", default="volatile")
    parser.add_argument("--sets", type=int, default=3, help="of one start")
    parser.add_argument("--starts", type=int, default=1, help="activated so often")
    parser.add_argument("--configured", type=float, default=0.3, help="seconds until activated")
    options = parser.parse_args()
    rclpy.init()
    layer = Layer(options.topics, DurabilityPolicy[options.durability.upper()])
    for start in range(options.starts):
        due = time.monotonic() + options.configured
        while time.monotonic() < due:
            rclpy.spin_once(layer, timeout_sec=0.02)
        layer.activate()
        print(f"activated {start}", flush=True)
        while layer.sets < options.sets:
            rclpy.spin_once(layer, timeout_sec=0.1)
        layer.deactivate()
        layer.forget()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
