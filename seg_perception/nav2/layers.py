"""Nav2's costmap layers as they read our messages, written after their sources.

nav2_costmap_2d (obstacle_layer.cpp, observation_buffer.cpp, static_layer.cpp, inflation_layer.cpp,
Jazzy and Kilted). Places are in metres in the costmap's frame, times in seconds.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from seg_perception.decoding.cells import compiled
from seg_perception.errors import DataError
from seg_perception.nav2.parameters import SOURCE, Layer, Parameters, section
from seg_perception.nav2.window import FREE, INSCRIBED, LETHAL, NO_INFORMATION, Window, combine

Points = NDArray[np.floating[Any]]
NOWHERE = np.zeros((0, 3))


class ObstacleSource:
    """One observation source of an ObstacleLayer; it keeps the newest cloud for ever."""

    def __init__(self, source: Parameters, now: float) -> None:
        self.source = {**SOURCE, **source}
        self.points: Points = NOWHERE
        self.origin: Points | None = None
        self._updated = now

    def on_cloud(self, points: Points, origin: Points, now: float) -> None:
        """Keep the points (n,3) whose height is right; rays start at `origin` (3,)."""
        low, high = self.source["min_obstacle_height"], self.source["max_obstacle_height"]
        self.points = points[(points[:, 2] >= low) & (points[:, 2] <= high)]
        self.origin = origin
        self._updated = now

    def is_current(self, now: float) -> bool:
        """Return whether a cloud came within the time that the parameters allow."""
        rate = float(self.source["expected_update_rate"])
        return rate == 0 or now - self._updated <= rate


class ObstacleLayer:
    """Nav2's layer of marks and clearing rays; a VoxelLayer is read as one of a single storey."""

    def __init__(self, layer: Parameters, window: Window, footprint: Points, now: float) -> None:
        self._layer, self.window, self._footprint = layer, window, footprint
        self.is_current = True
        names = str(layer.get("observation_sources", "")).split()
        self.buffers = {name: ObstacleSource(section(layer, name), now) for name in names}

    def update(self, now: float, robot: tuple[float, float, float]) -> None:
        """Clear along the rays, mark, and clear under the robot, as updateBounds does."""
        buffers = [b for b in self.buffers.values() if b.origin is not None]
        self.is_current = all(b.is_current(now) for b in self.buffers.values())
        for buffer in (b for b in buffers if b.source["clearing"]):
            self.clear(buffer)
        for buffer in (b for b in buffers if b.source["marking"]):
            self._mark(buffer)
        if self._layer.get("footprint_clearing_enabled", True) and len(self._footprint) > 2:
            x, y, yaw = robot
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            self.window.fill(self._footprint @ turn + (x, y), FREE)

    def clear(self, buffer: ObstacleSource) -> None:
        """Clear the cells of the rays from a source's origin to its points."""
        window, source, origin = self.window, buffer.source, buffer.origin
        assert origin is not None
        limits = np.array([window.distance(source[f"raytrace_{n}_range"]) for n in ("min", "max")])
        _clear_rays(
            window.costs, np.ascontiguousarray(buffer.points[:, :2], np.float64),
            np.asarray(origin[:2], np.float64), np.asarray(window.origin), window.resolution,
            limits,
        )  # fmt: skip

    def merge(self, master: Window) -> None:
        """Put the layer over those below."""
        combine(master.costs, self.window.costs, int(self._layer.get("combination_method", 1)))

    def windows(self) -> list[Window]:
        """Return what follows the robot."""
        return [self.window]

    def _mark(self, buffer: ObstacleSource) -> None:
        assert buffer.origin is not None
        points = np.asarray(buffer.points, np.float64)
        distance = np.linalg.norm(points - buffer.origin, axis=1)  # aslant, as Kilted measures it
        near, far = (buffer.source[f"obstacle_{n}_range"] for n in ("min", "max"))
        low = float(self._layer.get("min_obstacle_height", 0.0))
        high = float(self._layer.get("max_obstacle_height", 2.0))
        taken = (near <= distance) & (distance < far) & (low <= points[:, 2])
        taken &= points[:, 2] <= high
        marks = np.full(int(taken.sum()), LETHAL, np.uint8)
        self.window.set(points[taken, 0], points[taken, 1], marks)


class StaticLayer:
    """Nav2's layer of an OccupancyGrid, here ~/grid/cost, which it keeps for ever."""

    is_current = True

    def __init__(self, layer: Layer, costmap: Parameters) -> None:
        self._use_maximum = bool(costmap.get("use_maximum", False))
        self._costs = interpreted(costmap)
        self._grid: NDArray[np.uint8] | None = None
        self._origin, self._resolution = (0.0, 0.0), 1.0

    def on_grid(
        self, costs: NDArray[np.int8], origin: tuple[float, float], resolution: float
    ) -> None:
        """Keep a grid of -1 and 0..100 (rows, columns) whose lower left corner is at `origin`."""
        self._grid = self._costs[costs.astype(np.uint8)]
        self._origin, self._resolution = origin, resolution

    def update(self, now: float, robot: tuple[float, float, float]) -> None:
        """Do nothing: the grid is placed when it is merged."""

    def merge(self, master: Window) -> None:
        """Write the grid's costs at the middle of each cell that it covers."""
        if self._grid is None:
            return
        rows, columns = master.costs.shape
        y = (np.arange(rows) + 0.5) * master.resolution + master.origin[1] - self._origin[1]
        x = (np.arange(columns) + 0.5) * master.resolution + master.origin[0] - self._origin[0]
        v, u = (np.floor(place / self._resolution).astype(int) for place in (y, x))
        v_in, u_in = (v >= 0) & (v < len(self._grid)), (u >= 0) & (u < self._grid.shape[1])
        part = self._grid[np.ix_(v[v_in], u[u_in])]
        at = np.ix_(v_in, u_in)
        master.costs[at] = np.maximum(part, master.costs[at]) if self._use_maximum else part

    def windows(self) -> list[Window]:
        """Return nothing: it stays where the grid is."""
        return []


class InflationLayer:
    """Nav2's layer that spreads what is lethal."""

    is_current = True

    def __init__(self, layer: Layer, resolution: float, inscribed: float) -> None:
        parameters = layer.parameters
        self._radius = float(parameters.get("inflation_radius", 0.55))
        self._factor = float(parameters.get("cost_scaling_factor", 10.0))
        self._spreads_to_unknown = bool(parameters.get("inflate_unknown", False))
        self._from_unknown = bool(parameters.get("inflate_around_unknown", False))
        self._resolution, self._inscribed = resolution, inscribed

    def update(self, now: float, robot: tuple[float, float, float]) -> None:
        """Do nothing: it holds nothing of its own."""

    def merge(self, master: Window) -> None:
        """Raise the costs around lethal cells."""
        costs = master.costs
        sources = costs == LETHAL
        if self._from_unknown:
            sources |= costs == NO_INFORMATION
        if not sources.any():
            return
        distance = cv2.distanceTransform(
            (~sources).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        spread = self._cost(distance.astype(np.float64))
        is_unknown = costs == NO_INFORMATION
        raised = spread > FREE if self._spreads_to_unknown else spread >= INSCRIBED
        near = distance <= np.ceil(self._radius / self._resolution)
        master.costs = np.where(
            near & np.where(is_unknown, raised, spread > costs), spread, costs
        ).astype(np.uint8)

    def windows(self) -> list[Window]:
        """Return nothing: it has no window of its own."""
        return []

    def _cost(self, cells: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the cost at a distance from a lethal cell, in cells."""
        beyond = cells * self._resolution - self._inscribed
        falling = (INSCRIBED - 1) * np.exp(-self._factor * beyond.clip(0))
        costs = np.where(cells == 0, LETHAL, np.where(beyond <= 0, INSCRIBED, falling))
        return np.asarray(costs, np.uint8)


def interpreted(costmap: Parameters) -> NDArray[np.uint8]:
    """Return what a StaticLayer makes of each byte of an OccupancyGrid, uint8 (256,)."""
    values = np.arange(256)
    lethal = int(costmap.get("lethal_cost_threshold", 100))
    is_trinary = bool(costmap.get("trinary_costmap", True))
    scaled = np.full(256, FREE) if is_trinary else values / lethal * LETHAL
    costs = np.where(values >= lethal, LETHAL, scaled)
    costs[int(costmap.get("inscribed_obstacle_cost_value", 99))] = INSCRIBED
    unknown = NO_INFORMATION if costmap.get("track_unknown_space", False) else FREE
    costs[int(costmap.get("unknown_cost_value", 255))] = unknown
    return np.asarray(costs, np.uint8)


def footprint(costmap: Parameters) -> Points:
    """Return the padded footprint (n,2) in metres; DataError for one that Nav2 refuses."""
    text = str(costmap.get("footprint", "[]"))
    corners = list(_numbers(text))
    if corners:
        points = np.array(corners)
    else:
        angle = 2 * np.pi * np.arange(16) / 16
        radius = float(costmap.get("robot_radius", 0.1))
        points = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    padding = float(costmap.get("footprint_padding", 0.01))
    return np.asarray(points + np.sign(points) * padding)


def inscribed_radius(corners: Points) -> float:
    """Return how near a footprint's edges come to the robot's centre, in metres."""
    ends = np.roll(corners, -1, 0)
    along = ends - corners
    t = (-(corners * along).sum(1) / np.maximum((along**2).sum(1), 1e-12)).clip(0, 1)
    return float(np.linalg.norm(corners + t[:, None] * along, axis=1).min())


def _numbers(text: str) -> Iterator[tuple[float, float]]:
    try:
        parsed = yaml.safe_load(text) or []
        corners = [(float(x), float(y)) for x, y in parsed]
    except (yaml.YAMLError, TypeError, ValueError) as problem:
        raise DataError(f"footprint {text!r} is no list of corners, as in [[0.3, 0.2], ...]") from (
            problem
        )
    if corners and len(corners) < 3:
        raise DataError(f"footprint {text!r} has fewer than three corners")
    yield from corners


@compiled
def _clear_rays(
    costs: Any, points: Any, sensor: Any, origin: Any, resolution: Any, limits: Any
) -> None:
    """Clear the cells from limits[0] cells on along each ray, as raytraceFreespace does.

    A ray that leaves the map ends at its border. `points` float64 (n,2), `limits` int64 (2,).
    """
    rows, columns = costs.shape
    end_x, end_y = origin[0] + columns * resolution, origin[1] + rows * resolution
    column0 = int(np.floor((sensor[0] - origin[0]) / resolution))
    row0 = int(np.floor((sensor[1] - origin[1]) / resolution))
    if not (0 <= column0 < columns and 0 <= row0 < rows):
        return
    for i in range(len(points)):
        x, y = points[i]
        a, b = x - sensor[0], y - sensor[1]
        if x < origin[0]:
            y = sensor[1] + b * ((origin[0] - sensor[0]) / a)
            x = origin[0]
        if y < origin[1]:
            x = sensor[0] + a * ((origin[1] - sensor[1]) / b)
            y = origin[1]
        if x > end_x:
            y = sensor[1] + b * ((end_x - sensor[0]) / a)
            x = end_x - 0.001
        if y > end_y:
            x = sensor[0] + a * ((end_y - sensor[1]) / b)
            y = end_y - 0.001
        column1 = int(np.floor((x - origin[0]) / resolution))
        row1 = int(np.floor((y - origin[1]) / resolution))
        if not (0 <= column1 < columns and 0 <= row1 < rows):
            continue
        length = np.hypot(row1 - row0, column1 - column0)
        if length < limits[0]:
            continue
        row, column = row0, column0
        if length > 0:  # rounded towards zero, as C++ does
            column = int(column0 + (column1 - column0) / length * limits[0])
            row = int(row0 + (row1 - row0) / length * limits[0])
        wide, high = abs(column1 - column), abs(row1 - row)
        most, least = max(wide, high), min(wide, high)
        scale = min(1.0, limits[1] / length) if length > 0 else 1.0
        right, up = (1 if column1 > column else -1), (1 if row1 > row else -1)
        error = most // 2
        costs[row, column] = FREE
        for _ in range(min(int(most * scale), most)):
            error += least
            sideways = error >= most
            if sideways:
                error -= most
            if wide >= high or sideways:
                column += right
            if wide < high or sideways:
                row += up
            costs[row, column] = FREE
