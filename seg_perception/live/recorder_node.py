"""Record what a segmentation node publishes, byte for byte, with the steady time of each receipt.

Records until it is told to stop. Speaks in lines of JSON on standard output: {"ready": true} once
it is matched and, with vision_msgs, has the class names, before which the node publishes no mask to
it; {"masks": n, "stamp": ns} with each mask, {"error": text} when the node says that it
cannot work.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from seg_perception import messages
from seg_perception.bags.bag import BagWriter, RawMessage, deserialize
from seg_perception.errors import DataError
from seg_perception.nodes.label_info import LabelInfo
from seg_perception.nodes.qos import LATCHED

TYPES: dict[str, Any] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "diagnostic_msgs/msg/DiagnosticArray": DiagnosticArray,
    "vision_msgs/msg/LabelInfo": LabelInfo,  # None without vision_msgs
}
QUEUE = QoSProfile(depth=50)
OUTPUTS = ("label_mask", "confidence")  # whose receipts are noted
ERROR = int.from_bytes(DiagnosticStatus.ERROR, "little")


class Recorder(Node):
    """Write subscribed topics to a bag; times in the bag are the stamps of the images.

    Where stamps do not rise, because a clock was set or never ran, a message is a nanosecond later
    than the one before it on its topic: the bag keeps the order of arrival. What has no image's
    stamp (diagnostics, class names) gets the time of the newest image, so that the bag spans the
    drive and nothing else. `receipts` holds stamp and steady time of each message of OUTPUTS.
    """

    def __init__(self, node: str, image_topic: str | None, writer: BagWriter) -> None:
        super().__init__("recorder")
        self.receipts: dict[str, list[tuple[int, int]]] = {name: [] for name in OUTPUTS}
        self._writer, self._watched = writer, node
        self._mask_topic = f"/{node}/label_mask"
        self._times: dict[str, int] = {}  # of the last message, by topic
        self._early: list[RawMessage] = []  # came before the first image
        self._has_names = LabelInfo is None
        topics = {
            self._mask_topic: "sensor_msgs/msg/Image",
            f"/{node}/confidence": "sensor_msgs/msg/Image",
            f"/{node}/class_grid": "sensor_msgs/msg/Image",
            f"/{node}/label_info": "vision_msgs/msg/LabelInfo",
            "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
        }
        if image_topic:
            topics[image_topic] = "sensor_msgs/msg/CompressedImage"
        for topic, kind in topics.items():
            if TYPES[kind] is not None:
                self._record(topic, kind)

    def is_ready(self) -> bool:
        """Return whether the mask's publisher is there, and masks do not wait for this one."""
        return self._has_names and self.count_publishers(self._mask_topic) > 0

    def _record(self, topic: str, kind: str) -> None:
        receipts = self.receipts.get(topic.rpartition("/")[2])
        are_names = topic.endswith("label_info")

        def on_message(data: bytes) -> None:
            now = time.monotonic_ns()
            message = RawMessage(topic, kind, 0, bytes(data))
            self._has_names |= are_names
            if "Image" not in kind:
                self._write_unstamped(message)
                return
            try:
                stamp = messages.stamp_ns(deserialize(message).header)
            except DataError:  # a damaged image, which the node cannot read either
                self._write_unstamped(message)
                return
            if receipts is not None:
                receipts.append((stamp, now))
            if topic == self._mask_topic:
                _say(masks=len(self.receipts["label_mask"]), stamp=stamp)
            self._times[topic] = max(stamp, self._times.get(topic, stamp - 1) + 1)
            self._writer.write(message._replace(time_ns=self._times[topic]))

        qos = LATCHED if are_names else QUEUE
        self.create_subscription(TYPES[kind], topic, on_message, qos, raw=True)

    def _write_unstamped(self, message: RawMessage) -> None:
        if "Diagnostic" in message.type:
            self._watch(deserialize(message))
        self._early.append(message)
        if self._times:
            newest = max(self._times.values())
            for waiting in self._early:
                self._writer.write(waiting._replace(time_ns=newest))
            self._early.clear()

    def _watch(self, diagnostics: Any) -> None:
        for status in diagnostics.status:
            if status.name.startswith(self._watched) and status.level == ERROR:
                _say(error=status.message)


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def _run(recorder: Recorder) -> None:
    while not recorder.is_ready():
        rclpy.spin_once(recorder, timeout_sec=0.05)
    _say(ready=True)
    rclpy.spin(recorder)


def main() -> None:
    """Record until told to stop."""
    parser = argparse.ArgumentParser(description="record a segmentation node's output")
    parser.add_argument("out", type=Path, help="mcap file")
    parser.add_argument("--received", type=Path, required=True, help="JSON of receipt times")
    parser.add_argument("--image-topic", help="CompressedImage topic to be recorded next to")
    parser.add_argument("--node", default="segmentation_node")
    options = parser.parse_args()
    rclpy.init()
    try:
        with BagWriter(options.out) as writer:
            recorder = Recorder(options.node, options.image_topic, writer)
            try:
                _run(recorder)
            except (KeyboardInterrupt, ExternalShutdownException):
                pass  # told to stop, it keeps what came so far
            except Exception:
                if rclpy.ok():  # after a signal, whatever is under way fails: its context is gone
                    raise
        temporary = options.received.with_suffix(".part")
        temporary.write_text(json.dumps(recorder.receipts))
        os.replace(temporary, options.received)
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
