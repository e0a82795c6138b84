"""Malformed messages: the same seed gives the same ones everywhere."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.images import ENCODINGS
from seg_perception.messages import fill_image

Random = np.random.Generator

NAMES = (
    "", " ", "nan", "inf", "-1", "null", "%s%n%x", "rgb8 ", "RGB8", "rgb8; DROP", "../../passwd",
    "彩色", "\U0001f4f7" * 7, "rgb8\u202e8bgr", "\x1b[2J", "\n" * 50, "jpeg" * 30_000, "x" * 10**6,
    "16UC1", "32FC1", "64FC4", "rgb16", "bayer_rggb16", "8UC5", "8UC0", "mono16", "8SC3", "tiff",
)  # fmt: skip
EXTREMES = (0, 1, 2, 3, 255, 10_000, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
SECONDS = (-(2**31), -1, 0, 1, 2**31 - 1)
NANOSECONDS = (0, 1, 10**9 - 1, 10**9, 2**31, 2**32 - 1)


class Malformed(NamedTuple):
    """What is wrong, and a message, or bytes that pass for a serialised one."""

    kind: str
    message: Any


def raw_messages(seed: int, image: np.ndarray) -> Iterator[Malformed]:
    """Yield Images without end, made from `image`, uint8 (H,W,3) RGB."""
    yield from _messages(seed, RAW, lambda: fill_image(Image(), image, "rgb8", Image().header))


def compressed_messages(seed: int, image: np.ndarray) -> Iterator[Malformed]:
    """Yield CompressedImages without end, made from `image`, uint8 (H,W,3) RGB."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    files = {kind: cv2.imencode(f".{kind}", bgr)[1].tobytes() for kind in ("jpeg", "png")}
    files["webp"] = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()
    kinds = itertools.cycle(files)

    def good() -> CompressedImage:
        kind = next(kinds)
        return CompressedImage(format=kind, data=files[kind])

    yield from _messages(seed, COMPRESSED, good)


def camera_infos(seed: int) -> Iterator[Malformed]:
    """Yield CameraInfos without end."""
    yield from _messages(seed, INFO, CameraInfo)


def _messages(
    seed: int, table: dict[str, Callable[[Random, Any], Any]], good: Callable[[], Any]
) -> Iterator[Malformed]:
    random = np.random.default_rng(seed)
    kinds = list(table)
    while True:
        kind = kinds[random.integers(len(kinds))]
        yield Malformed(kind, table[kind](random, good()))


def _pick(random: Random, values: Any) -> Any:
    return values[random.integers(len(values))]


def _stamp(random: Random, message: Any) -> Any:
    message.header.stamp.sec = _pick(random, SECONDS)
    message.header.stamp.nanosec = _pick(random, NANOSECONDS)
    return message


def _frame(random: Random, message: Any) -> Any:
    message.header.frame_id = _pick(random, NAMES)
    return message


def _size(random: Random, message: Any) -> Any:
    message.height = _pick(random, (message.height, *EXTREMES))
    message.width = _pick(random, (message.width, *EXTREMES))
    return message


def _empty(random: Random, message: Any) -> Any:
    message.height = message.width = message.step = 0
    message.data = b"" if random.integers(2) else message.data
    return message


def _claim(random: Random, message: Any) -> Any:
    message.height = message.width = 10_000
    message.step = 10_000 * int(random.integers(5))
    return message


def _step(random: Random, message: Any) -> Any:
    message.step = _pick(random, (*EXTREMES, message.step - 1, message.step + 1))
    return message


def _data(random: Random, message: Any) -> Any:
    size = len(message.data)
    length = _pick(random, (0, 1, size - 1, size + 1, 2 * size, int(random.integers(size))))
    message.data = random.integers(0, 256, length).astype(np.uint8).tobytes()
    return message


def _encoding(random: Random, message: Any) -> Any:
    message.encoding = _pick(random, NAMES)
    return message


def _other_encoding(random: Random, message: Any) -> Any:
    message.encoding = _pick(random, list(ENCODINGS))
    message.is_bigendian = int(random.integers(256))
    message.width -= int(random.integers(2))
    message.height -= int(random.integers(2))
    return message


def _cdr(random: Random, message: Any) -> bytes:
    """Damage the head of the serialised message, where lengths stand, or cut it."""
    data = bytearray(serialize_message(message))
    if random.integers(2):
        return bytes(data[: random.integers(len(data))])
    for _ in range(random.integers(1, 8)):
        data[random.integers(min(64, len(data)))] = random.integers(256)
    return bytes(data)


def _noise(random: Random, message: Any) -> bytes:
    return random.integers(0, 256, random.integers(300)).astype(np.uint8).tobytes()


def _format(random: Random, message: Any) -> Any:
    message.format = _pick(random, NAMES)
    return message


def _cut(random: Random, message: Any) -> Any:
    message.data = message.data[: random.integers(len(message.data))]
    return message


def _flipped(random: Random, message: Any) -> Any:
    data = np.frombuffer(message.data, np.uint8).copy()
    data[random.integers(len(data), size=random.integers(1, 30))] ^= np.uint8(
        1 << random.integers(8)
    )
    message.data = data.tobytes()
    return message


def _flipped_head(random: Random, message: Any) -> Any:
    data = np.frombuffer(message.data, np.uint8).copy()
    data[random.integers(min(64, len(data)), size=4)] = random.integers(0, 256, 4)
    message.data = data.tobytes()
    return message


def _claimed(random: Random, message: Any) -> Any:
    """Claim 100 megapixels or none in the head of a file."""
    height, width = _pick(random, ((10_000, 10_000), (0, 0), (1, 65_535), (65_535, 65_535)))
    data = bytearray(message.data)
    if message.format == "jpeg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    elif message.format == "webp":  # 14 bits each
        claim = min(width, 0x3FFF) | min(height, 0x3FFF) << 16
        data[26:30] = claim.to_bytes(4, "little")
    else:
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    message.data = bytes(data)
    return message


def _segments(random: Random, message: Any) -> Any:
    """Begin a jpeg with very many segments, or with fill bytes."""
    message.data = b"\xff\xd8" + _pick(random, (b"\xff\xe0\0\2", b"\xff")) * 50_000
    return message


def _numbers(random: Random, message: Any) -> Any:
    odd = (float("nan"), float("inf"), -float("inf"), 1e308, -0.0, 5e-324)
    message.k = [_pick(random, odd) for _ in range(9)]
    message.p = [_pick(random, odd) for _ in range(12)]
    message.d = [_pick(random, odd) for _ in range(random.integers(10_000))]
    message.distortion_model = _pick(random, NAMES)
    message.binning_x = message.roi.width = _pick(random, EXTREMES)
    return message


RAW = {
    "size": _size, "empty": _empty, "100 megapixels": _claim, "step": _step, "data": _data,
    "encoding": _encoding, "another encoding": _other_encoding, "stamp": _stamp, "frame": _frame,
    "damaged CDR": _cdr, "noise": _noise,
}  # fmt: skip
COMPRESSED = {
    "truncated": _cut, "flipped bits": _flipped, "damaged head": _flipped_head,
    "claimed size": _claimed, "segments": _segments, "random data": _data, "format": _format,
    "stamp": _stamp, "frame": _frame, "damaged CDR": _cdr, "noise": _noise,
}  # fmt: skip
INFO = {
    "numbers": _numbers, "size": _size, "stamp": _stamp, "frame": _frame, "damaged CDR": _cdr,
    "noise": _noise,
}  # fmt: skip
