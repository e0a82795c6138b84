"""From coarse class scores to the exact label image of the image's size, and its confidence.

Exact means: the classes that interpolation followed by argmax gives, up to rounding where two
scores tie. One decoder a kind of output, and one module of kernels a way to interpolate: cells.py
(bilinear), cubic.py, masks.py (bilinear, then a sigmoid, then a sum).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding import cells, cubic, masks
from seg_perception.decoding.axes import axis, bilinear_grid, cubic_grid

Floats = NDArray[np.float32]
Ids = NDArray[np.uint8]
FEW_PIXELS = 8  # a cell of fewer costs more to bound than to compute


def decode_scores(
    scores: Floats,
    size: tuple[int, int],
    *,
    align_corners: bool = False,
    interpolation: str = "bilinear",
) -> Ids:
    """Return uint8 (H,W): the class of the largest upsampled score at each pixel.

    scores float32 (K,h,w), logits or probabilities, 1 <= K <= 255; `size` is (H, W);
    `interpolation` is bilinear or cubic (a = -0.75). Of equal scores the smaller class wins, as in
    argmax; where all scores are NaN it is class 0, with confidence 0.
    """
    labels = np.empty(size, np.uint8)
    kernels, grid = _way(interpolation, scores.shape[1:], size, align_corners)
    kernels.write_labels(np.ascontiguousarray(scores), grid, labels)
    return labels


def decode_confidence(
    scores: Floats,
    size: tuple[int, int],
    *,
    kind: str = "logits",
    align_corners: bool = False,
    interpolation: str = "bilinear",
) -> Ids:
    """Return uint8 (H,W): 255 x what the winner's score says of its probability at each pixel.

    scores float32 (K,h,w); `size` is (H, W). Of logits that is the softmax, with an error below 0.8
    of a grey level: 0.5 of rounding, 0.25 of classes that are left out as negligible, 0.01 of exp.
    Of probabilities it is the score itself, of masks its sigmoid, both within 0.51.
    """
    confidence = np.empty(size, np.uint8)
    kernels, grid = _way(interpolation, scores.shape[1:], size, align_corners)
    scores = np.ascontiguousarray(scores)
    if kind == "logits":
        kernels.write_confidence(scores, grid, confidence)
    else:
        kernels.write_winning_score(scores, grid, kind == "masks", confidence)
    return confidence


def _way(
    interpolation: str, coarse: tuple[int, ...], size: tuple[int, int], align_corners: bool
) -> tuple[Any, Any]:
    """Return the kernels of a way to interpolate, and their grid; at one size all are equal."""
    if interpolation == "cubic" and coarse != size:
        return cubic, cubic_grid(coarse, size, align_corners)
    return cells, bilinear_grid(coarse, size, align_corners)


def decode_masks(
    planes: Floats,
    shares: Floats,
    size: tuple[int, int],
    *,
    align_corners: bool = False,
    with_confidence: bool = True,
) -> tuple[Ids, Ids | None]:
    """Return labels and confidence uint8 (H,W) of the masks of queries, where asked for.

    planes float32 (Q,h,w), before the resize and the sigmoid; shares float32 (Q,K), 0..1: how much
    of each query's mask is of each class; `size` is (H, W). A class's score is the sum over the
    queries of share x sigmoid(bilinear(mask)); confidence is 255 x the winner's, at most 255.
    """
    rows, columns = planes.shape[1:]
    if size[0] * size[1] < FEW_PIXELS * rows * columns:
        return _masks_by_line(planes, shares, size, align_corners, with_confidence)
    labels = np.empty(size, np.uint8)
    confidence = np.empty(size if with_confidence else (0, 0), np.uint8)
    grid = bilinear_grid(planes.shape[1:], size, align_corners)
    masks.write(
        np.ascontiguousarray(planes), np.ascontiguousarray(shares), grid, labels, confidence
    )
    return labels, confidence if with_confidence else None


def _masks_by_line(
    planes: Floats, shares: Floats, size: tuple[int, int], align_corners: bool, confident: bool
) -> tuple[Ids, Ids | None]:
    """Do the same for masks that are about as fine as the image: every pixel is computed."""
    labels, confidence = np.empty(size, np.uint8), np.empty(size, np.uint8)
    place = axis(planes.shape[1], size[0], align_corners=align_corners)
    of_pixel = np.repeat(np.arange(len(place.low)), np.diff(place.first))
    for y, cell in enumerate(of_pixel):
        low, high = planes[:, place.low[cell]], planes[:, place.high[cell]]
        line = (low + place.weight[y] * (high - low))[:, None]  # Q 1 w
        line = resize_scores(line, (1, size[1]), align_corners=align_corners)[:, 0]
        scores = shares.T @ sigmoid(line)
        labels[y] = scores.argmax(0)
        confidence[y] = np.nan_to_num(np.clip(scores.max(0), 0, 1)) * 255 + 0.5
    return labels, confidence if confident else None


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e), np.float32)


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
    decode_confidence(scores, (16, 20), kind="probabilities")
