"""Recorded images that a player plays, without loss."""

from pathlib import Path

import cv2
import numpy as np

from seg_perception.bags.bag import BagWriter, RawMessage, message_class, serialize

IMAGES = "/camera/image/compressed"
KIND = "sensor_msgs/msg/CompressedImage"
START, PERIOD = 5_000_000_000, 100_000_000
COUNT = 8


def image_message(stamp: int, image: np.ndarray) -> RawMessage:
    """Return a recorded BGR image as PNG; `stamp` in ns."""
    time_of = message_class("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9))
    header = message_class("std_msgs/msg/Header")(time_of, "camera_optical")
    png = cv2.imencode(".png", image)[1].ravel()
    return RawMessage(IMAGES, KIND, stamp, serialize(message_class(KIND)(header, "png", png), KIND))


def write_png_bag(path: Path, image: np.ndarray) -> Path:
    """Write COUNT images, PERIOD ns apart."""
    with BagWriter(path) as writer:
        for i in range(COUNT):
            writer.write(image_message(START + i * PERIOD, image))
    return path
