"""How far two float32 computations of one thing may be apart, and labels that are equal but for it.

A tolerance in a test of float32 arithmetic comes from here or from `reference.tolerance`, which is
the goldens' rule for whole networks; both bound rounding, none is a number that happened to pass.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from seg_perception.decoding import outputs
from seg_perception.decoding.masks import NEGLIGIBLE

EPS = float(np.finfo(np.float32).eps)
# Of a confidence, in grey levels: half by rounding, a quarter by classes that are left out of the
# softmax as negligible, a hundredth by float32 and its exp (seg_perception/decoding).
OF_A_SCORE = 0.5 + 0.01
OF_A_SOFTMAX = 0.5 + 0.25 + 0.01


def of_a_sum(terms: int) -> float:
    """Return the relative rounding of a float32 sum of so many terms of one sign."""
    return terms * EPS


def of_a_resize(scores: np.ndarray, way: str = "bilinear") -> float:
    """Return how far two resizes of scores (...,h,w) may be apart.

    Four products and three sums of values up to the largest; and a place among n cells is rounded
    to n/2 EPS, along the steepest slope there is. Twice, since both round. A cubic sums sixteen
    products, and the sizes of its weights add up to 1.375 along rows and along columns.
    """
    largest, cells = float(np.abs(scores).max()), max(scores.shape[-2:])
    operations, gain = (31, 1.375**2) if way == "cubic" else (7, 1.0)
    return 2 * EPS * gain * (operations * largest + cells / 2 * 2 * largest)


def full_scores(
    y: Any, inside: tuple[int, int], size: tuple[int, int], fed: tuple[int, int]
) -> np.ndarray:
    """Return the scores (K,H,W) at the image's size, in float64, of scores or Masks at the grid.

    `inside` is the part of the network's input `fed` that holds the image.
    """
    planes, classes = (y.planes, y.class_logits) if isinstance(y, outputs.Masks) else (y, None)
    rows, columns = outputs.inside_of(planes.shape[-2:], inside, fed)
    part = torch.as_tensor(np.asarray(planes)[..., :rows, :columns]).double()
    full = F.interpolate(part, size, mode="bilinear", align_corners=False)[0]
    if classes is None:
        return full.numpy()
    shares = torch.as_tensor(np.asarray(classes)).double().softmax(-1)[0, :, :-1]
    result: np.ndarray = torch.einsum("qk,qhw->khw", shares, full.sigmoid()).numpy()
    return result


def only_ties_differ(one: Any, other: Any, scores: np.ndarray, tolerance: float) -> bool:
    """Return whether two label images (H,W) differ only where their scores (K,H,W) nearly tie."""
    one, other = np.asarray(one, np.int64), np.asarray(other, np.int64)
    of_one, of_other = (np.take_along_axis(scores, a[None], 0)[0] for a in (one, other))
    return bool(np.abs(of_one - of_other).max() <= 2 * tolerance + 2 * float(NEGLIGIBLE))
