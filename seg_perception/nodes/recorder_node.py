"""Record what a segmentation node publishes, byte for byte, with the steady time of each receipt.

Prints a line of JSON on standard output when it is matched ({"ready": true}) and one for each
mask ({"masks": n}).
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from seg_perception import messages
from seg_perception.evaluation.bags import BagWriter, RawMessage, deserialize

IMAGE = "sensor_msgs/msg/Image"
TYPES: dict[str, Any] = {
    IMAGE: Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "diagnostic_msgs/msg/DiagnosticArray": DiagnosticArray,
}


class Recorder(Node):
    """Write subscribed topics to a bag; times in the bag are the stamps of the pictures."""

    def __init__(self, node: str, picture_topic: str, writer: BagWriter) -> None:
        super().__init__("recorder")
        self.receipts: dict[int, int] = {}
        self.last_receipt = time.monotonic()
        self._writer = writer
        self._mask_topic = f"/{node}/label_mask"
        self._latest = 0
        topics = {
            self._mask_topic: IMAGE,
            f"/{node}/confidence": IMAGE,
            f"/{node}/class_grid": IMAGE,
            picture_topic: "sensor_msgs/msg/CompressedImage",
            "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
        }
        self._subs = [self._subscribe(topic, kind) for topic, kind in topics.items()]

    def is_matched(self) -> bool:
        """Return whether the mask's publisher is there."""
        return self.count_publishers(self._mask_topic) > 0

    def _subscribe(self, topic: str, kind: str) -> Any:
        def record(data: bytes) -> None:
            now = time.monotonic_ns()
            message = RawMessage(topic, kind, 0, bytes(data))
            if topic == "/diagnostics":
                time_ns = self._latest
            else:
                time_ns = messages.stamp_ns(deserialize(message).header)
                self._latest = max(self._latest, time_ns)
            self._writer.write(message._replace(time_ns=time_ns))
            if topic == self._mask_topic:
                self.receipts[time_ns] = now
                self.last_receipt = time.monotonic()
                print(json.dumps({"masks": len(self.receipts)}), flush=True)

        return self.create_subscription(TYPES[kind], topic, record, QoSProfile(depth=50), raw=True)


def main() -> None:
    """Record until the mask of the last picture came, or until told to stop."""
    parser = argparse.ArgumentParser(description="record a segmentation node's output")
    parser.add_argument("out", type=Path, help="mcap file")
    parser.add_argument("--received", type=Path, required=True, help="JSON of receipt times")
    parser.add_argument("--picture-topic", required=True)
    parser.add_argument("--node", default="segmentation_node")
    parser.add_argument("--last-stamp", type=int, required=True, help="ns; end after its mask")
    options = parser.parse_args()
    rclpy.init()
    with BagWriter(options.out) as writer:
        recorder = Recorder(options.node, options.picture_topic, writer)
        try:
            while not recorder.is_matched():
                rclpy.spin_once(recorder, timeout_sec=0.05)
            print(json.dumps({"ready": True}), flush=True)
            while options.last_stamp not in recorder.receipts:
                rclpy.spin_once(recorder, timeout_sec=0.1)
            # Confidence, shares and the next diagnostic of the last picture are still under way.
            until = time.monotonic() + 1.2
            while time.monotonic() < until:
                rclpy.spin_once(recorder, timeout_sec=0.1)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
    beside = options.received.with_suffix(".part")
    beside.write_text(json.dumps(recorder.receipts))
    os.replace(beside, options.received)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
