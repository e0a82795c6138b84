"""Where the pixels of an image lie on the coarse grid of scores, for both ways to interpolate.

The index formulas must be torch's and ONNX's to the bit: in float64 some pixels fall into the next
cell.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding import cells, cubic

Floats = NDArray[np.float32]
STEEPNESS = np.float32(-0.75)  # a of the cubic convolution in torch, OpenCV and, by default, ONNX


class Axis(NamedTuple):
    """Where the pixels of one axis lie on the coarse grid.

    `first` int32 (cells + 1): first pixel of each cell, the last entry is the pixel count.
    `low`, `high` int32 (cells,): the cell's two coarse indices. `weight` float32 (pixels,) of
    `high`.
    """

    first: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    weight: Floats


def axis(coarse: int, fine: int, *, align_corners: bool = False) -> Axis:
    """Place `fine` pixels between the two of `coarse` samples that bilinear resizing reads."""
    source = np.maximum(_source(coarse, fine, align_corners), np.float32(0))
    low = np.minimum(source.astype(np.int32), coarse - 1)
    weight = np.clip(source - low.astype(np.float32), 0, 1).astype(np.float32)
    found, first = np.unique(low, return_index=True)
    return Axis(
        np.append(first, fine).astype(np.int32),
        found.astype(np.int32),
        np.minimum(found + 1, coarse - 1).astype(np.int32),
        weight,
    )


@lru_cache(maxsize=4)
def bilinear_grid(
    coarse: tuple[int, ...], size: tuple[int, int], align_corners: bool
) -> cells.Grid:
    """Lay out the cells of an image of `size` (height, width) over `coarse` scores."""
    rows = axis(coarse[0], size[0], align_corners=align_corners)
    columns = axis(coarse[1], size[1], align_corners=align_corners)
    height, width = _longest(rows.first), _longest(columns.first)
    down, right = _spread(rows.weight, rows.first), _spread(columns.weight, columns.first)
    return cells.Grid(
        rows.first, rows.low, rows.high, np.repeat(down, width, axis=1),
        columns.first, columns.low, columns.high, np.tile(right, (1, height)), width,
    )  # fmt: skip


@lru_cache(maxsize=4)
def cubic_grid(coarse: tuple[int, ...], size: tuple[int, int], align_corners: bool) -> cubic.Grid:
    """Lay out the cells of an image of `size` (height, width) over `coarse` scores."""
    first_y, low_y, down = _cubic_axis(coarse[0], size[0], align_corners)
    first_x, low_x, right = _cubic_axis(coarse[1], size[1], align_corners)
    height, width = _longest(first_y), _longest(first_x)
    return cubic.Grid(
        first_y, low_y, np.repeat(down, width, axis=2),
        first_x, low_x, np.tile(right, (1, 1, height)), width,
    )  # fmt: skip


def _cubic_axis(
    coarse: int, fine: int, align_corners: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Return the cells' first pixels, how far each is from the first cell there can be, weights.

    Weights are float32 (cells,4,P), of the samples before, low, high and after. Source: Keys 1981.
    """
    source = _source(coarse, fine, align_corners)
    low = np.clip(np.floor(source).astype(np.int32), -1, coarse - 1)
    t = np.clip(source - low.astype(np.float32), 0, 1).astype(np.float32)
    far, near = np.stack([t + 1, 2 - t]), np.stack([t, 1 - t])
    a = STEEPNESS
    outer = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    inner = ((a + 2) * near - (a + 3)) * near * near + 1
    found, starts = np.unique(low, return_index=True)
    first = np.asarray(np.append(starts, fine), np.int32)
    weights = [_spread(w, first) for w in (outer[0], inner[0], inner[1], outer[1])]
    return first, np.asarray(found + 1, np.int32), np.stack(weights, axis=1)


def _source(coarse: int, fine: int, align_corners: bool) -> Floats:
    """Return the coarse coordinate of every pixel; before the first sample it is negative."""
    pixel = np.arange(fine, dtype=np.float32)
    if align_corners:
        ratio = np.float32(coarse - 1) / np.float32(fine - 1) if fine > 1 else np.float32(0)
        return np.asarray(pixel * ratio, np.float32)
    ratio = np.float32(coarse) / np.float32(fine)
    return np.asarray((pixel + np.float32(0.5)) * ratio - np.float32(0.5), np.float32)


def _longest(first: NDArray[np.int32]) -> int:
    return int(np.diff(first).max())


def _spread(weight: Floats, first: NDArray[np.int32]) -> Floats:
    """Return weights (cells, longest cell); a shorter cell repeats its last pixel's."""
    pixel = first[:-1, None] + np.arange(_longest(first))
    return np.asarray(weight[np.minimum(pixel, first[1:, None] - 1)], np.float32)
