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


class Bounds(NamedTuple):
    """What is known of each cell."""

    middle: NDArray[np.float32]  # Q rows columns: of the least and the most of a mask's sigmoid
    spread: NDArray[np.float32]  # Q rows columns: how far it may be from there
    score: NDArray[np.float32]  # K rows columns: of a class where all masks are at their middles
    largest: NDArray[np.float32]  # K rows columns: the most that a class's score can be
    floor: NDArray[np.float32]  # rows columns: the least that the winner's score is


@compiled
def write(masks: Any, shares: Any, bounds: Any, grid: Any, labels: Any, confidence: Any) -> None:
    """Write winners to `labels` and 255 x their scores, at most 1, to `confidence`, uint8 (H,W).

    masks float32 (Q,h,w), shares float32 (Q,K). Where `confidence` is empty it is not computed, and
    cells of one candidate are filled.
    """
    queries, classes, size = shares.shape[0], shares.shape[1], grid.right.shape[1]
    wants_confidence = confidence.size > 0
    candidates, varying = np.empty(classes, np.int32), np.empty(queries, np.int32)
    values, best = np.empty(size, np.float32), np.empty(size, np.float32)
    scores, winner = np.empty((classes, size), np.float32), np.empty(size, np.int32)
    for i in range(len(grid.low_y)):
        lines = slice(grid.first_y[i], grid.first_y[i + 1])
        for j in range(len(grid.low_x)):
            count = 0
            for c in range(classes):
                if bounds.largest[c, i, j] >= bounds.floor[i, j]:
                    candidates[count] = c
                    count += 1
            if count <= 1 and not wants_confidence:
                winner[:] = candidates[0] if count else 0
                cells.copy_cell(winner, grid, j, labels[lines])
                continue
            some = candidates[:count]
            found = _list_varying(shares, bounds.spread[:, i, j], some, varying)
            for k in range(count):
                scores[k] = bounds.score[some[k], i, j]
            for n in range(found):
                q = varying[n]
                _vary(masks, q, grid, i, j, bounds.middle[q, i, j], values)
                for k in range(count):
                    share, score = shares[q, some[k]], scores[k]
                    for p in range(size):
                        score[p] += share * values[p]
            best[:] = -ONE
            winner[:] = 0
            for k in range(count):
                score = scores[k]
                for p in range(size):
                    wins = score[p] > best[p]
                    winner[p] = some[k] if wins else winner[p]
                    best[p] = score[p] if wins else best[p]
            cells.copy_cell(winner, grid, j, labels[lines])
            if wants_confidence:
                for p in range(size):
                    winner[p] = np.int32(min(max(best[p], np.float32(0)), ONE) * WHITE + HALF)
                cells.copy_cell(winner, grid, j, confidence[lines])


@compiled
def _list_varying(shares: Any, spread: Any, candidates: Any, varying: Any) -> int:
    """List the queries that may change a candidate's score; what the others may is negligible."""
    found, neglected = 0, np.float32(0)
    for q in range(len(spread)):
        share = np.float32(0)
        for c in candidates:
            share = max(share, shares[q, c])
        if neglected + share * spread[q] <= NEGLIGIBLE:
            neglected += share * spread[q]
        else:
            varying[found] = q
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
