"""Cameras: which ray each pixel looks along, and where that ray meets the ground.

Frames: optical (x right, y down, z forward), body (the camera's x forward, y left, z up), base
(x forward, y left, z up; the ground is its plane z = 0). Metres, radians, pixels; pixel (u, v) has
its centre at the integers. What cannot be seen or is not defined is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.decoding.cells import compiled
from seg_perception.errors import GeometryError
from seg_perception.occupancy import camera_info, distortion

Floats = NDArray[np.float64]

# A ray is used where it returns to its pixel this well.
TOLERANCE = 1e-3
# Rays closer than this to the horizon, or to the plane z = 0 of the camera, count as beyond it.
GRAZING = 1e-6
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Camera:
    """The geometry of an image as published: pinhole, lens and the optical frame's place in it.

    `coefficients` are D of `model` ("" is no distortion). Rays start at `origin` in the optical
    frame; `rotation` (3x3, row by row) turns the axes of this image's pinhole into the frame's.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = ""
    coefficients: tuple[float, ...] = ()
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, ...] = IDENTITY

    def __post_init__(self) -> None:
        """Refuse what no camera is."""
        if self.width < 1 or self.height < 1:
            raise GeometryError(f"an image of {self.width}x{self.height} pixels: wait for one")
        intrinsics = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(intrinsics).all() or min(self.fx, self.fy) <= 0:
            raise GeometryError(f"intrinsics fx, fy, cx, cy = {intrinsics}: calibrate the camera")
        camera_info.vector("camera origin", self.origin, 3)
        camera_info.rotation("camera rotation", self.rotation)
        model, coefficients = distortion.check(self.model, self.coefficients)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "coefficients", coefficients)

    @classmethod
    def from_info(cls, info: Any, size: tuple[int, int], *, rectified: bool = False) -> "Camera":
        """Read a sensor_msgs/CameraInfo for an image of `size` (height, width).

        `rectified` takes P and no distortion, else K and D. K and P are of the full image and
        follow its ROI and binning (REP-104). roi.do_rectify speaks of the ROI alone and never says
        that an image is rectified. The frame is that of the rectified image, as in
        image_geometry, so the rays of a raw one are turned by R. P's fourth column (an image
        in another camera's frame, in m x pixels) moves the rays' origin to -K^-1 P[:, 3].
        """
        if info is None:
            raise GeometryError("no CameraInfo yet: publish camera_info next to the image")
        name = "P" if rectified else "K"
        matrix = camera_info.vector(name, info.p if rectified else info.k, 12 if rectified else 9)
        matrix = matrix.reshape(3, -1)
        left, top, step_x, step_y = camera_info.window(info, size, rectified)
        camera_info.check_intrinsics(name, matrix, int(info.width), int(info.height), p=info.p)
        x, y, z = camera_info.offset(matrix) if rectified else (0.0, 0.0, 0.0)
        turn = np.zeros(9) if rectified else camera_info.vector("R", info.r, 9)
        return cls(
            width=size[1],
            height=size[0],
            fx=float(matrix[0, 0] / step_x),
            fy=float(matrix[1, 1] / step_y),
            cx=float((matrix[0, 2] - left) / step_x),
            cy=float((matrix[1, 2] - top) / step_y),
            model="" if rectified else str(info.distortion_model),
            coefficients=() if rectified else tuple(info.d),
            origin=(x, y, z),
            # A camera that is no half of a stereo pair may leave R zero.
            rotation=tuple(turn.tolist()) if turn.any() else IDENTITY,
        )

    def rays(self) -> NDArray[np.float32]:
        """Return each pixel's ray (H,W,3) in the optical frame, read-only and kept.

        z is 1 where the ray goes forward, else the length is 1; NaN where the distortion cannot be
        inverted.
        """
        return _optics(self)[0]


@dataclass(frozen=True, eq=False)
class Pose:
    """A frame's place in its parent: parent point = rotation (3,3) @ point + translation (3,)."""

    rotation: Floats
    translation: Floats

    def __post_init__(self) -> None:
        """Keep read-only copies of a proper rotation and a finite translation."""
        for name, value in (
            ("rotation", camera_info.rotation("rotation", self.rotation)),
            ("translation", camera_info.vector("translation", self.translation, 3)),
        ):
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pose) and self._bytes() == other._bytes()

    def __hash__(self) -> int:
        return hash(self._bytes())

    def _bytes(self) -> bytes:
        return self.rotation.tobytes() + self.translation.tobytes()

    @classmethod
    def from_rpy(
        cls, x: float, y: float, z: float, roll: float, pitch: float, yaw: float
    ) -> "Pose":
        """Turn by Rz(yaw) Ry(pitch) Rx(roll): positive pitch makes a camera body look down."""
        camera_info.vector("x, y, z, roll, pitch, yaw", (x, y, z, roll, pitch, yaw), 6)
        (cr, cp, cw), (sr, sp, sw) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
        rotation = [
            [cw * cp, cw * sp * sr - sw * cr, cw * sp * cr + sw * sr],
            [sw * cp, sw * sp * sr + cw * cr, sw * sp * cr - cw * sr],
            [-sp, cp * sr, cp * cr],
        ]
        return cls(np.array(rotation), np.array([x, y, z], np.float64))

    @classmethod
    def from_quaternion(cls, translation: Sequence[float], quaternion: Sequence[float]) -> "Pose":
        """Turn by a quaternion (x, y, z, w) of any length but zero."""
        numbers = camera_info.vector("quaternion x, y, z, w", quaternion, 4)
        length = float(np.linalg.norm(numbers))
        if not 1e-6 < length < 1e6:
            raise GeometryError(f"quaternion {numbers} has length {length}: send a unit quaternion")
        x, y, z, w = numbers / length
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        return cls(np.array(rotation), camera_info.vector("translation", translation, 3))

    def compose(self, child: "Pose") -> "Pose":
        """Return the place of `child`'s frame, given in this frame, in this frame's parent."""
        return Pose(self.rotation @ child.rotation, self.apply(child.translation))

    def inverse(self) -> "Pose":
        """Return the parent's place in this frame."""
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)

    def apply(self, points: ArrayLike) -> Floats:
        """Return points (...,3) of this frame in the parent."""
        return np.asarray(points, np.float64) @ self.rotation.T + self.translation


# The optical frame in the axes of the camera body.
OPTICAL = Pose(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))


class Ground(NamedTuple):
    """Where pixels see the ground; NaN above the horizon and where there is no ray.

    `area` is the derivative at the pixel's centre: beyond range_limit it says less than the pixel
    covers. `centre` x, y, z is the point where the rays start.
    """

    points: NDArray[np.float32]  # H W 2: x, y in base
    area: NDArray[np.float32]  # H W: m^2 that the pixel covers
    centre: tuple[float, float, float]  # in base


def project(camera: Camera, points: ArrayLike) -> Floats:
    """Return the pixels (...,2) u, v of points (...,3) in the optical frame; NaN where unseen.

    A flat lens sees nothing behind it, and none what lies beyond the turn of its distortion.
    """
    rotation = np.reshape(camera.rotation, (3, 3))
    local = (np.asarray(points, np.float64) - camera.origin) @ rotation
    plane = distortion.distort(camera.model, camera.coefficients, local)
    return plane * (camera.fx, camera.fy) + (camera.cx, camera.cy)


@lru_cache(maxsize=4)
def ground_points(camera: Camera, pose: Pose) -> Ground:
    """Meet each pixel's ray with the plane z = 0 of base; `pose` is the optical frame in base.

    The pose of a body with roll, pitch and yaw is Pose.from_rpy(...).compose(OPTICAL).
    """
    centre = _centre(camera, pose)
    rays, spread = _optics(camera)
    points = np.empty((camera.height, camera.width, 2), np.float32)
    area = np.empty((camera.height, camera.width), np.float32)
    if not _meet(rays, spread, pose.rotation, centre, points, area):
        raise GeometryError(
            f"the camera at height {centre[2]:.2f} m sees no ground, it looks above the horizon: "
            "check its pitch (positive looks down) and its frame"
        )
    points.setflags(write=False)
    area.setflags(write=False)
    return Ground(points, area, (float(centre[0]), float(centre[1]), float(centre[2])))


def range_limit(camera: Camera, pose: Pose, cell: float) -> float:
    """Return the range, in m on the ground from the camera's foot, where a row covers a cell.

    One row of pixels covers range^2 / (height x focal) m: it is sqrt(cell x height x focal).
    """
    if not (np.isfinite(cell) and cell > 0):
        raise GeometryError(f"cells of {cell} m: choose a resolution above 0")
    return float(np.sqrt(cell * _centre(camera, pose)[2] * camera.fy))


def back_project(camera: Camera, depth: NDArray[Any]) -> NDArray[np.float32]:
    """Return the points (H,W,3) of a depth image in the optical frame, in m (REP-118).

    `depth` (H,W) along z: float32 in m or uint16 in mm; 0, negative, infinite and NaN give NaN.
    """
    if depth.shape != (camera.height, camera.width):
        raise GeometryError(
            f"a depth image of shape {depth.shape} for a camera of {camera.height} rows and "
            f"{camera.width} columns: register it to the image"
        )
    if depth.dtype not in (np.float32, np.uint16):
        raise GeometryError(f"depth of {depth.dtype}: send float32 in m or uint16 in mm")
    points = np.empty((*depth.shape, 3), np.float32)
    unit = np.float32(0.001 if depth.dtype == np.uint16 else 1)
    _lift(camera.rays(), depth, unit, np.array(camera.origin, np.float32), points)
    return points


def warm_up() -> None:
    """Compile what the first image would wait for."""
    camera = Camera(1, 1, 1.0, 1.0, 0.0, 0.0)
    ground_points(camera, Pose.from_rpy(0.0, 0.0, 1.0, 0.0, 1.0, 0.0).compose(OPTICAL))
    for kind in (np.float32, np.uint16):
        back_project(camera, np.ones((1, 1), kind))


@lru_cache(maxsize=8)
def _optics(camera: Camera) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rays (H,W,3) and det(ray, its derivatives along u and v) (H,W), read-only."""
    v, u = np.mgrid[: camera.height, : camera.width].reshape(2, -1)
    plane = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy], axis=-1)
    tolerance = TOLERANCE / max(camera.fx, camera.fy)
    rays, spread = distortion.undistort(
        camera.model, camera.coefficients, plane, tolerance=tolerance
    )
    if camera.rotation != IDENTITY:
        rays = rays @ np.reshape(camera.rotation, (3, 3)).T
    length = np.linalg.norm(rays, axis=-1)
    scale = 1 / np.where(rays[:, 2] > GRAZING * length, rays[:, 2], length)
    # Stretching a ray by s stretches both derivatives too: the determinant grows by s^3.
    spread = spread * scale**3 / (camera.fx * camera.fy)
    shape = (camera.height, camera.width)
    result = (
        (rays * scale[:, None]).astype(np.float32).reshape(*shape, 3),
        spread.astype(np.float32).reshape(shape),
    )
    for array in result:
        array.setflags(write=False)
    return result


@compiled
def _meet(rays: Any, spread: Any, rotation: Any, centre: Any, points: Any, area: Any) -> int:
    """Write where rays meet z = 0 and the area a pixel has there; return how many do."""
    found = 0
    for v in range(rays.shape[0]):
        for u in range(rays.shape[1]):
            x, y, z = rays[v, u, 0], rays[v, u, 1], rays[v, u, 2]
            down = -(rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z)
            meets = down > GRAZING * np.sqrt(x * x + y * y + z * z)  # never of a NaN
            t = centre[2] / down if meets else np.nan
            forward = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
            left = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z
            points[v, u, 0] = centre[0] + t * forward
            points[v, u, 1] = centre[1] + t * left
            area[v, u] = t * t * spread[v, u] / down
            found += meets
    return found


@compiled
def _lift(rays: Any, depth: Any, unit: Any, origin: Any, points: Any) -> None:
    """Write the point at each pixel's depth, in units of `unit` metres."""
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            z = depth[v, u] * unit
            known = z > 0 and z < np.inf and rays[v, u, 2] > 0
            for axis in range(3):
                point = origin[axis] + z * rays[v, u, axis]
                points[v, u, axis] = point if known else np.nan


def _centre(camera: Camera, pose: Pose) -> Floats:
    """Return where the camera's rays start, in base; refuse one that is not above the ground."""
    centre = pose.apply(camera.origin)
    if centre[2] <= 0:
        raise GeometryError(
            f"the camera is at height {centre[2]:.3f} m, not above the ground: correct its pose "
            "in the base frame, whose plane z = 0 is the ground"
        )
    return centre
