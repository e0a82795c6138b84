"""Compiled kernels that decode class scores whose way to the image's size is cubic.

As in cells.py, a cell is decided by what its corners allow. A cubic has negative weights and may
leave the range of its samples, but not far: along one axis the outer two of four weigh at least
-OVERSHOOT together, so it stays within the inner two's range, widened by that share of how far the
outer ones lie beyond.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding import cells
from seg_perception.decoding.cells import HALF, LOWEST, WHITE, Bounds, Patch, compiled

OVERSHOOT = np.float32(0.1875)  # a t (1 - t) at t = 1/2, a = -0.75


class Grid(NamedTuple):
    """Where the pixels of an image lie on the coarse grid: `rows` x `columns` cells.

    Cell (i,j) holds the pixels first_y[i] : first_y[i+1], first_x[j] : first_x[j+1]. It reads four
    coarse rows from low_y[i] - 2 and four columns from low_x[j] - 2, those outside replaced by the
    nearest inside. `down[i]` and `right[j]` are their weights at every pixel of a cell in one line,
    `width` pixels a row (the widest cell's).
    """

    first_y: NDArray[np.int32]  # rows + 1
    low_y: NDArray[np.int32]  # rows
    down: NDArray[np.float32]  # rows 4 P
    first_x: NDArray[np.int32]  # columns + 1
    low_x: NDArray[np.int32]  # columns
    right: NDArray[np.float32]  # columns 4 P
    width: int


class Work(NamedTuple):
    """Arrays that every row of cells uses again; w is the number of coarse columns."""

    bounds: Bounds  # of w + 1 cells a row
    patch: Patch
    high: NDArray[np.float32]  # w + 4: most that a column can give, its ends repeated twice
    low: NDArray[np.float32]  # w + 4
    values: NDArray[np.float32]  # P


@compiled
def write_labels(scores: Any, grid: Any, labels: Any) -> None:
    """Write the class of the largest interpolated score to `labels` uint8 (H,W)."""
    work = _work(scores, grid)
    bounds, patch = work.bounds, work.patch
    for i in range(len(grid.low_y)):
        lines = labels[grid.first_y[i] : grid.first_y[i + 1]]
        _bound_row(scores, grid.low_y[i], work)
        cells.find_winners(bounds)
        cells.fill_row(bounds.last, grid, lines)
        for j in range(len(grid.low_x)):
            x = grid.low_x[j]
            if bounds.candidates[x] > 1:
                _win(scores, grid, i, j, work, bounds.first[x], bounds.last[x])
                cells.copy_cell(patch.result, grid, j, lines)


@compiled
def write_confidence(scores: Any, grid: Any, confidence: Any) -> None:
    """Write 255 x the largest softmax of the interpolated logits to `confidence` uint8 (H,W)."""
    work = _work(scores, grid)
    bounds, patch = work.bounds, work.patch
    neglected = np.empty(scores.shape[2] + 1, np.float32)
    for i in range(len(grid.low_y)):
        lines = confidence[grid.first_y[i] : grid.first_y[i + 1]]
        _bound_row(scores, grid.low_y[i], work)
        cells.neglect(bounds, neglected)
        for j in range(len(grid.low_x)):
            x = grid.low_x[j]
            if bounds.candidates[x] == 1:
                lines[:, grid.first_x[j] : grid.first_x[j + 1]] = 255
                continue
            _win(scores, grid, i, j, work, 0, scores.shape[0] - 1)
            _sum(scores, grid, i, j, work, HALF * neglected[x])
            for p in range(len(patch.total)):
                patch.result[p] = np.int32(WHITE / patch.total[p] + HALF)
            cells.copy_cell(patch.result, grid, j, lines)


@compiled
def write_winning_score(scores: Any, grid: Any, squashed: bool, confidence: Any) -> None:
    """Write 255 x the largest interpolated score, or its sigmoid, to `confidence` uint8 (H,W)."""
    work = _work(scores, grid)
    bounds, patch = work.bounds, work.patch
    for i in range(len(grid.low_y)):
        lines = confidence[grid.first_y[i] : grid.first_y[i + 1]]
        _bound_row(scores, grid.low_y[i], work)
        cells.find_winners(bounds)
        for j in range(len(grid.low_x)):
            x = grid.low_x[j]
            _win(scores, grid, i, j, work, bounds.first[x], bounds.last[x])
            cells.to_bytes(patch.best, squashed, patch.result)
            cells.copy_cell(patch.result, grid, j, lines)


@compiled
def _work(scores: Any, grid: Any) -> Work:
    classes, _, width = scores.shape
    size = grid.right.shape[2]
    return Work(
        cells.new_bounds(classes, width + 1),
        cells.new_patch(classes, size),
        np.empty(width + 4, np.float32),
        np.empty(width + 4, np.float32),
        np.empty(size, np.float32),
    )


@compiled
def _row(scores: Any, c: int, y: int) -> Any:
    """Return the coarse row y of class c, or the nearest there is."""
    return scores[c, min(max(y, 0), scores.shape[1] - 1)]


@compiled
def _bound_row(scores: Any, low_y: int, work: Any) -> None:
    """Find the most that each class can reach, and the floor, in a row of cells."""
    bounds, high, low = work.bounds, work.high, work.low
    floor = bounds.floor
    floor[:] = -np.inf
    for c in range(scores.shape[0]):
        above, upper = _row(scores, c, low_y - 2), _row(scores, c, low_y - 1)
        lower, below = _row(scores, c, low_y), _row(scores, c, low_y + 1)
        for x in range(scores.shape[2]):
            most, least = max(upper[x], lower[x]), min(upper[x], lower[x])
            outer_most, outer_least = max(above[x], below[x]), min(above[x], below[x])
            high[x + 2] = most + OVERSHOOT * max(most - outer_least, np.float32(0))
            low[x + 2] = least - OVERSHOOT * max(outer_most - least, np.float32(0))
        for values in (high, low):
            values[:2] = values[2]
            values[-2:] = values[-3]
        largest = bounds.largest[c]
        for x in range(len(floor)):
            most, least = max(high[x + 1], high[x + 2]), min(low[x + 1], low[x + 2])
            outer_most, outer_least = max(high[x], high[x + 3]), min(low[x], low[x + 3])
            most += OVERSHOOT * max(most - outer_least, np.float32(0))
            least -= OVERSHOOT * max(outer_most - least, np.float32(0))
            largest[x] = most
            floor[x] = max(floor[x], least)


@compiled
def _interpolate(scores: Any, c: int, grid: Any, i: int, j: int, values: Any) -> None:
    """Write class c's score at every pixel of cell (i,j)."""
    down, right = grid.down[i], grid.right[j]
    x, last = grid.low_x[j], scores.shape[2] - 1
    values[:] = 0
    for k in range(4):
        column = min(max(x - 2 + k, 0), last)
        a = _row(scores, c, grid.low_y[i] - 2)[column]
        b = _row(scores, c, grid.low_y[i] - 1)[column]
        d = _row(scores, c, grid.low_y[i])[column]
        e = _row(scores, c, grid.low_y[i] + 1)[column]
        for p in range(len(values)):
            sample = down[0, p] * a + down[1, p] * b + down[2, p] * d + down[3, p] * e
            values[p] += right[k, p] * sample


@compiled
def _win(scores: Any, grid: Any, i: int, j: int, work: Any, first: int, last: int) -> None:
    """Find the winner and its score at every pixel, among the classes from first to last."""
    patch, values, x = work.patch, work.values, grid.low_x[j]
    best, winner = patch.best, patch.result
    count = cells.list_classes(work.bounds, x, first, last, work.bounds.floor[x], patch)
    best[:] = LOWEST if count else np.nan
    winner[:] = patch.candidates[0] if count else 0
    for k in range(count):
        c = patch.candidates[k]
        _interpolate(scores, c, grid, i, j, values)
        for p in range(len(best)):
            wins = values[p] > best[p]
            winner[p] = c if wins else winner[p]
            best[p] = values[p] if wins else best[p]


@compiled
def _sum(scores: Any, grid: Any, i: int, j: int, work: Any, start: Any) -> None:
    """Sum exp(score - best) of all classes that count at every pixel, from `start` on."""
    patch, values = work.patch, work.values
    best, total = patch.best, patch.total
    last = scores.shape[0] - 1
    count = cells.list_classes(work.bounds, grid.low_x[j], 0, last, LOWEST, patch)
    for p in range(len(total)):
        total[p] = start + (best[p] - best[p])  # NaN where the best one is
    for k in range(count):
        _interpolate(scores, patch.candidates[k], grid, i, j, values)
        for p in range(len(total)):
            total[p] += cells.exp(values[p] - best[p])
