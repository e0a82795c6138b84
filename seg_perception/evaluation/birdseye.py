"""The map from above, as pictures: what the mapper knows around the robot, its heading upwards."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import FONT
from seg_perception.labels import GROUP_COLOURS, GROUPS
from seg_perception.occupancy.camera import OPTICAL, Pose
from seg_perception.occupancy.mapper import Mapper, Planar
from seg_perception.occupancy.odometry import Odometry

Picture = NDArray[np.uint8]

NEVER_SEEN = 28  # grey
RING = 5.0  # metres between range rings
WHITE = (255, 255, 255)


class View(NamedTuple):
    """What of the ground is drawn, in metres from the robot; `height` in pixels."""

    ahead: float = 12.0
    behind: float = 1.0
    side: float = 6.5
    height: int = 360

    @property
    def scale(self) -> float:
        """Pixels a metre."""
        return self.height / (self.ahead + self.behind)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return round(2 * self.side * self.scale)


class StillCamera:
    """A pose source without ROS: a camera that is fixed to the robot, and odometry if there is any.

    `mount` takes the camera's body axes (x forward, y left, z up) into base.
    """

    def __init__(self, mount: Pose, odometry: Odometry | None = None) -> None:
        self._pose, self._odometry = mount.compose(OPTICAL), odometry

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        """Return the pose of the optical frame in base."""
        return self._pose

    def robot(self, stamp: int) -> Planar | None:
        """Return where the robot was, None without odometry."""
        return None if self._odometry is None else self._odometry.at(stamp)


def draw_map(mapper: Mapper, robot: Planar | None, view: View) -> Picture:
    """Return uint8 (H,W,3) BGR: each cell in the colour of the group that decides it."""
    groups = mapper.grid.deciding()
    height, width = groups.shape
    rows, columns = _cells_under(mapper, robot or Planar(0.0, 0.0, 0.0), view)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    seen = np.where(inside, groups[rows.clip(0, height - 1), columns.clip(0, width - 1)], -1)
    colours = np.full((256, 3), NEVER_SEEN, np.uint8)
    colours[: len(GROUPS)] = np.array(GROUP_COLOURS)[:, ::-1]
    picture = np.ascontiguousarray(colours[seen.astype(np.uint8)])  # -1 becomes 255
    return _annotate(picture, [g for g in range(len(GROUPS)) if (seen == g).any()], view)


def _cells_under(
    mapper: Mapper, robot: Planar, view: View
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of the grid's cell under each pixel of the view."""
    down, across = np.mgrid[0 : view.height, 0 : view.width].astype(np.float64)
    forward = view.ahead - (down + 0.5) / view.scale
    left = view.side - (across + 0.5) / view.scale
    turned, shifted = np.cos(robot.yaw), np.sin(robot.yaw)
    x = robot.x + turned * forward - shifted * left
    y = robot.y + shifted * forward + turned * left
    x0, y0 = mapper.grid.origin
    cell = mapper.settings.resolution
    rows, columns = np.floor((y - y0) / cell), np.floor((x - x0) / cell)
    return rows.astype(np.int64), columns.astype(np.int64)


def _annotate(picture: Picture, groups: list[int], view: View) -> Picture:
    middle = (round(view.width / 2), round(view.ahead * view.scale))
    for distance in np.arange(RING, view.ahead + 1e-6, RING):
        radius = round(distance * view.scale)
        cv2.circle(picture, middle, radius, (90, 90, 90), 1, cv2.LINE_AA)
        at = (middle[0] + 4, middle[1] - radius + 14)
        cv2.putText(picture, f"{distance:g} m", at, FONT, 0.35, WHITE, 1, cv2.LINE_AA)
    nose = np.array([[0, -9], [6, 7], [-6, 7]]) + middle
    cv2.fillPoly(picture, [nose.astype(np.int32)], WHITE, cv2.LINE_AA)
    for k, group in enumerate(groups):
        top = 6 + 15 * k
        colour = tuple(int(c) for c in GROUP_COLOURS[group][::-1])
        cv2.rectangle(picture, (6, top), (16, top + 10), colour, cv2.FILLED)
        cv2.putText(picture, GROUPS[group], (21, top + 9), FONT, 0.35, WHITE, 1, cv2.LINE_AA)
    return picture
