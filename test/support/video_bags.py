"""Bags of video for tests, which PyAV makes of the bundled clip."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import av
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from seg_perception.bags.bag import (
    STORE,
    message_class,
    serialize,
)
from seg_perception.bags.bag_topics import VIDEO_TYPES
from seg_perception.bags.clip import bundled_images
from seg_perception.bags.frames import Frame
from seg_perception.bags.sources import BagSource
from seg_perception.errors import ImageError
from seg_perception.images import resized

FOXGLOVE, FFMPEG = VIDEO_TYPES
CLIP = Path(str(resources.files("seg_perception") / "clip"))
TOPIC, S = "/cam/video", 10**9
START, PERIOD, GOP = 1000 * S, S // 15, 5
# An encoder of FFmpeg, its options, a decoder of FFmpeg, and the words of the two messages.
CODECS = {
    "h264": ("libx264", {"tune": "zerolatency", "preset": "fast"}, "h264", "h264", "libx264"),
    "h264 with B-frames": ("libx264", {"preset": "fast", "bf": "2"}, "h264", "h264", "h264_nvenc"),
    "h264 with open groups": ("libx264", {"bf": "3", "x264-params": "open-gop=1"},
                              "h264", "h264", "h264_vaapi"),
    "h265": ("libx265", {"preset": "ultrafast", "tune": "zerolatency",
                         "x265-params": "log-level=none"},
             "hevc", "h265", "hevc;yuv420p;bgr8;bgr8"),
    "h265 with open groups": ("libx265", {"preset": "ultrafast",
                              "x265-params": "log-level=none:bframes=3:open-gop=1"},
                              "hevc", "h265", "hevc_nvenc"),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "vp9", "vp9", "libvpx-vp9"),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1:lookahead=0"},
            "libdav1d", "av1", "libsvtav1"),
}  # fmt: skip
REORDERED = [codec for codec in CODECS if " with " in codec]
NO_KEY = "the video has no key frame before it"
AFTER_DAMAGE = "the video is damaged here: it goes on at the next key frame"
MISSING = "packets are missing before it: the video goes on at the next key frame"
SCORES = ("miou", "per_class_iou", "pixel_accuracy", "flicker", "frames_in", "frames_out",
          "frames_scored")  # fmt: skip
IMAGE, CAMERA_INFO = "sensor_msgs/msg/Image", "/camera/camera_info"
Packet = tuple[int, bytes]  # the image's number, and its bytes


@cache
def clip_images() -> list[np.ndarray]:
    """Return 20 images of the bundled clip, BGR, small."""
    return [resized(image, (120, 160)) for image in bundled_images(101)[:20]]


def encoded(images: Sequence[np.ndarray], codec: str) -> list[Packet]:
    """Return a packet an image, in the order in which an encoder gives them."""
    name, options, *_ = CODECS[codec]
    return encode(images, name, options)


def encode(images: Sequence[np.ndarray], name: str, options: dict[str, str]) -> list[Packet]:
    """Return the packets of one of FFmpeg's encoders."""
    context = av.CodecContext.create(name, "w")
    context.height, context.width = images[0].shape[:2]
    context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 15), 15
    context.gop_size, context.options = GOP, options
    packets = []
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts = number
        packets += context.encode(frame)
    return [(int(p.pts), bytes(p)) for p in [*packets, *context.encode(None)]]


def decoded(packets: Sequence[Packet], codec: str) -> dict[int, np.ndarray]:
    """Return what FFmpeg by itself makes of packets, by number."""
    context = av.CodecContext.create(CODECS[codec][2], "r")
    found = {}
    for number, data in [*packets, (0, None)]:
        packet = None if data is None else av.Packet(data)
        if packet is not None:
            packet.pts = number
        found |= {f.pts: f.to_ndarray(format="bgr24") for f in context.decode(packet)}
    return found


def message(kind: str, codec: str, number: int, data: bytes) -> bytes:
    stamp = message_class("builtin_interfaces/msg/Time")(*divmod(START + number * PERIOD, S))
    content = np.frombuffer(data, np.uint8)
    if kind == FOXGLOVE:
        word = CODECS[codec][3] if codec in CODECS else codec
        return serialize(message_class(kind)(stamp, "camera_optical", content, word), kind)
    header = message_class("std_msgs/msg/Header")(stamp, "camera_optical")
    word = CODECS[codec][4] if codec in CODECS else codec
    made = message_class(kind)(header, 160, 120, word, number, 1, False, content)
    return serialize(made, kind)


def write_bag(
    folder: Path, packets: Sequence[Packet], codec: str, kind: str = FOXGLOVE,
    plugin: StoragePlugin = StoragePlugin.MCAP
) -> Path:  # fmt: skip
    """Write packets as they are recorded: one a period, in their order."""
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection(TOPIC, kind, typestore=STORE)
        for at, (number, data) in enumerate(packets):
            content = message(kind, codec, number, data)
            writer.write(connection, START + at * PERIOD + 1, content)
    return folder


def number_of(frame: Frame) -> int:
    return round((int(frame.key) - START) / PERIOD)


def read(source: BagSource, span: Any = None) -> dict[int, np.ndarray | str]:
    """Return each image by its number, or why there is none."""
    found: dict[int, np.ndarray | str] = {}
    for frame in source.frames(span):
        if frame.counted:
            try:
                found[number_of(frame)] = frame.image
            except ImageError as error:
                found[number_of(frame)] = str(error)
    return found


def assert_equal(found: dict[int, Any], right: dict[int, np.ndarray]) -> None:
    assert sorted(found) == sorted(right)
    for number, image in right.items():
        assert isinstance(found[number], np.ndarray), found[number]
        assert (found[number] == image).all(), number


def described(source: BagSource, span: Any = None) -> list[tuple[int, str]]:
    """Return the counted images in their order, each by number, with a digest or its problem."""
    found = []
    for frame in source.frames(span):
        if frame.counted:
            try:
                found.append((number_of(frame), sha256(frame.image.tobytes()).hexdigest()))
            except ImageError as error:
                found.append((number_of(frame), str(error)))
    return found
