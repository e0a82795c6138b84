"""Messages from arrays and arrays from images; duck-typed, rclpy's and rosbags' both work.

Needs no ROS to import. What is wrong with a message is an ImageError that names it.
"""

import array
import struct
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ImageError
from seg_perception.images import encoding_of

MAX_PIXELS = 50_000_000  # larger claims are refused before anything is allocated
FLOAT32 = 7  # of sensor_msgs/PointField
COMPRESSED_FORMATS = ("jpeg", "jpg", "png")
DEPTHS = {"32FC1": "f4", "16UC1": "u2"}  # metres, millimetres (REP-118)


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
    _check_rows(message, shape[0], width * encoding.channels)
    data = np.frombuffer(message.data, np.uint8)
    strides = (step, 1) if len(shape) == 2 else (step, encoding.channels, 1)
    return np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False)


def to_depth(message: Any) -> NDArray[Any]:
    """Return a copy of a depth Image, (H,W): float32 in m or uint16 in mm, as the encoding says.

    Honours `step` and `is_bigendian`. Raises ImageError for another encoding, or a size, step or
    data length that cannot be.
    """
    name = str(message.encoding)
    if name not in DEPTHS:
        raise ImageError(
            f"depth is {name[:40]!r}; send 32FC1 (m) or 16UC1 (mm), registered to the picture"
        )
    height, width = int(message.height), int(message.width)
    check_size(height, width)
    kind = np.dtype(DEPTHS[name])
    _check_rows(message, height, width * kind.itemsize)
    sent = kind.newbyteorder(">" if message.is_bigendian else "<")
    strides = (int(message.step), kind.itemsize)
    rows = np.ndarray((height, width), sent, memoryview(message.data), strides=strides)
    return np.array(rows, kind)


def fill_image(message: Any, image: NDArray[Any], encoding: str, header: Any) -> Any:
    """Put a C-contiguous array (H,W[,C]) into an Image message with step == width; return it.

    The header is passed on unchanged.
    """
    image = np.ascontiguousarray(image)
    message.header = header
    message.height, message.width = image.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = image.strides[0]
    message.data = _array("B", image)
    return message


def fill_cloud(message: Any, points: NDArray[np.float32], header: Any, *, field: Any) -> Any:
    """Put float32 points, (N,3) or organised (H,W,3) x, y, z, into a PointCloud2; return it.

    `field` makes a PointField of keyword arguments. NaN in all three means that nothing is known
    of a point; the cloud is dense where none is.
    """
    points = np.ascontiguousarray(points, np.float32)
    message.header = header
    message.height, message.width = points.shape[:2] if points.ndim == 3 else (1, len(points))
    message.fields = [
        field(name=name, offset=4 * i, datatype=FLOAT32, count=1) for i, name in enumerate("xyz")
    ]
    message.is_bigendian = False
    message.point_step = 12
    message.row_step = 12 * message.width
    message.data = _array("B", points)
    message.is_dense = not bool(np.isnan(points).any())
    return message


def fill_grid(
    message: Any,
    cells: NDArray[np.int8],
    resolution: float,
    origin: tuple[float, float],
    header: Any,
) -> Any:
    """Put cells int8 (rows, columns), row = y, into an OccupancyGrid; return it.

    `origin` x, y, in metres, is the lower left corner of cell (0, 0) in the header's frame.
    """
    message.header = header
    info = message.info
    info.map_load_time = header.stamp
    info.resolution = float(resolution)
    info.height, info.width = cells.shape
    info.origin.position.x, info.origin.position.y = (float(n) for n in origin)
    info.origin.orientation.w = 1.0
    message.data = _array("b", np.ascontiguousarray(cells, np.int8))
    return message


def stamp_ns(header: Any) -> int:
    """Return a header's stamp in nanoseconds since the epoch of its clock."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _array(typecode: str, values: NDArray[Any]) -> "array.array[int]":
    """Return the bytes of a C-contiguous array as the one type of data that rclpy takes without
    walking over every byte in Python."""
    data = array.array(typecode)
    if values.size:  # a view of nothing cannot be cast
        data.frombytes(values.data.cast("B"))
    return data


def _decompress(message: Any) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) BGR of jpeg or png bytes."""
    kind = str(message.format)[:40]
    is_known = any(known in kind.lower() for known in COMPRESSED_FORMATS)
    if not is_known or "compresseddepth" in kind.lower():
        raise ImageError(
            f"compressed format {kind!r} is not supported; use jpeg or png "
            "(for compressedDepth subscribe to the raw picture)"
        )
    data = bytes(message.data)
    if not data:
        raise ImageError("the compressed picture is empty (0 bytes)")
    check_size(*_claimed_size(data))
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"a {kind!r} of {len(data)} bytes cannot be read: {error}") from None
    if image is None:
        raise ImageError(
            f"a {kind!r} of {len(data)} bytes cannot be read: truncated, or not a picture"
        )
    return np.asarray(image, np.uint8)


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) that a jpeg's or png's header claims, read without decoding it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    at = _jpeg_frame(data)
    if at is None:
        raise ImageError(
            "the compressed picture has no jpeg or png header: truncated, or another format"
        )
    # OpenCV 4.6, Ubuntu 24.04's, makes a picture of half a jpeg: the rest is noise.
    if data.find(b"\xff\xd9", at) < 0:
        raise ImageError(f"a jpeg of {len(data)} bytes ends before its picture does: truncated")
    height, width = struct.unpack_from(">HH", data, at + 3)
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


def _check_rows(message: Any, rows: int, row: int) -> None:
    """Raise ImageError when `rows` rows of `row` bytes do not fit step and data of an Image."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < row:
        raise ImageError(
            f"step {step} is less than {width} pixels of {message.encoding} need "
            f"({row} bytes): the camera driver fills the message wrongly"
        )
    size = memoryview(message.data).nbytes
    # The last row may end with its last pixel: padding behind it is not always sent.
    if size < step * (rows - 1) + row:
        raise ImageError(
            f"{size} bytes of data for {width}x{height} {message.encoding} with step {step} "
            f"(needs {step * rows}): the message is truncated"
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
