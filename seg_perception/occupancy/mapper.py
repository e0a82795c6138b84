"""From label images to per-class occupancy: one orchestrator for the node, bags and the demo."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import GeometryError
from seg_perception.labels import GROUPS
from seg_perception.occupancy import camera, column_scan, costmap_set, grid
from seg_perception.occupancy.camera import OPTICAL, Camera, Ground, Pose, ground_points
from seg_perception.occupancy.column_scan import NONE, Seen, columns_of, scan_columns
from seg_perception.occupancy.costmap_set import CostmapSet, reduce
from seg_perception.occupancy.grid import EvidenceGrid
from seg_perception.occupancy.settings import LETHAL, Settings
from seg_perception.occupancy.validity import Validity, measured, plane_validity

NANO = 1e-9


class Pose2D(NamedTuple):
    """Where the base is in odom: metres and radians."""

    x: float
    y: float
    yaw: float


class PoseSource(Protocol):
    """Where cameras and robot are; GeometryError says why that is not known."""

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        """Return the pose that takes points of the optical `frame` into the base frame."""
        ...

    def robot(self, stamp: int) -> Pose2D | None:
        """Return where the base is in odom at `stamp` (ns), None where there is no odometry."""
        ...


class LabelFrame(NamedTuple):
    """A label image: group ids (H,W) and confidence (H,W) or None, with camera, frame, time.

    `depth` (H,W), where there is some, is registered to it: float32 in m or uint16 in mm.
    """

    groups: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None
    camera: Camera
    name: str
    frame: str
    stamp: int  # nanoseconds
    depth: NDArray[Any] | None = None


class Result(NamedTuple):
    """What one look showed. Points are in the base frame, z = 0.

    `contacts` float32 (n,2) with `contact_groups` uint8 (n,): where things touch the ground. `free`
    float32 (m,2): the far ends of free rays. `reduced` is the set for Nav2's semantic layer.
    """

    contacts: NDArray[np.float32]
    contact_groups: NDArray[np.uint8]
    free: NDArray[np.float32]
    reduced: CostmapSet

    def lethal(self, costs: Mapping[str, int]) -> NDArray[np.float32]:
        """Return the contacts of groups that no robot may touch, float32 (k,2)."""
        is_lethal = np.array([costs.get(name, 0) >= LETHAL for name in GROUPS])
        return np.asarray(self.contacts[is_lethal[self.contact_groups]], np.float32)


class Mapper:
    """Keeps the evidence of a rolling window around the robot."""

    def __init__(self, settings: Settings, poses: PoseSource) -> None:
        """Allocate the grid and compile what the first image would wait for."""
        self.settings = settings
        self.grid = EvidenceGrid(
            resolution=settings.resolution,
            width=settings.width,
            height=settings.height,
            half_life=settings.half_life,
        )
        self.newest: int | None = None  # stamp of the newest look, ns
        self.restarts = 0  # how often time jumped back
        self.in_odom = False
        self._poses = poses
        for module in (camera, grid, costmap_set, column_scan):
            module.warm_up()

    def update(self, look: LabelFrame) -> Result:
        """Add one look to the map; GeometryError says why it cannot, and nothing changes then."""
        # 1. Where the camera and the robot were when the image was taken.
        camera_pose = self._poses.camera(look.name, look.frame, look.stamp)
        robot = self._poses.robot(look.stamp)
        # 2. The ground under every pixel: measured, or as far as a row of pixels covers less than a
        # cell.
        ground, trust = self._ground(look, camera_pose)
        # 3. What each direction shows: ground, the first thing that stands on it, nothing behind.
        sweeps = columns_of(look.camera, camera_pose)
        seen = scan_columns(
            look.groups, trust.reachable, sweeps, min_pixels=self.settings.min_pixels
        )
        # 4. The window follows the robot, and evidence ages to the time of the image.
        self._advance(look.stamp, robot)
        # 5. New evidence: ground by area and confidence, contacts as full looks.
        place = robot or Pose2D(0.0, 0.0, 0.0)
        result = self._collect(look, seen, ground, camera_pose)
        self._add(look, seen, ground, trust.share, place, result)
        return result

    def costs(self) -> NDArray[np.int8]:
        """Return one grid for a planner, int8 (rows, columns): -1 unknown, 0..100."""
        return self.grid.cost([self.settings.costs.get(name, 0) for name in GROUPS])

    def _ground(self, look: LabelFrame, pose: Pose) -> tuple[Ground, Validity]:
        resolution, max_range = self.settings.resolution, self.settings.max_range
        if look.depth is not None:
            return measured(
                look.groups, look.depth, look.camera, pose,
                resolution=resolution, max_range=max_range,
            )  # fmt: skip
        return ground_points(look.camera, pose), plane_validity(
            look.camera, pose, resolution, max_range
        )

    def _advance(self, stamp: int, robot: Pose2D | None) -> None:
        if self.in_odom != (robot is not None):
            self.grid.clear()  # evidence of another frame means nothing in this one
            self.in_odom = robot is not None
        if self.newest is not None and (self.newest - stamp) * NANO > self.settings.max_jump:
            self.grid.clear()
            self.newest = None
            self.restarts += 1
        if self.newest is not None and stamp > self.newest:
            self.grid.decay((stamp - self.newest) * NANO)
        self.newest = stamp if self.newest is None else max(stamp, self.newest)
        self.grid.recentre(*(robot[:2] if robot else (0.0, 0.0)))

    def _collect(self, look: LabelFrame, seen: Seen, ground: Ground, camera_pose: Pose) -> Result:
        contacts = seen.contact[seen.contact != NONE]
        points = ground.points.reshape(-1, 2)
        return Result(
            points[contacts],
            look.groups.reshape(-1)[contacts],
            points[seen.free[seen.free != NONE]],
            reduce(look.groups, look.confidence, seen, ground, camera_pose.inverse()),
        )

    def _add(
        self,
        look: LabelFrame,
        seen: Seen,
        ground: Ground,
        share: NDArray[np.float32],
        place: Pose2D,
        result: Result,
    ) -> None:
        sure = np.ones(len(result.contacts), np.float32)
        if look.confidence is not None:
            share = share * (look.confidence * np.float32(1 / 255))
            contacts = seen.contact[seen.contact != NONE]
            sure = look.confidence.reshape(-1)[contacts] * np.float32(1 / 255)
        self.grid.add(ground.points, seen.ground, share, place)
        self.grid.add_contacts(result.contacts, result.contact_groups, sure, place)


def raised(
    points: NDArray[np.float32], *, low: float, high: float, step: float
) -> NDArray[np.float32]:
    """Return (n*k,3): each ground point (n,2) as a column of k points, `low` to `high` metres."""
    check_columns(low=low, high=high, step=step)
    heights = np.arange(low, high + step / 2, step, dtype=np.float32)
    column = np.empty((len(points), len(heights), 3), np.float32)
    column[..., :2] = points[:, None]
    column[..., 2] = heights
    return column.reshape(-1, 3)


def check_columns(*, low: float, high: float, step: float) -> None:
    """Raise GeometryError for heights in metres that are none of a column above the ground."""
    if not (np.isfinite([low, high, step]).all() and 0 <= low <= high and step > 0):
        raise GeometryError(
            f"columns from {low} to {high} m in steps of {step} m make no sense; give "
            "0 <= low <= high and a step above 0"
        )


class StillCamera:
    """A pose source without ROS: a camera that is fixed to a robot that stands still.

    `mount` takes the camera's body axes (x forward, y left, z up) into base.
    """

    def __init__(self, mount: Pose) -> None:
        self._pose = mount.compose(OPTICAL)

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        """Return the pose of the optical frame in base."""
        return self._pose

    def robot(self, stamp: int) -> Pose2D | None:
        """Return None: there is no odometry."""
        return None
