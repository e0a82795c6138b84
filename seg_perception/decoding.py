"""From coarse class scores to the exact label image of the picture's size, and its confidence.

Exact means: the classes that bilinear upsampling followed by argmax gives, up to rounding where
two scores tie. One decoder a kind of output; the kernels are in cells.py.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception import cells

Floats = NDArray[np.float32]
Ids = NDArray[np.uint8]


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
    """Place `fine` pixels on `coarse` samples with the float32 index formula of torch and ONNX.

    The formula must be theirs to the bit: in float64 some pixels fall into the next cell.
    """
    pixel = np.arange(fine, dtype=np.float32)
    if align_corners:
        ratio = np.float32(coarse - 1) / np.float32(fine - 1) if fine > 1 else np.float32(0)
        source = pixel * ratio
    else:
        ratio = np.float32(coarse) / np.float32(fine)
        source = np.maximum((pixel + np.float32(0.5)) * ratio - np.float32(0.5), np.float32(0))
    low = np.minimum(source.astype(np.int32), coarse - 1)
    weight = np.clip(source - low.astype(np.float32), 0, 1).astype(np.float32)
    cells, first = np.unique(low, return_index=True)
    return Axis(
        np.append(first, fine).astype(np.int32),
        cells.astype(np.int32),
        np.minimum(cells + 1, coarse - 1).astype(np.int32),
        weight,
    )


@lru_cache(maxsize=4)
def _grid(coarse: tuple[int, int], size: tuple[int, int], align_corners: bool) -> cells.Grid:
    """Lay out the cells of a picture of `size` (height, width) over `coarse` scores."""
    rows = axis(coarse[0], size[0], align_corners=align_corners)
    columns = axis(coarse[1], size[1], align_corners=align_corners)
    height, width = int(np.diff(rows.first).max()), int(np.diff(columns.first).max())

    def spread(a: Axis, longest: int) -> Floats:
        """Return the weights (cells, longest); a shorter cell repeats its last pixel's."""
        pixel = a.first[:-1, None] + np.arange(longest)
        return np.asarray(a.weight[np.minimum(pixel, a.first[1:, None] - 1)], np.float32)

    down, right = spread(rows, height), spread(columns, width)
    return cells.Grid(
        rows.first, rows.low, rows.high, np.repeat(down, width, axis=1),
        columns.first, columns.low, columns.high, np.tile(right, (1, height)), width,
    )  # fmt: skip


def decode_scores(scores: Floats, size: tuple[int, int], *, align_corners: bool = False) -> Ids:
    """Return uint8 (H,W): the class of the largest bilinearly upsampled score at each pixel.

    scores float32 (K,h,w), logits or probabilities, 1 <= K <= 255; `size` is (H, W).
    Of equal scores the smaller class wins, as in argmax; where all scores are NaN it is class 0,
    with confidence 0.
    """
    labels = np.empty(size, np.uint8)
    grid = _grid(scores.shape[1:], size, align_corners)
    cells.write_labels(np.ascontiguousarray(scores), grid, labels)
    return labels


def decode_confidence(
    scores: Floats,
    size: tuple[int, int],
    *,
    probabilities: bool = False,
    align_corners: bool = False,
) -> Ids:
    """Return uint8 (H,W): 255 x the largest softmax of the upsampled logits at each pixel.

    scores float32 (K,h,w); `size` is (H, W). The error is below 0.8 of a grey level: 0.5 of
    rounding, 0.25 of classes that are left out as negligible, 0.01 of exp. With `probabilities` the
    winning score itself is scaled.
    """
    confidence = np.empty(size, np.uint8)
    grid = _grid(scores.shape[1:], size, align_corners)
    write = cells.write_winning_score if probabilities else cells.write_confidence
    write(np.ascontiguousarray(scores), grid, confidence)
    return confidence


def resize_scores(scores: Floats, size: tuple[int, int], *, align_corners: bool = False) -> Floats:
    """Return float32 (K,h,w) resized bilinearly to `size` (H, W), as torch does it."""
    if scores.shape[1:] == size:
        return scores
    for dim, fine in ((1, size[0]), (2, size[1])):
        place = axis(scores.shape[dim], fine, align_corners=align_corners)
        pixels = np.diff(place.first)
        low = np.take(scores, np.repeat(place.low, pixels), axis=dim)
        high = np.take(scores, np.repeat(place.high, pixels), axis=dim)
        weight = place.weight.reshape((1, -1, 1) if dim == 1 else (1, 1, -1))
        high -= low
        high *= weight
        scores = low
        scores += high
    return scores


def decode_labels(coarse: Ids, size: tuple[int, int]) -> Ids:
    """Return uint8 (H,W): the nearest coarse label of each pixel centre (nearest-exact)."""

    def index(small: int, large: int) -> NDArray[np.intp]:
        centre = (np.arange(large, dtype=np.float32) + np.float32(0.5)) * np.float32(small / large)
        return np.minimum(centre.astype(np.intp), small - 1)

    rows, columns = index(coarse.shape[0], size[0]), index(coarse.shape[1], size[1])
    return np.ascontiguousarray(coarse[rows[:, None], columns[None, :]])


def warm_up() -> None:
    """Compile, or load from the cache, so that no frame waits for it."""
    scores = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    decode_scores(scores, (16, 20))
    decode_confidence(scores, (16, 20))
    decode_confidence(scores, (16, 20), probabilities=True)
