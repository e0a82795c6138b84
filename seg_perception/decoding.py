"""From coarse class scores to the exact label image, without touching most pixels.

Inside one cell of the coarse grid every interpolated score is a convex combination of its four
corners, so class c can win there only if its largest corner reaches the largest of all smallest
corners. Most cells have one such candidate and are filled; the others compare their candidates
alone. The result equals bilinear upsampling followed by argmax.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.uint8]

# A class whose logit is this far below the winner's changes the 8-bit confidence by less than
# 255 * exp(-NEGLIGIBLE) < 0.012 of a grey level.
NEGLIGIBLE = np.float32(10.0)
# exp(-x) for x in 0..NEGLIGIBLE; half a step is wrong by 0.2 %, at most 0.13 of a grey level.
STEPS = np.float32(256.0)
EXPONENTIALS = np.exp(-np.arange(int(NEGLIGIBLE * STEPS) + 2) / STEPS).astype(np.float32)


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


def decode_scores(scores: Floats, size: tuple[int, int], *, align_corners: bool = False) -> Ids:
    """Return uint8 (H,W): the class of the largest bilinearly upsampled score at each pixel.

    scores float32 (K,h,w), logits or probabilities, 1 <= K <= 255; `size` is (H, W).
    Of equal scores the smaller class wins, as in argmax.
    """
    labels = np.empty(size, np.uint8)
    rows = axis(scores.shape[1], size[0], align_corners=align_corners)
    columns = axis(scores.shape[2], size[1], align_corners=align_corners)
    _labels(np.ascontiguousarray(scores.transpose(1, 2, 0)), *rows, *columns, labels)
    return labels


def decode_confidence(
    scores: Floats,
    labels: Ids,
    *,
    probabilities: bool = False,
    align_corners: bool = False,
) -> Ids:
    """Return uint8 (H,W): 255 x the softmax of the winning class of the upsampled logits.

    scores float32 (K,h,w) and the label image (H,W) that `decode_scores` made of them. The error
    is at most 0.5 (rounding) + 0.13 (table of exp) + 0.012 for each class that is far behind.
    With `probabilities` the winning score itself is scaled.
    """
    confidence = np.empty(labels.shape, np.uint8)
    rows = axis(scores.shape[1], labels.shape[0], align_corners=align_corners)
    columns = axis(scores.shape[2], labels.shape[1], align_corners=align_corners)
    kernel = _winning_score if probabilities else _softmax
    kernel(np.ascontiguousarray(scores.transpose(1, 2, 0)), labels, *rows, *columns, confidence)
    return confidence


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
    labels = decode_scores(scores, (16, 20))
    decode_confidence(scores, labels)
    decode_confidence(scores, labels, probabilities=True)


# The arguments of the kernels: scores (h,w,K), then the fields of two axes, then the output.
# scores are channels-last so that the classes of one corner lie side by side.


@numba.njit(cache=True, nogil=True)
def _bilinear(
    scores: Any, c: int, y0: int, y1: int, x0: int, x1: int, wy: Any, wx: Any
) -> Any:  # pragma: no cover
    one = np.float32(1)
    top = scores[y0, x0, c] * (one - wx) + scores[y0, x1, c] * wx
    bottom = scores[y1, x0, c] * (one - wx) + scores[y1, x1, c] * wx
    return top * (one - wy) + bottom * wy


@numba.njit(cache=True, nogil=True)
def _corners(
    scores: Any, y0: int, y1: int, x0: int, x1: int, largest: Any
) -> Any:  # pragma: no cover
    """Write each class's largest corner; return the largest of all smallest corners."""
    floor = np.float32(-np.inf)
    for c in range(scores.shape[2]):
        a, b = scores[y0, x0, c], scores[y0, x1, c]
        d, e = scores[y1, x0, c], scores[y1, x1, c]
        largest[c] = max(max(a, b), max(d, e))
        floor = max(floor, min(min(a, b), min(d, e)))
    return floor


@numba.njit(cache=True, nogil=True)
def _labels(
    scores: Any, first_y: Any, low_y: Any, high_y: Any, weight_y: Any,
    first_x: Any, low_x: Any, high_x: Any, weight_x: Any, labels: Any,
) -> None:  # fmt: skip  # pragma: no cover
    classes = scores.shape[2]
    largest = np.empty(classes, np.float32)
    candidates = np.empty(classes, np.int64)
    for i in range(len(low_y)):
        y0, y1 = low_y[i], high_y[i]
        for j in range(len(low_x)):
            x0, x1 = low_x[j], high_x[j]
            floor = _corners(scores, y0, y1, x0, x1, largest)
            count = 0
            for c in range(classes):
                if largest[c] >= floor:
                    candidates[count] = c
                    count += 1
            if count == 1:
                for y in range(first_y[i], first_y[i + 1]):
                    for x in range(first_x[j], first_x[j + 1]):
                        labels[y, x] = candidates[0]
                continue
            for y in range(first_y[i], first_y[i + 1]):
                for x in range(first_x[j], first_x[j + 1]):
                    best = candidates[0]
                    score = _bilinear(scores, best, y0, y1, x0, x1, weight_y[y], weight_x[x])
                    for k in range(1, count):
                        c = candidates[k]
                        other = _bilinear(scores, c, y0, y1, x0, x1, weight_y[y], weight_x[x])
                        if other > score:
                            best, score = c, other
                    labels[y, x] = best


@numba.njit(cache=True, nogil=True)
def _softmax(
    scores: Any, labels: Any, first_y: Any, low_y: Any, high_y: Any, weight_y: Any,
    first_x: Any, low_x: Any, high_x: Any, weight_x: Any, confidence: Any,
) -> None:  # fmt: skip  # pragma: no cover
    classes = scores.shape[2]
    half = np.float32(0.5)
    largest = np.empty(classes, np.float32)
    candidates = np.empty(classes, np.int64)
    for i in range(len(low_y)):
        y0, y1 = low_y[i], high_y[i]
        for j in range(len(low_x)):
            x0, x1 = low_x[j], high_x[j]
            floor = _corners(scores, y0, y1, x0, x1, largest) - NEGLIGIBLE
            count = 0
            for c in range(classes):
                if largest[c] >= floor:
                    candidates[count] = c
                    count += 1
            if count == 1:
                for y in range(first_y[i], first_y[i + 1]):
                    for x in range(first_x[j], first_x[j + 1]):
                        confidence[y, x] = 255
                continue
            for y in range(first_y[i], first_y[i + 1]):
                for x in range(first_x[j], first_x[j + 1]):
                    won = labels[y, x]
                    wy, wx = weight_y[y], weight_x[x]
                    score = _bilinear(scores, won, y0, y1, x0, x1, wy, wx)
                    total = np.float32(1)
                    for k in range(count):
                        c = candidates[k]
                        if c != won:
                            other = _bilinear(scores, c, y0, y1, x0, x1, wy, wx)
                            behind = score - other
                            if behind < NEGLIGIBLE:  # of a tie it may be a rounding below 0
                                total += EXPONENTIALS[max(0, int(behind * STEPS + half))]
                    confidence[y, x] = np.uint8(np.float32(255) / total + np.float32(0.5))


@numba.njit(cache=True, nogil=True)
def _winning_score(
    scores: Any, labels: Any, first_y: Any, low_y: Any, high_y: Any, weight_y: Any,
    first_x: Any, low_x: Any, high_x: Any, weight_x: Any, confidence: Any,
) -> None:  # fmt: skip  # pragma: no cover
    for i in range(len(low_y)):
        y0, y1 = low_y[i], high_y[i]
        for j in range(len(low_x)):
            x0, x1 = low_x[j], high_x[j]
            for y in range(first_y[i], first_y[i + 1]):
                for x in range(first_x[j], first_x[j + 1]):
                    wy, wx = weight_y[y], weight_x[x]
                    score = _bilinear(scores, labels[y, x], y0, y1, x0, x1, wy, wx)
                    scaled = min(max(score, np.float32(0)), np.float32(1)) * np.float32(255)
                    confidence[y, x] = np.uint8(scaled + np.float32(0.5))
