"""The small matched set of mask, confidence and cloud that Nav2's semantic layer reads."""

from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding.cells import compiled
from seg_perception.labels import UNKNOWN
from seg_perception.occupancy.camera import Ground, Pose
from seg_perception.occupancy.column_scan import NONE, Seen

MAX_CLOUD = 320_000  # bytes of an organised cloud that still arrives best effort
POINT = 12  # bytes: x, y, z as float32
# Of the pixels that become one, the most important speaks: person, vehicle, obstacle, vegetation,
# sidewalk, other, drivable, sky; ids 0..7.
IMPORTANCE = (3, 2, 4, 6, 8, 7, 5, 1)


class CostmapSet(NamedTuple):
    """Pixel-aligned arrays of one size: mask uint8 (h,w), confidence uint8 (h,w), and points
    float32 (h,w,3) in the camera's optical frame, NaN in all three where nothing is known."""

    mask: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    points: NDArray[np.float32]


def step_for(height: int, width: int) -> int:
    """Return how many pixels a side become one, so that the cloud stays small."""
    step = 1
    while ceil(height / step) * ceil(width / step) * POINT > MAX_CLOUD:
        step += 1
    return step


def reduce(
    groups: NDArray[np.uint8],
    confidence: NDArray[np.uint8] | None,
    seen: Seen,
    ground: Ground,
    from_base: Pose,
) -> CostmapSet:
    """Return the reduced set of group ids (H,W); a thing's pixels get their ground contact's point.

    Without confidence, 255 stands everywhere. `from_base` takes base into the optical frame.
    """
    height, width = groups.shape
    step = step_for(height, width)
    size = (ceil(height / step), ceil(width / step))
    importance = np.zeros(256, np.int32)
    importance[: len(IMPORTANCE)] = IMPORTANCE
    chosen = np.empty((*size, 2), np.int32)
    _choose(groups, seen.foot, importance, step, chosen)
    rows, cols = chosen[..., 0], chosen[..., 1]
    feet = seen.foot[rows, cols]
    known = feet != NONE
    base = np.zeros((int(known.sum()), 3))
    base[:, :2] = ground.points.reshape(-1, 2)[feet[known]]
    points = np.full((*size, 3), np.nan, np.float32)
    points[known] = from_base.apply(base)
    sure = np.full(size, UNKNOWN, np.uint8) if confidence is None else confidence[rows, cols]
    return CostmapSet(np.ascontiguousarray(groups[rows, cols]), np.ascontiguousarray(sure), points)


def warm_up() -> None:
    """Compile, or load from the cache, so that no frame waits for it."""
    groups, foot = np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.int32)
    _choose(groups, foot, np.zeros(256, np.int32), 1, np.empty((1, 1, 2), np.int32))


@compiled
def _choose(groups: Any, foot: Any, importance: Any, step: int, chosen: Any) -> None:
    """Write row and column of the pixel that speaks for each block."""
    height, width = groups.shape
    for y in range(chosen.shape[0]):
        for x in range(chosen.shape[1]):
            best = -1
            for row in range(y * step, min((y + 1) * step, height)):
                for column in range(x * step, min((x + 1) * step, width)):
                    # Of equal groups one with a known place speaks.
                    rank = 2 * importance[groups[row, column]] + (foot[row, column] >= 0)
                    if rank > best:
                        best = rank
                        chosen[y, x, 0] = row
                        chosen[y, x, 1] = column
