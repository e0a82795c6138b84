"""Worlds whose truth is known: flat ground with coloured regions, boxes on it, and cameras."""

from dataclasses import dataclass

import numpy as np

from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.occupancy.camera import OPTICAL, Camera, Pose
from seg_perception.occupancy.mapper import Pose2D

OTHER, DRIVABLE, SIDEWALK, OBSTACLE, PERSON, VEHICLE, VEGETATION, SKY = range(len(GROUPS))


@dataclass(frozen=True)
class Box:
    """An upright box on the ground: x0, y0, x1, y1 and height in metres."""

    x0: float
    y0: float
    x1: float
    y1: float
    height: float
    group: int = OBSTACLE

    def hit(self, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Return how far along each ray (H,W,3) from `start` (3,) the box begins; inf for never."""
        low, high = np.array([self.x0, self.y0, 0.0]), np.array([self.x1, self.y1, self.height])
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (low - start) / rays, (high - start) / rays
        near, far = np.fmin(a, b).max(-1), np.fmax(a, b).min(-1)
        return np.where((near <= far) & (far > 0), np.maximum(near, 0), np.inf)


@dataclass(frozen=True)
class World:
    """Stripes of sidewalk and grass next to a road along x, with boxes on them."""

    boxes: tuple[Box, ...] = ()

    def ground(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the group of the ground at each point, uint8."""
        side = np.where(np.abs(y) < 2.03, DRIVABLE, np.where(y > 0, SIDEWALK, VEGETATION))
        crossing = (np.floor(x / 6.0) % 3 == 1) & (np.abs(y) < 2.03)
        return np.where(crossing, OTHER, side).astype(np.uint8)

    def is_one_group(self, x: np.ndarray, y: np.ndarray, size: float | np.ndarray) -> np.ndarray:
        """Return whether squares of ground around points, `size` m wide, are of one group."""
        corners = [
            self.ground(x + i * np.asarray(size) / 2, y + j * np.asarray(size) / 2)
            for i in (-1, 1)
            for j in (-1, 1)
        ]
        return np.asarray((np.stack(corners) == corners[0]).all(0))

    def image(self, camera: Camera, mount: Pose, robot: Pose2D) -> np.ndarray:
        """Return the group ids uint8 (H,W) that a camera on a robot sees."""
        return self.look(camera, mount, robot)[0]

    def look(self, camera: Camera, mount: Pose, robot: Pose2D) -> tuple[np.ndarray, np.ndarray]:
        """Return group ids uint8 (H,W) and depth float32 (H,W) along the optical z, inf for sky."""
        eye = Pose.from_rpy(robot.x, robot.y, 0.0, 0.0, 0.0, robot.yaw).compose(mount)
        rays = camera.rays().astype(np.float64) @ eye.rotation.T
        start = eye.translation
        with np.errstate(divide="ignore", invalid="ignore"):
            along = np.where(rays[..., 2] < 0, -start[2] / rays[..., 2], np.inf)
        seen = np.full(along.shape, SKY, np.uint8)
        hit = np.isfinite(along)
        points = start + np.where(hit, along, 0)[..., None] * rays
        seen[hit] = self.ground(points[..., 0], points[..., 1])[hit]
        nearest = along
        for box in self.boxes:
            distance = box.hit(start, rays)
            seen = np.where(distance < nearest, box.group, seen).astype(np.uint8)
            nearest = np.minimum(distance, nearest)
        seen[np.isnan(rays).any(-1)] = UNKNOWN
        return seen, (nearest * camera.rays()[..., 2]).astype(np.float32)


class Poses:
    """A pose source of the tests: one mount, and where the robot is now."""

    def __init__(self, mount: Pose, robot: Pose2D | None = None) -> None:
        self.mount, self.where = mount, robot

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        return self.mount

    def robot(self, stamp: int) -> Pose2D | None:
        return self.where


def mounted(*, height: float = 1.2, pitch: float = 0.3, yaw: float = 0.0, x: float = 0.0) -> Pose:
    """Return the pose of a camera's optical frame on the base; positive pitch looks down."""
    return Pose.from_rpy(x, 0.0, height, 0.0, pitch, yaw).compose(OPTICAL)


def pinhole(width: int = 640, height: int = 480, focal: float = 500.0) -> Camera:
    """Return a camera without distortion that looks through the middle of its image."""
    return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, "", (), (0, 0, 0))
