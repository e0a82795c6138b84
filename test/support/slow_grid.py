"""A small evidence grid, a way to fill it, and the same grid written slowly."""

import math
from typing import Any

import numpy as np

from seg_perception.labels import GROUPS
from seg_perception.occupancy.grid import EvidenceGrid

SKY = GROUPS.index("sky")
HERE = (0.0, 0.0, 0.0)


def small(**changes: Any) -> EvidenceGrid:
    """Return a grid of 4 x 6 cells of 0.5 m: its corner lies at (-1.5, -1)."""
    return EvidenceGrid(**{"resolution": 0.5, "width": 3, "height": 2, "half_life": 2.0, **changes})


def look(
    grid: EvidenceGrid,
    *pixels: tuple[float, float, int, float],
    transform: tuple[float, float, float] = HERE,
    contacts: bool = False,
) -> None:
    """Add pixels (x, y, group, weight)."""
    table = np.array(pixels, np.float64).reshape(-1, 4)
    add = grid.add_contacts if contacts else grid.add
    add(
        table[:, :2].astype(np.float32),
        table[:, 2].astype(np.uint8),
        table[:, 3].astype(np.float32),
        transform,
    )


class Slow:
    """The same grid as a dictionary (column, row) -> evidence (8,), in numpy alone."""

    def __init__(self, resolution: float, columns: int, rows: int) -> None:
        self.resolution, self.columns, self.rows = resolution, columns, rows
        self.cells: dict[tuple[int, int], np.ndarray] = {}
        self.recentre(0, 0)

    def recentre(self, x: float, y: float) -> None:
        self.left = math.floor(x / self.resolution) - self.columns // 2
        self.low = math.floor(y / self.resolution) - self.rows // 2
        self.cells = {cell: e for cell, e in self.cells.items() if self.holds(*cell)}

    def holds(self, column: float, row: float) -> bool:
        right, up = column - self.left, row - self.low
        return 0 <= right < self.columns and 0 <= up < self.rows

    def place(self, point: np.ndarray, transform: tuple[float, float, float]) -> np.ndarray:
        """Return (column, row) with fractions, float64 (2,)."""
        x, y, yaw = transform
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        return (turn @ point.astype(np.float64) + (x, y)) / self.resolution

    def add(
        self, points: np.ndarray, groups: np.ndarray, weights: np.ndarray, transform: Any,
        *, contacts: bool = False,
    ) -> None:  # fmt: skip
        looks: dict[tuple[int, int], list[np.ndarray]] = {}
        for point, group, weight in zip(points, groups, weights, strict=True):
            if np.isfinite(point).all() and group < SKY and weight > 0:
                column, row = np.floor(self.place(point, transform))
                if self.holds(column, row):
                    seen = min(weight, 1) * np.eye(8)[group]
                    looks.setdefault((int(column), int(row)), []).append(seen)
        for cell, seen in looks.items():
            total = np.sum(seen, axis=0)
            total /= len(seen) if contacts else max(total.sum(), 1)
            self.cells[cell] = self.cells.get(cell, np.zeros(8)) + total

    def decay(self, factor: float) -> None:
        self.cells = {cell: factor * e for cell, e in self.cells.items()}

    @property
    def evidence(self) -> np.ndarray:
        result = np.zeros((8, self.rows, self.columns))
        for (column, row), e in self.cells.items():
            result[:, row - self.low, column - self.left] = e
        return result
