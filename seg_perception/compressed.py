"""Compressed images: what a CompressedImage's `format` says, read as image_transport reads it.

Source: compressed_subscriber.cpp and compressed_publisher.cpp of ros-perception's
image_transport_plugins. `format` is the encoding of the image, `;`, and how it was compressed, as
in `rgb8; jpeg compressed bgr8`; without `;` it names the compression alone. EXIF is not read: the
image, its mask and its CameraInfo are of one size.
"""

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ImageError
from seg_perception.images import DecodedImage, check_size

COMPRESSIONS = ("jpeg", "jpg", "png", "webp")
COLOR = ("rgb", "bgr", "rgba", "bgra")
BAYER = ("rggb", "bggr", "gbrg", "grbg")
# Encodings whose compressed image has three channels, and those where it has one.
COLOR_ENCODINGS = {f"{name}{bits}" for name in COLOR for bits in (8, 16)} | {"8UC3", "8UC4"}
MONO_ENCODINGS = {"mono8": "mono8", "mono16": "mono8", "8UC1": "mono8"} | {
    f"bayer_{name}{bits}": f"bayer_{name}8" for name in BAYER for bits in (8, 16)
}
# Of these, image_transport compresses the luma alone, as mono8.
YUV_ENCODINGS = ("yuv422", "yuv422_yuy2", "uyvy", "yuyv", "nv12", "nv21", "nv24")
ADVICE = "; use jpeg, png or webp (for compressedDepth subscribe to the raw image)"


def decompress(message: Any) -> DecodedImage:
    """Return the image of a CompressedImage, and the encoding of its channels.

    uint8 (H,W), (H,W,3) or (H,W,4); images of 16 bits are scaled to 8 as cv_bridge does it. Raises
    ImageError for a format or bytes that are no image, and where the two disagree.
    """
    name = str(message.format)
    shown = repr(name[:40])
    lower = name[:200].lower()
    if "compresseddepth" in lower or not any(known in lower for known in COMPRESSIONS):
        raise ImageError(f"compressed format {shown} is not supported{ADVICE}")
    encoding, separator, rest = (part.strip() for part in name.partition(";"))
    if separator:
        _check_encoding(encoding, shown)
    data = bytes(message.data)
    check_size(*_claimed_size(data))
    image = _read(data, shown)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype == np.uint16:
        image = _to_8_bits(image, encoding, shown)
    if not separator:
        return DecodedImage(image, {1: "mono8", 3: "bgr8", 4: "bgra8"}[channels])
    if channels == 1 and encoding in YUV_ENCODINGS:
        return DecodedImage(image, "mono8")
    if channels == 1 and encoding in MONO_ENCODINGS:
        return DecodedImage(image, MONO_ENCODINGS[encoding])
    if channels == 1 or encoding in MONO_ENCODINGS:
        raise ImageError(
            f"the format {shown} is of {'one channel' if encoding in MONO_ENCODINGS else 'colors'},"
            f" and its image has {channels}: correct the format of the publisher"
        )
    is_bgr = "compressed bgr" in rest or encoding in ("8UC3", "8UC4")
    return DecodedImage(image, f"{'bgr' if is_bgr else 'rgb'}{'a' if channels == 4 else ''}8")


def _check_encoding(encoding: str, shown: str) -> None:
    """Refuse an encoding that is no image: depth, floats, or a name that nobody knows."""
    known = COLOR_ENCODINGS | MONO_ENCODINGS.keys() | set(YUV_ENCODINGS)
    if encoding not in known:
        raise ImageError(
            f"the format {shown} says that the image was {encoding[:40]!r}, which is no image for "
            f"a camera; publish one of {', '.join(sorted(known))}"
        )


def _read(data: bytes, shown: str) -> NDArray[Any]:
    """Return what OpenCV reads, as it is stored: uint8 or uint16, one, three or four channels."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"a {shown} of {len(data)} bytes cannot be read: {error}") from None
    if image is None:
        raise ImageError(
            f"a {shown} of {len(data)} bytes cannot be read: truncated, or not an image"
        )
    if image.dtype not in (np.uint8, np.uint16) or (image.ndim == 3 and image.shape[2] == 2):
        raise ImageError(f"a {shown} holds {image.dtype} {image.shape}: publish 8 or 16 bits")
    return image


def _to_8_bits(image: NDArray[np.uint16], encoding: str, shown: str) -> NDArray[np.uint8]:
    """Return 16 bits as 8, the whole range to the whole range."""
    if not encoding.endswith("16"):
        raise ImageError(
            f"the format {shown} does not say what its 16 bits are, which may be depth; publish "
            "it as mono16 or rgb16, or with 8 bits"
        )
    return np.asarray(cv2.convertScaleAbs(image, alpha=255 / 65535), np.uint8)


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) that a file's header claims; ImageError where its end is missing."""
    if not data:
        raise ImageError("the compressed image is empty (0 bytes)")
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        kind, (width, height) = "png", struct.unpack_from(">II", data, 16)
        is_whole = data.find(b"IEND", 24) >= 0
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30:
        kind, (height, width) = "webp", _webp_size(data)
        is_whole = 8 + int.from_bytes(data[4:8], "little") <= len(data)
    else:
        at = _jpeg_frame(data)
        if at is None:
            raise ImageError(
                "the compressed image has no header of jpeg, png or webp: truncated, or another "
                "format"
            )
        kind, (height, width) = "jpeg", struct.unpack_from(">HH", data, at + 3)
        is_whole = data.find(b"\xff\xd9", at) >= 0
    # OpenCV makes an image of half a file: the rest is noise, or grey.
    if not is_whole:
        raise ImageError(f"a {kind} of {len(data)} bytes ends before its image does: truncated")
    return height, width


def _jpeg_frame(data: bytes) -> int | None:
    """Return where a jpeg's frame header (length, precision, height, width) begins."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a marker may have fill bytes before it
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return at + 2
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:  # it counts itself
            return None
        at += 2 + length
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a WebP (RFC 9649): lossy, lossless or extended."""
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    raise ImageError(f"a webp that begins with {chunk!r} is not known: publish jpeg or png")
