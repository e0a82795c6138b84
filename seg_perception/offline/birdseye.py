"""The map from above, as images: what the mapper knows around the robot, its heading upwards."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import FONT
from seg_perception.labels import GROUP_COLOURS, GROUPS
from seg_perception.nav2.costmap import Costmap
from seg_perception.nav2.window import FREE, INSCRIBED, LETHAL, NO_INFORMATION
from seg_perception.occupancy.mapper import Mapper, Pose2D

Image = NDArray[np.uint8]

NEVER_SEEN = 28  # grey
RING = 5.0  # metres between range rings
WHITE = (255, 255, 255)


def _cost_colours() -> NDArray[np.uint8]:
    """Return BGR of each cost: free dark, then from blue to red, cyan inscribed, magenta lethal."""
    costs = np.arange(256)
    colours = np.stack([255 - costs, np.zeros(256, int), costs], 1)
    colours[FREE], colours[INSCRIBED] = (90, 90, 90), (255, 255, 0)
    colours[LETHAL], colours[NO_INFORMATION] = (255, 0, 255), (NEVER_SEEN,) * 3
    return np.asarray(colours, np.uint8)


COST_COLOURS = _cost_colours()


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


def draw_map(mapper: Mapper, robot: Pose2D | None, view: View) -> Image:
    """Return uint8 (H,W,3) BGR: each cell in the colour of the group that decides it."""
    groups = mapper.grid.deciding()
    height, width = groups.shape
    rows, columns = _cells_under(mapper, robot or Pose2D(0.0, 0.0, 0.0), view)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    seen = np.where(inside, groups[rows.clip(0, height - 1), columns.clip(0, width - 1)], -1)
    colours = np.full((256, 3), NEVER_SEEN, np.uint8)
    colours[: len(GROUPS)] = np.array(GROUP_COLOURS)[:, ::-1]
    image = np.ascontiguousarray(colours[seen.astype(np.uint8)])  # -1 becomes 255
    return _annotate(image, [g for g in range(len(GROUPS)) if (seen == g).any()], view)


def draw_costmap(costmap: Costmap, robot: Pose2D | None, view: View) -> Image:
    """Return uint8 (H,W,3) BGR: the costs of a costmap of Nav2 in the colours of rviz2."""
    window = costmap.window
    x, y = _places_under(robot or Pose2D(0.0, 0.0, 0.0), view)
    cells = window.cells(x.ravel(), y.ravel())
    seen = np.full(x.size, NO_INFORMATION, np.uint8)
    inside = window.holds(cells)
    seen[inside] = window.costs[tuple(cells[inside].T)]
    image = np.ascontiguousarray(COST_COLOURS[seen.reshape(x.shape)])
    _annotate(image, [], view)
    lines = [costmap.name.split("/")[-1]] + ([] if costmap.is_current else ["not current"])
    for k, line in enumerate(lines):
        cv2.putText(image, line, (6, 15 + 15 * k), FONT, 0.4, WHITE, 1, cv2.LINE_AA)
    return image


def _places_under(robot: Pose2D, view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the ground under each pixel of the view."""
    down, across = np.mgrid[0 : view.height, 0 : view.width].astype(np.float64)
    forward = view.ahead - (down + 0.5) / view.scale
    left = view.side - (across + 0.5) / view.scale
    turned, shifted = np.cos(robot.yaw), np.sin(robot.yaw)
    x = robot.x + turned * forward - shifted * left
    y = robot.y + shifted * forward + turned * left
    return x, y


def _cells_under(
    mapper: Mapper, robot: Pose2D, view: View
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of the grid's cell under each pixel of the view."""
    x, y = _places_under(robot, view)
    x0, y0 = mapper.grid.origin
    cell = mapper.settings.resolution
    rows, columns = np.floor((y - y0) / cell), np.floor((x - x0) / cell)
    return rows.astype(np.int64), columns.astype(np.int64)


def _annotate(image: Image, groups: list[int], view: View) -> Image:
    middle = (round(view.width / 2), round(view.ahead * view.scale))
    for distance in np.arange(RING, view.ahead + 1e-6, RING):
        radius = round(distance * view.scale)
        cv2.circle(image, middle, radius, (90, 90, 90), 1, cv2.LINE_AA)
        at = (middle[0] + 4, middle[1] - radius + 14)
        cv2.putText(image, f"{distance:g} m", at, FONT, 0.35, WHITE, 1, cv2.LINE_AA)
    nose = np.array([[0, -9], [6, 7], [-6, 7]]) + middle
    cv2.fillPoly(image, [nose.astype(np.int32)], WHITE, cv2.LINE_AA)
    for k, group in enumerate(groups):
        top = 6 + 15 * k
        colour = tuple(int(c) for c in GROUP_COLOURS[group][::-1])
        cv2.rectangle(image, (6, top), (16, top + 10), colour, cv2.FILLED)
        cv2.putText(image, GROUPS[group], (21, top + 9), FONT, 0.35, WHITE, 1, cv2.LINE_AA)
    return image
