"""The grid of a costmap or of one of its layers, and how Nav2 moves and combines them.

Written after nav2_costmap_2d (costmap_2d.cpp, costmap_layer.cpp).
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

FREE, INSCRIBED, LETHAL, NO_INFORMATION = 0, 253, 254, 255


class Window:
    """Costs uint8 (rows, columns) on a grid whose row is y and whose column is x, in metres."""

    def __init__(
        self,
        resolution: float,
        size: tuple[float, float],
        *,
        default: int = FREE,
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Allocate `size` (width, height) metres, full of `default`; `origin` is its lower left."""
        self.resolution, self.default, self.origin = resolution, default, origin
        columns, rows = (int(side / resolution + 1e-6) for side in size)
        self.costs: NDArray[np.uint8] = np.full((rows, columns), default, np.uint8)

    def like(self) -> "Window":
        """Return a window of the same cells, full of the default."""
        rows, columns = self.costs.shape
        size = columns * self.resolution, rows * self.resolution
        return Window(self.resolution, size, default=self.default, origin=self.origin)

    def centre_on(self, x: float, y: float) -> None:
        """Move by whole cells until `x`, `y` is in the middle; what enters has the default."""
        rows, columns = self.costs.shape
        right = int((x - columns * self.resolution / 2 - self.origin[0]) / self.resolution)
        up = int((y - rows * self.resolution / 2 - self.origin[1]) / self.resolution)
        moved = np.full_like(self.costs, self.default)
        kept = self.costs[_inside(up, rows), _inside(right, columns)]
        moved[_inside(-up, rows), _inside(-right, columns)] = kept
        self.costs = moved
        self.origin = (
            self.origin[0] + right * self.resolution,
            self.origin[1] + up * self.resolution,
        )

    def cells(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return row and column (n,2) of places, which may lie outside."""
        places = np.stack([y - self.origin[1], x - self.origin[0]], -1)
        return np.asarray(np.floor(places / self.resolution), np.int64)

    def holds(self, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which cells (n,2) lie inside."""
        return np.asarray(((cells >= 0) & (cells < self.costs.shape)).all(-1))

    def set(self, x: NDArray[np.float64], y: NDArray[np.float64], costs: NDArray[np.uint8]) -> None:
        """Set the costs (n,) of places, the last where several share a cell."""
        cells = self.cells(x, y)
        inside = self.holds(cells)
        rows, columns = cells[inside].T
        self.costs[rows, columns] = costs[inside]

    def fill(self, polygon: NDArray[np.float64], cost: int) -> None:
        """Set the cells whose middle lies in a convex polygon (n,2) of metres."""
        rows, columns = self.costs.shape
        y = (np.arange(rows)[:, None] + 0.5) * self.resolution + self.origin[1]
        x = (np.arange(columns)[None] + 0.5) * self.resolution + self.origin[0]
        sides = [
            (bx - ax) * (y - ay) - (by - ay) * (x - ax)
            for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, 0), strict=True)
        ]
        self.costs[(np.stack(sides) >= 0).all(0) | (np.stack(sides) <= 0).all(0)] = cost

    def distance(self, metres: float) -> int:
        """Return a distance in cells, rounded up."""
        return max(0, ceil(metres / self.resolution))


def combine(master: NDArray[np.uint8], layer: NDArray[np.uint8], method: int) -> None:
    """Put a layer over what is below it: 0 overwrites, 1 takes the larger, 2 also keeps unknown."""
    known, below = layer != NO_INFORMATION, master != NO_INFORMATION
    if method == 0:
        chosen = known
    elif method == 1:
        chosen = known & (~below | (master < layer))
    elif method == 2:
        chosen = known & below & (master < layer)
    else:
        return
    master[chosen] = layer[chosen]


def _inside(shift: int, size: int) -> slice:
    """Return the part of `size` cells that is still inside after a move by `shift`."""
    return slice(min(max(shift, 0), size), max(min(size + shift, size), 0))
