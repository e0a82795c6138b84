"""Recordings that tests write: images, masks and label images, in bags and folders."""

from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from seg_perception import messages
from seg_perception.bags.bag import (
    STORE,
    BagReader,
    BagWriter,
    RawMessage,
    deserialize,
    message_class,
    serialize,
)

CLIP = Path(str(resources.files("seg_perception") / "clip"))
IMAGES = "/camera/image/compressed"
IMAGE = "sensor_msgs/msg/Image"


def image_message(topic: str, stamp: int, pixels: np.ndarray, encoding: str) -> RawMessage:
    """Return a recorded image or label image."""
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    time = message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)
    header = message_class("std_msgs/msg/Header")(stamp=time, frame_id="camera")
    height, width = pixels.shape[:2]
    step = pixels.size // height
    message = message_class(IMAGE)(header, height, width, encoding, 0, step, pixels.ravel())
    return RawMessage(topic, IMAGE, stamp, serialize(message, IMAGE))


def write_bag(path: Path, *records: RawMessage) -> Path:
    with BagWriter(path) as bag:
        for record in records:
            bag.write(record)
    return path


def write_images(folder: Path, *images: np.ndarray) -> Path:
    """Write RGB images or label images as a.png, b.png ..."""
    folder.mkdir()
    for name, image in zip("abcdef", images, strict=False):
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1] if image.ndim == 3 else image)
    return folder


def thirds() -> np.ndarray:
    """Return truth (32,48): left third red, the rest blue but for a void row at the bottom."""
    truth = np.full((32, 48), 2, np.uint8)
    truth[:, :16] = 0
    truth[-1] = 255
    return truth


def first_of_clip(path: Path, count: int) -> tuple[Path, list[int]]:
    """Write the first images of the bundled clip; return their stamps too."""
    with BagReader(CLIP / "bag") as clip:
        records = list(clip.raw([IMAGES]))[:count]
        stamps = [messages.stamp_ns(clip.deserialize(r).header) for r in records]
    return write_bag(path, *records), stamps


def drive(folder: Path, images: int, *, first: int = 10**18, size: int = 48) -> tuple[Path, Path]:
    """Write a bag at 10 Hz and its truth: a textured street that moves, with some noise."""
    random = np.random.default_rng(images)
    street = cv2.resize(random.integers(0, 256, (24, 60, 3)).astype(np.uint8), (size * 5, size * 2))
    labels = folder / f"labels{first}"
    labels.mkdir()
    records = []
    for i in range(images):
        stamp = first + i * 10**8
        image = np.ascontiguousarray(street[:size, i % size : i % size + size])
        records.append(image_message("/camera/image", stamp, image, "rgb8"))
        truth = image.argmax(axis=2).astype(np.uint8)
        truth[random.random(truth.shape) < 0.02] = 255
        cv2.imwrite(str(labels / f"{stamp}.png"), truth)
    return write_bag(folder / f"drive{first}.mcap", *records), labels


def mask_message(stamp: int) -> RawMessage:
    time = message_class("builtin_interfaces/msg/Time")(sec=0, nanosec=stamp)
    header = message_class("std_msgs/msg/Header")(stamp=time, frame_id="camera")
    pixels = np.full(12, stamp, np.uint8)
    message = message_class(IMAGE)(header, 3, 4, "mono8", 0, 4, pixels)
    return RawMessage("/mask", IMAGE, stamp, serialize(message, IMAGE))


def many_chunks(folder: Path) -> Path:
    """Write 40 images of 100 kB, which fill several chunks of an mcap file."""
    random = np.random.default_rng(0)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/mask", IMAGE, typestore=STORE)
        for i in range(40):
            message = deserialize(mask_message(i + 1))
            message.height, message.width, message.step = 250, 400, 400
            message.data = random.integers(0, 256, 100_000).astype(np.uint8)
            writer.write(connection, i + 1, serialize(message, IMAGE))
    return next(folder.glob("*.mcap"))
