"""What the doctor hears of one topic of images and the camera_info next to it."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.doctor.observation import CameraInfoSeen, CameraSeen
from seg_perception.errors import ImageError
from seg_perception.messages import stamp_ns
from seg_perception.nodes import image_encodings
from seg_perception.nodes.lifecycle_node import sender
from seg_perception.nodes.subscription import publishers

KINDS: dict[str, Any] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
}
DEPTH = 10  # messages that may wait while another camera's is handled


class CameraProbe:
    """Listen to a topic as a node with qos_reliability auto does, and count."""

    def __init__(
        self, node: Node, topic: str, kind: str, clock: Callable[[], float | None]
    ) -> None:
        """Subscribe; `clock` returns the newest /clock in seconds."""
        self._node, self.topic, self._kind, self._clock = node, topic, kind, clock
        self._image: Any = None
        self._info: CameraInfo | None = None
        self.received = 0
        self._first = self._newest = 0.0  # arrivals, steady seconds
        self._arrived = 0.0  # of the newest image, system clock
        self._simulated: float | None = None
        self._sequences: dict[str, tuple[int, int]] = {}  # first and newest of each publisher
        camera = topic.removesuffix("/compressed").rpartition("/")[0]
        self._info_topic = f"{camera}/camera_info"
        self._subscribe(KINDS[kind], topic, self._on_image)
        self._subscribe(CameraInfo, self._info_topic, self._on_info)

    @property
    def frame_id(self) -> str:
        """Frame of the newest image."""
        return str(self._image.header.frame_id) if self._image is not None else ""

    def seen(self, seconds: float) -> CameraSeen:
        """Return everything that was heard in so many seconds."""
        image, info = self._image, self._info
        about = CameraSeen(
            topic=self.topic,
            kind=self._kind,
            seconds=seconds,
            publishers=publishers(self._node, self.topic),
            info_topic=self._info_topic,
            info_publishers=self._node.count_publishers(self._info_topic),
            info=_calibration(info) if info is not None else None,
        )
        if image is None:
            return about
        return replace(
            about,
            received=self.received,
            sent=self._sent(),
            span=self._newest - self._first,
            encoding=image.encoding if isinstance(image, Image) else image.format,
            frame_id=self.frame_id,
            stamp=stamp_ns(image.header) / 1e9,
            arrived=self._arrived,
            simulated=self._simulated,
            **_decoded(image),
        )

    def _sent(self) -> int | None:
        """Return how many images were published from the first to the newest that arrived."""
        if not self._sequences:
            return None
        return sum(newest - first + 1 for first, newest in self._sequences.values())

    def _subscribe(self, kind: type, topic: str, callback: Callable[..., None]) -> None:
        offers = {p.reliability for p in publishers(self._node, topic)}
        policy = "BEST_EFFORT" if "best_effort" in offers else "RELIABLE"
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[policy])
        self._node.create_subscription(kind, topic, callback, qos)

    def _on_image(self, message: Any, info: dict[str, Any]) -> None:
        self._image, self._newest, self._arrived = message, time.monotonic(), time.time()
        self._first = self._first or self._newest
        self.received += 1
        self._simulated = self._clock()
        who, sequence = sender(info)
        if sequence is not None:
            first, _ = self._sequences.get(who, (sequence, sequence))
            self._sequences[who] = first, sequence

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message


def _calibration(info: CameraInfo) -> CameraInfoSeen:
    return CameraInfoSeen(
        float(info.k[0]), int(info.width), int(info.height), str(info.header.frame_id)
    )


def _decoded(image: Any) -> dict[str, Any]:
    """Return the size that the decoder finds, or why it cannot read the image."""
    try:
        height, width = image_encodings.decode(image).image.shape[:2]
    except ImageError as error:
        return {
            "unreadable": str(error),
            "width": getattr(image, "width", 0),
            "height": getattr(image, "height", 0),
        }
    return {"width": width, "height": getattr(image, "height", height)}
