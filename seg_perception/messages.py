"""Messages from arrays and arrays from images; duck-typed, rclpy's and rosbags' both work.

Needs no ROS to import. What is wrong with a message is an ImageError that names it.
"""

import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.compressed import decompress
from seg_perception.errors import ImageError
from seg_perception.images import DecodedImage, check_size, encoding_of

FLOAT32 = 7  # of sensor_msgs/PointField
DEPTHS = {"32FC1": "f4", "16UC1": "u2"}  # metres, millimetres (REP-118)


def decode(message: Any) -> DecodedImage:
    """Return the image of an Image or a CompressedImage message, and its encoding."""
    if hasattr(message, "format"):
        return decompress(message)
    return DecodedImage(to_array(message), str(message.encoding))


def to_array(message: Any) -> NDArray[np.uint8]:
    """Return a view of an Image's pixels, uint8 (H,W) or (H,W,C), honouring `step`.

    nv12 and nv21 are (3H/2,W): rows of colour follow the image's, with the same step. Raises
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
            f"depth is {name[:40]!r}; send 32FC1 (m) or 16UC1 (mm), registered to the image"
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
