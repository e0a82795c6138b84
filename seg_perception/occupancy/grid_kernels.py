"""Compiled kernels of the evidence grid, over its cells in one line: row * columns + column.

Evidence is float32 (8, cells), one plane a group; the looks of the update in progress are float32
(cells, 8), as a pixel then needs one line of memory only.
"""

from typing import Any

import numpy as np

from seg_perception.decoding.cells import ONE, compiled
from seg_perception.labels import GROUPS

COUNT = len(GROUPS)
SKY = GROUPS.index("sky")  # the last group: the ids below it lie on the ground
VANISHED = np.float32(1e-6)  # looks; less becomes 0, before it becomes slow denormal numbers
ZERO = np.float32(0)

# A group decides what a cell costs from this share of its evidence on, in per cent: below half, as
# a person's feet fill a part of a cell only; far above what a few wrong pixels at an edge give.
DECISIVE = 25
PRIORITY = np.array(
    [
        GROUPS.index(name)
        for name in (
            "person", "vehicle", "obstacle", "vegetation", "sidewalk", "other", "drivable",
        )
    ]
)  # fmt: skip


@compiled
def locate(points: Any, motion: Any, rows: int, columns: int, cells: Any) -> None:
    """Write each point's cell, row * columns + column, or -1 outside, to `cells` int32 (N,)."""
    cos, sin, x, y = motion
    for i in range(len(cells)):
        u = cos * points[i, 0] - sin * points[i, 1] + x
        v = sin * points[i, 0] + cos * points[i, 1] + y
        inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
        cells[i] = np.int32(v) * np.int32(columns) + np.int32(u) if inside else np.int32(-1)


@compiled
def collect(cells: Any, groups: Any, weights: Any, looks: Any) -> None:
    """Sum the weights by cell and group into `looks` float32 (cells, 8)."""
    for i in range(len(cells)):
        if cells[i] >= 0 and groups[i] < SKY and weights[i] > 0:
            # A pixel sees its cell at most once, and infinity would spoil the cell's shares.
            looks[cells[i], groups[i]] += min(weights[i], ONE)


@compiled
def merge(looks: Any, evidence: Any) -> None:
    """Add `looks`, at most 1 a cell, to `evidence` float32 (8, cells), and zero them."""
    for c in range(len(looks)):
        total = ZERO
        for g in range(SKY):
            total += looks[c, g]
        if total > 0:
            scale = ONE / max(total, ONE)
            for g in range(SKY):
                evidence[g, c] += scale * looks[c, g]
                looks[c, g] = 0


@compiled
def touch(cells: Any, groups: Any, confidence: Any, looks: Any, evidence: Any) -> None:
    """Add the mean confidence of the contacts in each cell to `evidence` float32 (8, cells)."""
    for i in range(len(cells)):
        if cells[i] >= 0 and groups[i] < SKY and confidence[i] > 0:
            looks[cells[i], groups[i]] += min(confidence[i], ONE)
            looks[cells[i], SKY] += 1  # sky's place is free: it counts the contacts
    for i in range(len(cells)):
        c = cells[i]
        if c >= 0 and looks[c, SKY] > 0:
            for g in range(SKY):
                evidence[g, c] += looks[c, g] / looks[c, SKY]
            looks[c] = 0


@compiled
def decay(evidence: Any, factor: Any) -> None:
    """Multiply `evidence` float32 (n,) by `factor`."""
    for i in range(len(evidence)):
        rest = evidence[i] * factor
        evidence[i] = rest if rest >= VANISHED else ZERO


@compiled
def share(evidence: Any, minimum: Any, shares: Any) -> None:
    """Write the groups' shares in per cent, or -1, to `shares` int8 (8, cells)."""
    total = np.zeros(evidence.shape[1], np.float32)
    for g in range(SKY):
        for c in range(len(total)):
            total[c] += evidence[g, c]
    for g in range(COUNT):
        for c in range(len(total)):
            share = np.float32(100) * (evidence[g, c] / total[c]) + np.float32(0.5)
            shares[g, c] = np.int8(share) if total[c] >= minimum else np.int8(-1)


@compiled
def choose(shares: Any, costs: Any, cost: Any) -> None:
    """Write the cost of the group that decides, or -1, to `cost` int8 (cells,)."""
    for c in range(len(cost)):
        cost[c] = -1
        if shares[0, c] >= 0:
            decisive = -1
            for g in PRIORITY:
                if decisive < 0 and shares[g, c] >= DECISIVE:
                    decisive = g
            sum_so_far = 0
            for g in PRIORITY:
                sum_so_far += shares[g, c]
                if decisive < 0 and sum_so_far >= DECISIVE:
                    decisive = g
            cost[c] = costs[decisive]
