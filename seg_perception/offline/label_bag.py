"""Label a bag: a new bag with all that it holds, and next to each image what a network sees."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.bag import (
    LATCHED,
    BagReader,
    BagWriter,
    RawMessage,
    Topic,
    message_class,
    serialize,
)
from seg_perception.bags.bag_topics import choose_image_topic
from seg_perception.bags.frames import Frame, ahead, bag_parts, decoded_parts
from seg_perception.drawing import draw_overlay
from seg_perception.errors import DataError, ImageError
from seg_perception.files import check_output
from seg_perception.labels import LabelSpace
from seg_perception.segmenter import Segmenter

IMAGE = "sensor_msgs/msg/Image"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
MASK = Topic("/seg_perception/label_mask", IMAGE)
CONFIDENCE = Topic("/seg_perception/confidence", IMAGE)
INFO = Topic("/seg_perception/label_info", LABEL_INFO, qos=(LATCHED,))
OVERLAY = Topic("/seg_perception/overlay/compressed", "sensor_msgs/msg/CompressedImage")
ADDED = (MASK, CONFIDENCE, INFO, OVERLAY)
QUALITY = 90  # of the overlay's jpeg
NAMED = 10  # images that cannot be read are named, further ones counted


class Labelled(NamedTuple):
    """What came of a bag: images with labels, others, and why the first few of those failed."""

    images: int
    unreadable: int
    reasons: list[str]


def label_bag(
    bag: Path,
    segmenter: Segmenter,
    out: Path,
    *,
    image_topic: str | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Labelled:
    """Write `out` (*.mcap): the bag's messages as they are, and the topics of ADDED.

    What belongs to an image has its header and its time in the bag. `on_image` is told the
    number of images done and of all. Raises DataError or ModelError for a bag, topic or output
    that cannot be; then nothing is written.
    """
    _check_places(bag, out)
    with BagReader(bag) as reader:
        topics = reader.described()
        _check_topics(bag, topics)
        source = choose_image_topic(reader.topics, image_topic, with_video=True)
        total, done = reader.count(source), 0
        labels = _Labels(segmenter)
        with (
            BagWriter(out) as writer,
            closing(ahead(decoded_parts(bag_parts(bag, source)))) as parts,
        ):
            for topic in (*topics, INFO):
                writer.add_topic(topic)
            for part in parts:
                for record in part.records:
                    writer.write(record)
                for frame in part.frames:
                    for added in labels.of(frame):
                        writer.write(added)
                    done += 1
                    on_image(done, total)
            labels.check(bag, source)
    return Labelled(labels.images, labels.unreadable, labels.reasons)


def _check_places(bag: Path, out: Path) -> None:
    parts = tuple(bag.iterdir()) if bag.is_dir() else ()
    check_output(out, kinds=(".mcap",), sources=(bag, *parts))
    if bag.resolve() in out.resolve().parents:
        raise DataError(f"{out} is in the bag {bag}, which stays as it is; write next to it")
    if bag.suffix == ".bag":
        raise DataError(
            f"{bag} is a bag of ROS 1, whose messages no bag of ROS 2 holds as they are; convert "
            f"it first: rosbags-convert --src {bag} --dst {bag.with_suffix('')}"
        )


def _check_topics(bag: Path, topics: list[Topic]) -> None:
    taken = sorted({t.name for t in topics} & {t.name for t in ADDED})
    if taken:
        raise DataError(f"{bag} has {taken[0]} already; label the bag that it was made of")


class _Labels:
    """Turns images into the messages that go next to them, and counts."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.images, self.unreadable = 0, 0
        self.reasons: list[str] = []

    def of(self, frame: Frame) -> Iterator[RawMessage]:
        """Yield what is seen in one image; nothing when it cannot be read."""
        header, time_ns = frame.header, frame.message_ns
        try:
            result = self._segmenter(frame.image, "bgr8")
        except ImageError as error:
            self.unreadable += 1
            if len(self.reasons) < NAMED:
                self.reasons.append(f"image at {time_ns / 1e9:.3f} s: {error}")
            return
        space = self._segmenter.space
        if not self.images:
            yield _message(INFO, time_ns, _label_info(header, space))
        self.images += 1
        yield _message(MASK, time_ns, _mono8(header, result.labels))
        if result.confidence is not None:
            yield _message(CONFIDENCE, time_ns, _mono8(header, result.confidence))
        drawn = draw_overlay(frame.image, result.labels, space)
        yield _message(OVERLAY, time_ns, _jpeg(header, drawn))

    def check(self, bag: Path, topic: str) -> None:
        """Raise DataError when no image came."""
        if not self.images:
            why = f"no image of {topic} can be read" if self.unreadable else f"{topic} is empty"
            raise DataError(f"{bag} has nothing to label: {'; '.join([why, *self.reasons[:1]])}")


def _message(topic: Topic, time_ns: int, message: Any) -> RawMessage:
    return RawMessage(topic.name, topic.type, time_ns, serialize(message, topic.type))


def _mono8(header: Any, image: NDArray[np.uint8]) -> Any:
    """Return an Image of uint8 (H,W)."""
    height, width = image.shape
    data = np.ascontiguousarray(image).reshape(-1)
    return message_class(IMAGE)(header, height, width, "mono8", 0, width, data)


def _jpeg(header: Any, image: NDArray[np.uint8]) -> Any:
    """Return a CompressedImage of uint8 (H,W,3) BGR."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return message_class(OVERLAY.type)(header, "jpeg", np.asarray(data, np.uint8).reshape(-1))


def _label_info(header: Any, space: LabelSpace) -> Any:
    """Return a LabelInfo that lists every id of `space`."""
    name = message_class("vision_msgs/msg/VisionClass")
    return message_class(LABEL_INFO)(header, [name(i, n) for i, n in space.class_map()], 0.0)
