"""Compiled kernels that decode class scores cell by cell of the coarse grid.

Inside one cell every bilinearly interpolated score is a convex combination of its four corners, so
a class can win there only if its largest corner reaches the cell's floor: the largest of all
smallest corners. Most cells have one such candidate and are filled; the others evaluate theirs.

Scores are float32 (K,h,w). Inner loops run over neighbours in memory without branches, and over
local names, so that the compiler makes vector instructions of them.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

# Classes may be left out of a softmax as long as together they change the confidence by less than
# this; half of it is added back, so the error is at most a quarter of a grey level.
NEGLIGIBLE = np.float32(0.5 / 255)
LOWEST = np.finfo(np.float32).min
ONE = np.float32(1)
HALF = np.float32(0.5)
WHITE = np.float32(255)

# Division by zero gives infinity as in numpy: a check for it would stand in the way of vectors.
compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


class Grid(NamedTuple):
    """Where the pixels of an image lie on the coarse grid: `rows` x `columns` cells.

    Cell (i,j) holds the pixels first_y[i] : first_y[i+1], first_x[j] : first_x[j+1] and the corners
    low_y[i], high_y[i], low_x[j], high_x[j]. `down[i]` and `right[j]` are the weights of the high
    corners at every pixel of a cell in one line, `width` pixels a row (the widest cell's).
    """

    first_y: NDArray[np.int32]  # rows + 1
    low_y: NDArray[np.int32]  # rows
    high_y: NDArray[np.int32]
    down: NDArray[np.float32]  # rows P
    first_x: NDArray[np.int32]  # columns + 1
    low_x: NDArray[np.int32]  # columns
    high_x: NDArray[np.int32]
    right: NDArray[np.float32]  # columns P
    width: int


class Bounds(NamedTuple):
    """What is known of one row of cells; cell x lies between the columns x and x + 1."""

    largest: NDArray[np.float32]  # K w: each class's largest corner
    floor: NDArray[np.float32]  # w
    candidates: NDArray[np.int32]  # w: their number
    first: NDArray[np.int32]  # w: the first candidate
    last: NDArray[np.int32]  # w: the last one


class Patch(NamedTuple):
    """What is computed for the pixels of one cell."""

    candidates: NDArray[np.int32]  # K
    best: NDArray[np.float32]  # P
    total: NDArray[np.float32]  # P
    result: NDArray[np.int32]  # P


@compiled
def write_labels(scores: Any, grid: Any, labels: Any) -> None:
    """Write the class of the largest interpolated score to `labels` uint8 (H,W)."""
    bounds = new_bounds(scores.shape[0], scores.shape[2])
    patch = new_patch(scores.shape[0], grid.right.shape[1])
    for i in range(len(grid.low_y)):
        lines = labels[grid.first_y[i] : grid.first_y[i + 1]]
        _bound_row(scores, grid.low_y[i], grid.high_y[i], bounds)
        find_winners(bounds)
        fill_row(bounds.last, grid, lines)
        for j in range(len(grid.low_x)):
            if bounds.candidates[grid.low_x[j]] > 1:
                x = grid.low_x[j]
                first, last = bounds.first[x], bounds.last[x]
                count = list_classes(bounds, x, first, last, bounds.floor[x], patch)
                _win(scores, grid, i, j, patch, count)
                copy_cell(patch.result, grid, j, lines)


@compiled
def write_confidence(scores: Any, grid: Any, confidence: Any) -> None:
    """Write 255 x the largest softmax of the interpolated logits to `confidence` uint8 (H,W)."""
    bounds = new_bounds(scores.shape[0], scores.shape[2])
    patch = new_patch(scores.shape[0], grid.right.shape[1])
    neglected = np.empty(scores.shape[2], np.float32)
    for i in range(len(grid.low_y)):
        lines = confidence[grid.first_y[i] : grid.first_y[i + 1]]
        _bound_row(scores, grid.low_y[i], grid.high_y[i], bounds)
        neglect(bounds, neglected)
        for j in range(len(grid.low_x)):
            x = grid.low_x[j]
            if bounds.candidates[x] == 1:
                lines[:, grid.first_x[j] : grid.first_x[j + 1]] = 255
                continue
            last = scores.shape[0] - 1
            count = list_classes(bounds, x, 0, last, bounds.floor[x], patch)
            if count == 0:  # scores that are no numbers
                lines[:, grid.first_x[j] : grid.first_x[j + 1]] = 0
                continue
            _win(scores, grid, i, j, patch, count)
            count = list_classes(bounds, x, 0, last, LOWEST, patch)
            _sum(scores, grid, i, j, patch, count, HALF * neglected[x])
            total, result = patch.total, patch.result
            for p in range(len(total)):
                result[p] = np.int32(WHITE / total[p] + HALF)
            copy_cell(result, grid, j, lines)


@compiled
def write_winning_score(scores: Any, grid: Any, squashed: bool, confidence: Any) -> None:
    """Write 255 x the largest interpolated score, or its sigmoid, to `confidence` uint8 (H,W)."""
    bounds = new_bounds(scores.shape[0], scores.shape[2])
    patch = new_patch(scores.shape[0], grid.right.shape[1])
    for i in range(len(grid.low_y)):
        lines = confidence[grid.first_y[i] : grid.first_y[i + 1]]
        _bound_row(scores, grid.low_y[i], grid.high_y[i], bounds)
        find_winners(bounds)
        for j in range(len(grid.low_x)):
            x = grid.low_x[j]
            count = list_classes(bounds, x, bounds.first[x], bounds.last[x], bounds.floor[x], patch)
            if count == 0:
                lines[:, grid.first_x[j] : grid.first_x[j + 1]] = 0
                continue
            _win(scores, grid, i, j, patch, count)
            to_bytes(patch.best, squashed, patch.result)
            copy_cell(patch.result, grid, j, lines)


@compiled
def new_bounds(classes: int, width: int) -> Bounds:
    """Return room for what is to be known of a row of `width` cells."""
    return Bounds(
        np.empty((classes, width), np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.int32),
        np.empty(width, np.int32),
        np.empty(width, np.int32),
    )


@compiled
def new_patch(classes: int, size: int) -> Patch:
    """Return room for what is to be computed of a cell of `size` pixels."""
    return Patch(
        np.empty(classes, np.int32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.int32),
    )


@compiled
def _bound_row(scores: Any, y0: int, y1: int, bounds: Any) -> None:
    """Find each class's largest corner, and the floor, of a row of cells."""
    classes, _, width = scores.shape
    floor = bounds.floor
    floor[:] = -np.inf
    for c in range(classes):
        upper, lower, largest = scores[c, y0], scores[c, y1], bounds.largest[c]
        for x in range(width - 1):
            high = max(max(upper[x], upper[x + 1]), max(lower[x], lower[x + 1]))
            low = min(min(upper[x], upper[x + 1]), min(lower[x], lower[x + 1]))
            largest[x] = high
            floor[x] = max(floor[x], low)
        x = width - 1  # right of the last column there is nothing
        largest[x] = max(upper[x], lower[x])
        floor[x] = max(floor[x], min(upper[x], lower[x]))


@compiled
def find_winners(bounds: Any) -> None:
    """Count the classes that can win in each cell and find the first and the last of them."""
    floor, count, first, last = bounds.floor, bounds.candidates, bounds.first, bounds.last
    classes, width = bounds.largest.shape
    count[:] = 0
    first[:] = 0
    last[:] = 0
    for c in range(classes):
        largest = bounds.largest[c]
        for x in range(width):
            can_win = largest[x] >= floor[x]
            first[x] = c if can_win and count[x] == 0 else first[x]
            last[x] = c if can_win else last[x]
            count[x] += can_win


@compiled
def neglect(bounds: Any, neglected: Any) -> None:
    """Choose the classes whose weight in the softmax is negligible: their `largest` becomes -inf.

    A class's weight is at most exp(largest - floor), as the winner's score is at least the floor.
    """
    floor, count = bounds.floor, bounds.candidates
    classes, width = bounds.largest.shape
    count[:] = classes
    neglected[:] = 0
    for c in range(classes):
        largest = bounds.largest[c]
        for x in range(width):
            share = exp(min(largest[x] - floor[x], np.float32(0)))
            is_little = neglected[x] + share < NEGLIGIBLE
            neglected[x] += share if is_little else np.float32(0)
            count[x] -= is_little
            largest[x] = -np.inf if is_little else largest[x]


@compiled
def list_classes(bounds: Any, x: int, first: int, last: int, limit: Any, patch: Any) -> int:
    """List the classes of cell x from first to last that reach `limit`; return their number."""
    found, candidates = 0, patch.candidates
    for c in range(first, last + 1):
        if bounds.largest[c, x] >= limit:
            candidates[found] = c
            found += 1
    return found


@compiled
def fill_row(values: Any, grid: Any, lines: Any) -> None:
    """Fill each cell of a row with its value; `lines` holds the row's lines of pixels."""
    first = lines[0]
    for j in range(len(grid.low_x)):
        value = np.uint8(values[grid.low_x[j]])
        for x in range(grid.first_x[j], grid.first_x[j + 1]):
            first[x] = value
    for y in range(1, lines.shape[0]):
        line = lines[y]
        for x in range(len(line)):
            line[x] = first[x]


@compiled
def corners(scores: Any, c: int, grid: Any, i: int, j: int) -> Any:
    """Return class c's upper left corner and its change to the right, the same below."""
    upper, lower = scores[c, grid.low_y[i]], scores[c, grid.high_y[i]]
    above, below = upper[grid.low_x[j]], lower[grid.low_x[j]]
    return above, upper[grid.high_x[j]] - above, below, lower[grid.high_x[j]] - below


@compiled
def _win(scores: Any, grid: Any, i: int, j: int, patch: Any, count: int) -> None:
    """Find the winner and its score at every pixel; of equal scores the smaller class wins."""
    right, down, best, winner = grid.right[j], grid.down[i], patch.best, patch.result
    for k in range(count):
        c = patch.candidates[k]
        above, above_step, below, below_step = corners(scores, c, grid, i, j)
        if k == 0:
            for p in range(len(right)):
                top = above + right[p] * above_step
                best[p] = top + down[p] * (below + right[p] * below_step - top)
                winner[p] = c
            continue
        for p in range(len(right)):
            top = above + right[p] * above_step
            score = top + down[p] * (below + right[p] * below_step - top)
            wins = score > best[p]
            winner[p] = c if wins else winner[p]
            best[p] = score if wins else best[p]


@compiled
def _sum(scores: Any, grid: Any, i: int, j: int, patch: Any, count: int, start: Any) -> None:
    """Sum exp(score - best) of the candidates at every pixel, from `start` on."""
    right, down, best, total = grid.right[j], grid.down[i], patch.best, patch.total
    for p in range(len(right)):
        total[p] = start
    for k in range(count):
        above, above_step, below, below_step = corners(scores, patch.candidates[k], grid, i, j)
        for p in range(len(right)):
            top = above + right[p] * above_step
            score = top + down[p] * (below + right[p] * below_step - top)
            total[p] += exp(score - best[p])


@compiled
def exp(x: Any) -> Any:
    """Return exp(x) for x <= 0 as the 32nd power of exp(x / 32)'s series; wrong by < 2e-6."""
    y = max(x, np.float32(-32)) * np.float32(1 / 32)
    e = ONE + y * (ONE + y * (HALF + y * (np.float32(1 / 6) + y * np.float32(1 / 24))))
    e *= e  # 2
    e *= e
    e *= e  # 8
    e *= e
    return e * e  # 32


@compiled
def to_bytes(scores: Any, squashed: bool, result: Any) -> None:
    """Write 255 x the scores, kept in 0..1, or their sigmoids; NaN becomes 0."""
    for p in range(len(scores)):
        score = sigmoid(scores[p]) if squashed else scores[p]
        share = min(max(score, np.float32(0)), ONE)
        result[p] = np.int32(share * WHITE + HALF) if scores[p] >= LOWEST else 0


@compiled
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)); wrong by < 2e-6."""
    e = exp(-abs(x))
    return (ONE if x > 0 else e) / (ONE + e)


@compiled
def copy_cell(values: Any, grid: Any, j: int, lines: Any) -> None:
    """Copy a cell's values, laid out in one line, to its place in the row's lines of pixels."""
    left, right = grid.first_x[j], grid.first_x[j + 1]
    for y in range(lines.shape[0]):
        p, line = y * grid.width - left, lines[y]
        for x in range(left, right):
            line[x] = values[p + x]
