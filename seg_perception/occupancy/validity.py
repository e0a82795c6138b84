"""Where the pixels of a camera show the ground, and how much they tell of it."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.occupancy.camera import (
    Camera,
    Ground,
    Pose,
    back_project,
    ground_points,
    range_limit,
)
from seg_perception.occupancy.column_scan import STANDING

# Measured points this near to the plane are ground: in m, and as a share of their distance.
FLAT, FLAT_SHARE = 0.10, 0.02
REACH = 2.5  # m; what hangs higher is in no robot's way


class Validity(NamedTuple):
    """How much the pixels of a camera tell of the ground, (H,W).

    `reachable`: their ground point lies within the range that counts. `share` float32: the
    part of a cell's area that they cover.
    """

    reachable: NDArray[np.bool_]
    share: NDArray[np.float32]


@lru_cache(maxsize=8)
def plane_validity(camera: Camera, pose: Pose, resolution: float, max_range: float) -> Validity:
    """Return what holds for every image of a camera that does not move on its robot."""
    ground = ground_points(camera, pose)
    limit = min(range_limit(camera, pose, resolution), max_range)
    offset = ground.points - np.asarray(ground.centre[:2], np.float32)
    with np.errstate(invalid="ignore"):
        reachable = np.asarray((offset * offset).sum(2) <= limit * limit, np.bool_)
    return Validity(reachable, ground.area / np.float32(resolution**2))


def measured(
    groups: NDArray[np.uint8],
    depth: NDArray[Any],
    camera: Camera,
    pose: Pose,
    *,
    resolution: float,
    max_range: float,
) -> tuple[Ground, Validity]:
    """Return the same of a depth image (H,W): float32 in m or uint16 in mm, along the optical z.

    Points of things are taken where they were measured, up to REACH m above the ground; others
    must lie on the plane z = 0 of base, so that a slope or a pit is not taken for ground.
    """
    local = back_project(camera, depth)
    points = local @ pose.rotation.T.astype(np.float32) + pose.translation.astype(np.float32)
    centre = ground_points(camera, pose).centre
    offset = points[..., :2] - np.asarray(centre[:2], np.float32)
    distance = np.sqrt((offset * offset).sum(2))
    height = points[..., 2]
    with np.errstate(invalid="ignore"):
        flat = np.abs(height) <= FLAT + FLAT_SHARE * distance
        stands = np.isin(groups, STANDING) & (height >= -FLAT) & (height <= REACH)
        reachable = np.asarray((flat | stands) & (distance <= max_range), np.bool_)
    # On the plane a pixel covers z^3 / (f_x f_y height of the camera).
    along = local[..., 2]
    area = along * along * along / np.float32(camera.fx * camera.fy * centre[2])
    ground = Ground(np.ascontiguousarray(points[..., :2]), area, centre)
    return ground, Validity(reachable, area / np.float32(resolution**2))
