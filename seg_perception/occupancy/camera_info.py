"""What CameraInfo says of a camera, checked: only a possible one passes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import GeometryError

Floats = NDArray[np.float64]

# Limits of what a calibration can be, in longer sides of the image, images and metres.
LONGEST_FOCAL = 20.0
SHORTEST_FOCAL = 0.01
FARTHEST_CENTRE = 2.0
LONGEST_OFFSET = 10.0


def window(info: Any, size: tuple[int, int], rectified: bool) -> tuple[int, int, int, int]:
    """Return left, top, binning_x, binning_y of the image in the full one (REP-104)."""
    width, height, roi = int(info.width), int(info.height), info.roi
    step_x, step_y = max(int(info.binning_x), 1), max(int(info.binning_y), 1)
    left, top, wide, high = (int(n) for n in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    if not any((left, top, wide, high)):
        wide, high = width, height
    if min(left, top) < 0 or min(wide, high) < 1 or left + wide > width or top + high > height:
        raise GeometryError(
            f"ROI {wide}x{high} at ({left}, {top}) of an image of {width}x{height}: correct roi, "
            "width and height of CameraInfo"
        )
    if rectified and roi.do_rectify and (wide, high) != (width, height):
        raise GeometryError(
            f"the rectified image's own ROI is not known, only the raw one of {wide}x{high}: "
            "publish the raw image, or the full one"
        )
    expected = (high // step_y, wide // step_x)
    if expected != tuple(size):
        raise GeometryError(
            f"CameraInfo is of an image of {expected[1]}x{expected[0]}, the mask is "
            f"{size[1]}x{size[0]}: publish the CameraInfo of the image that is segmented"
        )
    return left, top, step_x, step_y


def check_intrinsics(name: str, matrix: Floats, width: int, height: int, *, p: Any) -> None:
    """Refuse intrinsics (3,3+) that no camera of a full image of width x height has.

    `p` is P of CameraInfo: where it holds what K lacks, the images are rectified.
    """
    fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    if name == "K" and not matrix.any() and np.any(p):
        raise GeometryError(
            "K is zero and P is not: the camera says that its images are rectified; set the "
            "parameter rectified to true, or give --rectified"
        )
    if not matrix[:, :3].any():
        raise GeometryError(f"{name} is zero: the camera is not calibrated, calibrate it first")
    side = max(width, height)
    if not (SHORTEST_FOCAL * side <= min(fx, fy) and max(fx, fy) <= LONGEST_FOCAL * side):
        raise GeometryError(
            f"{name} has focal lengths {fx}, {fy} for {width}x{height} pixels: calibrate again"
        )
    if not all(
        -FARTHEST_CENTRE * n <= c <= (1 + FARTHEST_CENTRE) * n
        for c, n in ((cx, width), (cy, height))
    ):
        raise GeometryError(
            f"{name} has its principal point ({cx}, {cy}) far outside {width}x{height} pixels: "
            "calibrate again"
        )
    plain = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if np.abs(matrix[:, :3] - plain).max() > 1e-6:
        raise GeometryError(f"{name} = {matrix.tolist()} is no pinhole without skew: correct it")


def offset(matrix: Floats) -> tuple[float, float, float]:
    """Return -K^-1 t of P = (K t) (3,4): where its rays start, in metres."""
    x, y, z = (-np.linalg.solve(matrix[:, :3], matrix[:, 3])).tolist()
    if max(abs(x), abs(y), abs(z)) > LONGEST_OFFSET:
        raise GeometryError(
            f"P moves the camera by ({x}, {y}, {z}) m: give its fourth column in pixels x metres"
        )
    return x, y, z


def vector(name: str, values: Any, count: int) -> Floats:
    """Return `count` finite numbers."""
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"{name} = {values!r} is not {count} numbers: correct it") from error
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise GeometryError(f"{name} = {numbers.tolist()} is not {count} finite numbers")
    return numbers


def rotation(name: str, values: Any) -> Floats:
    """Return a rotation (3,3)."""
    matrix = vector(name, np.reshape(values, -1), 9).reshape(3, 3)
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > 1e-4 or np.linalg.det(matrix) < 0:
        raise GeometryError(f"{name} = {matrix.tolist()} does not turn, it deforms: correct it")
    return matrix
