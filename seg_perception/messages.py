"""Image messages to arrays and back; duck-typed, so rclpy's and rosbags' messages both work.

Needs no ROS to import. What is wrong with a message is an ImageError that names it.
"""

import array
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ImageError
from seg_perception.images import encoding_of

MAX_PIXELS = 50_000_000  # larger claims are refused before anything is allocated
COMPRESSED_FORMATS = ("jpeg", "jpg", "png")


class Picture(NamedTuple):
    """A decoded picture: uint8 (H,W) or (H,W,C), and the encoding of its channels."""

    image: NDArray[np.uint8]
    encoding: str


def decode(message: Any) -> Picture:
    """Return the picture of an Image or a CompressedImage message (the latter as bgr8)."""
    if hasattr(message, "format"):
        return Picture(_decompress(message), "bgr8")
    return Picture(to_array(message), str(message.encoding))


def to_array(message: Any) -> NDArray[np.uint8]:
    """Return a view of an Image's pixels, uint8 (H,W) or (H,W,C), honouring `step`.

    nv12 and nv21 are (3H/2,W): rows of colour follow the picture's, with the same step. Raises
    ImageError for an encoding, size, step or data length that cannot be.
    """
    encoding = encoding_of(message.encoding)
    height, width, step = int(message.height), int(message.width), int(message.step)
    check_size(height, width)
    shape = encoding.shape(height, width)
    row = width * encoding.channels
    if step < row:
        raise ImageError(
            f"step {step} is less than {width} pixels of {message.encoding} need "
            f"({row} bytes): the camera driver fills the message wrongly"
        )
    data = np.frombuffer(message.data, np.uint8)
    # The last row may end with its last pixel: padding behind it is not always sent.
    if data.size < step * (shape[0] - 1) + row:
        raise ImageError(
            f"{data.size} bytes of data for {width}x{height} {message.encoding} with step {step} "
            f"(needs {step * shape[0]}): the message is truncated"
        )
    strides = (step, 1) if len(shape) == 2 else (step, encoding.channels, 1)
    return np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False)


def fill_image(message: Any, image: NDArray[Any], encoding: str, header: Any) -> Any:
    """Put a C-contiguous array (H,W[,C]) into an Image message with step == width; return it.

    The header is passed on unchanged. An array.array is the only data type that rclpy takes
    without walking over every byte in Python.
    """
    image = np.ascontiguousarray(image)
    data = array.array("B")
    data.frombytes(image.data.cast("B"))
    message.header = header
    message.height, message.width = image.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = image.strides[0]
    message.data = data
    return message


def stamp_ns(header: Any) -> int:
    """Return a header's stamp in nanoseconds since the epoch of its clock."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _decompress(message: Any) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) BGR of jpeg or png bytes."""
    kind = str(message.format).lower()
    if not any(known in kind for known in COMPRESSED_FORMATS):
        raise ImageError(
            f"compressed format {message.format!r} is not supported; use jpeg or png "
            "(for compressedDepth subscribe to the raw picture)"
        )
    data = np.frombuffer(message.data, np.uint8)
    if data.size == 0:
        raise ImageError("the compressed picture is empty (0 bytes)")
    check_size(*_claimed_size(data))
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(
            f"a {message.format} of {data.size} bytes cannot be read: {error}"
        ) from None
    if image is None:
        raise ImageError(
            f"a {message.format} of {data.size} bytes cannot be read: truncated, or not a picture"
        )
    return np.asarray(image, np.uint8)


def _claimed_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Return (height, width) that a jpeg's or png's header claims, read without decoding it."""
    raw = data[:65536].tobytes()
    if raw.startswith(b"\x89PNG\r\n\x1a\n") and len(raw) >= 24:
        return int.from_bytes(raw[20:24], "big"), int.from_bytes(raw[16:20], "big")
    at = 2
    while raw.startswith(b"\xff\xd8") and at + 9 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        is_frame = 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
        if is_frame:  # a frame header: precision, height, width
            return (
                int.from_bytes(raw[at + 5 : at + 7], "big"),
                int.from_bytes(raw[at + 7 : at + 9], "big"),
            )
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    raise ImageError(
        "the compressed picture has no jpeg or png header: truncated, or another format"
    )


def check_size(height: int, width: int) -> None:
    """Raise ImageError for an empty picture, or one that claims more than MAX_PIXELS."""
    if height < 1 or width < 1:
        raise ImageError(f"the picture is {width}x{height}: empty")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"the picture claims {width}x{height}, more than {MAX_PIXELS} pixels; reduce it "
            "before segmentation"
        )
