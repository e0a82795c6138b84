"""Compiled kernels that decode masks of queries: a sigmoid after the resize, then a weighted sum.

The score of class c at a pixel is the sum over queries q of shares[q,c] sigmoid(mask q), with the
masks interpolated bilinearly. Inside a cell each sigmoid lies between those of the mask's corners,
so each score lies between the sums that these give, and as in cells.py only classes that reach the
floor are computed: from the middle of both sums, to which the queries that vary add their part.
Source: MaskFormer (Cheng et al., NeurIPS 2021), semantic inference; SegViT does the same.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding import cells
from seg_perception.decoding.cells import HALF, ONE, WHITE, compiled

NEGLIGIBLE = np.float32(2e-5)  # by how much all queries that count as constant may change a score


class Work(NamedTuple):
    """Arrays that every cell uses again."""

    middle: NDArray[np.float32]  # Q: of the least and the most of a mask's sigmoid in the cell
    spread: NDArray[np.float32]  # Q: how far it may be from there
    varying: NDArray[np.int32]  # Q: queries whose mask changes a score
    score: NDArray[np.float32]  # K: of a class where all masks are at their middles
    reach: NDArray[np.float32]  # K: how far it may be from there
    candidates: NDArray[np.int32]  # K
    scores: NDArray[np.float32]  # K P: of the candidates
    values: NDArray[np.float32]  # P
    best: NDArray[np.float32]  # P
    winner: NDArray[np.int32]  # P


@compiled
def write(masks: Any, shares: Any, grid: Any, labels: Any, confidence: Any) -> None:
    """Write winners to `labels` and 255 x their scores, at most 1, to `confidence`, uint8 (H,W).

    masks float32 (Q,h,w), shares float32 (Q,K). Where `confidence` is empty it is not computed, and
    cells of one candidate are filled.
    """
    work = _work(shares, grid.right.shape[1])
    upper = np.empty((masks.shape[2], masks.shape[0]), np.float32)
    lower = np.empty_like(upper)
    below = -1  # the coarse row that `lower` holds
    for i in range(len(grid.low_y)):
        if below == grid.low_y[i]:
            upper, lower = lower, upper
        else:
            _squash(masks, grid.low_y[i], upper)
        below = grid.high_y[i]
        _squash(masks, below, lower)
        lines = slice(grid.first_y[i], grid.first_y[i + 1])
        for j in range(len(grid.low_x)):
            count = _bound(upper, lower, grid.low_x[j], grid.high_x[j], shares, work)
            if count <= 1 and confidence.size == 0:
                work.winner[:] = work.candidates[0] if count else 0
            else:
                _win(masks, shares, grid, i, j, work, count)
            cells.copy_cell(work.winner, grid, j, labels[lines])
            if confidence.size > 0:
                for p in range(len(work.best)):
                    share = min(max(work.best[p], np.float32(0)), ONE)
                    work.winner[p] = np.int32(share * WHITE + HALF)
                cells.copy_cell(work.winner, grid, j, confidence[lines])


@compiled
def _work(shares: Any, size: int) -> Work:
    queries, classes = shares.shape
    return Work(
        np.empty(queries, np.float32),
        np.empty(queries, np.float32),
        np.empty(queries, np.int32),
        np.empty(classes, np.float32),
        np.empty(classes, np.float32),
        np.empty(classes, np.int32),
        np.empty((classes, size), np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.int32),
    )


@compiled
def _squash(masks: Any, y: int, row: Any) -> None:
    """Write the sigmoids of a coarse row of all masks to `row` (w,Q)."""
    for q in range(masks.shape[0]):
        for x in range(masks.shape[2]):
            row[x, q] = cells.sigmoid(masks[q, y, x])


@compiled
def _bound(upper: Any, lower: Any, x0: int, x1: int, shares: Any, work: Any) -> int:
    """Find what masks and scores can be between four corners; list and count the candidates."""
    middle, spread, score, reach = work.middle, work.spread, work.score, work.reach
    a, b, c, d = upper[x0], upper[x1], lower[x0], lower[x1]
    for q in range(len(middle)):
        most = max(max(a[q], b[q]), max(c[q], d[q]))
        least = min(min(a[q], b[q]), min(c[q], d[q]))
        middle[q] = HALF * (most + least)
        spread[q] = HALF * (most - least)
    score[:] = 0
    reach[:] = 0
    for q in range(len(middle)):
        share = shares[q]
        for k in range(len(score)):
            score[k] += share[k] * middle[q]
            reach[k] += share[k] * spread[q]
    floor, count = np.float32(-np.inf), 0
    for k in range(len(score)):
        floor = max(floor, score[k] - reach[k])
    for k in range(len(score)):
        if score[k] + reach[k] >= floor:
            work.candidates[count] = k
            count += 1
    return count


@compiled
def _win(masks: Any, shares: Any, grid: Any, i: int, j: int, work: Any, count: int) -> None:
    """Find the winner and its score at every pixel; of equal scores the smaller class wins."""
    values, best, winner = work.values, work.best, work.winner
    for k in range(count):
        work.scores[k] = work.score[work.candidates[k]]
    for n in range(_list_varying(shares, work, count)):
        q = work.varying[n]
        _vary(masks, q, grid, i, j, work.middle[q], values)
        for k in range(count):
            share, scores = shares[q, work.candidates[k]], work.scores[k]
            for p in range(len(values)):
                scores[p] += share * values[p]
    best[:] = -ONE
    winner[:] = 0
    for k in range(count):
        scores = work.scores[k]
        for p in range(len(best)):
            wins = scores[p] > best[p]
            winner[p] = work.candidates[k] if wins else winner[p]
            best[p] = scores[p] if wins else best[p]


@compiled
def _list_varying(shares: Any, work: Any, count: int) -> int:
    """List the queries that may change a candidate's score; what the others may is negligible."""
    found, neglected = 0, np.float32(0)
    for q in range(len(work.spread)):
        share = np.float32(0)
        for k in range(count):
            share = max(share, shares[q, work.candidates[k]])
        change = share * work.spread[q]
        if neglected + change <= NEGLIGIBLE:
            neglected += change
        else:
            work.varying[found] = q
            found += 1
    return found


@compiled
def _vary(masks: Any, q: int, grid: Any, i: int, j: int, middle: Any, values: Any) -> None:
    """Write how far the sigmoid of mask q is from `middle` at every pixel of cell (i,j)."""
    right, down = grid.right[j], grid.down[i]
    above, above_step, below, below_step = cells.corners(masks, q, grid, i, j)
    for p in range(len(values)):
        top = above + right[p] * above_step
        value = top + down[p] * (below + right[p] * below_step - top)
        values[p] = cells.sigmoid(value) - middle
