"""Record what a segmentation node publishes, byte for byte, with the steady time of each receipt.

Speaks in lines of JSON on standard output: {"ready": true} once it is matched, {"masks": n} with
each mask.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from seg_perception import messages
from seg_perception.evaluation.bags import BagWriter, RawMessage, deserialize
from seg_perception.nodes.label_info import LabelInfo

TYPES: dict[str, Any] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "diagnostic_msgs/msg/DiagnosticArray": DiagnosticArray,
    "vision_msgs/msg/LabelInfo": LabelInfo,  # None without vision_msgs
}
QUEUE = QoSProfile(depth=50)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
AFTERGLOW = 1.2  # seconds in which the rest of the last picture and a diagnostic come in


class Recorder(Node):
    """Write subscribed topics to a bag; times in the bag are the stamps of the pictures.

    What has no picture's stamp (diagnostics, class names) gets that of the newest picture, so
    that the bag spans the drive and nothing else.
    """

    def __init__(self, node: str, picture_topic: str, writer: BagWriter) -> None:
        super().__init__("recorder")
        self.receipts: dict[int, int] = {}
        self._writer = writer
        self._mask_topic = f"/{node}/label_mask"
        self._newest = 0
        self._early: list[RawMessage] = []  # came before the first picture
        topics = {
            self._mask_topic: "sensor_msgs/msg/Image",
            f"/{node}/confidence": "sensor_msgs/msg/Image",
            f"/{node}/class_grid": "sensor_msgs/msg/Image",
            f"/{node}/label_info": "vision_msgs/msg/LabelInfo",
            picture_topic: "sensor_msgs/msg/CompressedImage",
            "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
        }
        for topic, kind in topics.items():
            if TYPES[kind] is not None:
                self._record(topic, kind)

    def is_matched(self) -> bool:
        """Return whether the mask's publisher is there."""
        return self.count_publishers(self._mask_topic) > 0

    def is_idle(self, seconds: float) -> bool:
        """Return whether masks came, and then none for `seconds`."""
        if not self.receipts:
            return False
        latest = next(reversed(self.receipts.values()))
        return time.monotonic_ns() - latest > seconds * 1e9

    def _record(self, topic: str, kind: str) -> None:
        def on_message(data: bytes) -> None:
            now = time.monotonic_ns()
            message = RawMessage(topic, kind, 0, bytes(data))
            if "Image" not in kind:
                self._write_unstamped(message)
                return
            stamp = messages.stamp_ns(deserialize(message).header)
            self._newest = max(self._newest, stamp)
            self._writer.write(message._replace(time_ns=stamp))
            if topic == self._mask_topic:
                self.receipts[stamp] = now
                _say(masks=len(self.receipts))

        latched = topic.endswith("label_info")
        qos = LATCHED if latched else QUEUE
        self.create_subscription(TYPES[kind], topic, on_message, qos, raw=True)

    def _write_unstamped(self, message: RawMessage) -> None:
        self._early.append(message)
        if self._newest:
            for waiting in self._early:
                self._writer.write(waiting._replace(time_ns=self._newest))
            self._early.clear()


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def _spin(node: Node, done: Callable[[], bool]) -> None:
    while not done():
        rclpy.spin_once(node, timeout_sec=0.05)


def _run(recorder: Recorder, last_stamp: int, idle: float) -> None:
    _spin(recorder, recorder.is_matched)
    _say(ready=True)
    _spin(recorder, lambda: last_stamp in recorder.receipts or recorder.is_idle(idle))
    end = time.monotonic() + AFTERGLOW
    _spin(recorder, lambda: time.monotonic() > end)


def main() -> None:
    """Record until the mask of the last picture came, none comes any more, or told to stop."""
    parser = argparse.ArgumentParser(description="record a segmentation node's output")
    parser.add_argument("out", type=Path, help="mcap file")
    parser.add_argument("--received", type=Path, required=True, help="JSON of receipt times")
    parser.add_argument("--picture-topic", required=True)
    parser.add_argument("--node", default="segmentation_node")
    parser.add_argument("--last-stamp", type=int, required=True, help="ns; end after its mask")
    parser.add_argument("--idle", type=float, default=5.0, help="s without a mask; end after them")
    options = parser.parse_args()
    rclpy.init()
    try:
        with BagWriter(options.out) as writer:
            recorder = Recorder(options.node, options.picture_topic, writer)
            try:
                _run(recorder, options.last_stamp, options.idle)
            except (KeyboardInterrupt, ExternalShutdownException):
                pass  # told to stop, it keeps what came so far
            except Exception:
                if rclpy.ok():  # after a signal, whatever is under way fails: its context is gone
                    raise
        beside = options.received.with_suffix(".part")
        beside.write_text(json.dumps(recorder.receipts))
        os.replace(beside, options.received)
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
