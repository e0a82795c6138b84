"""Fuzz the label stage against torch: interpolation, then argmax.

`python test/support/label_fuzz.py 20` checks 20 million pixels of bilinear scores, cubic ones and
masks of queries each, and prints the counts as JSON; exit 1 when one is wrong.
"""

import json
import sys
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from seg_perception import decoding

TIE = 1e-4  # of two scores this close either class is right


class Case(NamedTuple):
    """One random image: scores (K,h,w), the size that they grow to, and the formula.

    With `shares` (Q,K) the scores are masks (Q,h,w) of queries.
    """

    scores: np.ndarray
    size: tuple[int, int]
    align_corners: bool
    interpolation: str = "bilinear"
    shares: np.ndarray | None = None


class Counts(NamedTuple):
    """Pixels that were checked, pixels where the two best scores tie, pixels that are wrong."""

    pixels: int
    ties: int
    wrong: int


def draw(random: np.random.Generator) -> Case:
    """Return a case: 2 to 255 classes, any ratio of the sizes, noise or smooth or saturated."""
    classes = round(float(np.exp(random.uniform(np.log(2), np.log(255)))))
    coarse = random.integers(1, 70, 2)
    if random.random() < 0.5:
        size = np.maximum(1, (coarse * random.uniform(0.3, 12)).astype(int))
    else:
        size = random.integers(1, 400, 2)
    scores = random.normal(0, 3, (classes, *coarse))
    kind = random.integers(3)
    if kind == 0:  # regions, as networks give
        means = random.normal(0, 5, (classes, -(-coarse[0] // 8), -(-coarse[1] // 8)))
        regions = np.kron(means, np.ones((1, 8, 8)))[:, : coarse[0], : coarse[1]]
        scores = regions + 0.1 * scores
    elif kind == 1:  # probabilities
        scores = np.exp(scores - scores.max(0)) / np.exp(scores - scores.max(0)).sum(0)
    return Case(scores.astype(np.float32), (int(size[0]), int(size[1])), bool(random.integers(2)))


def draw_cubic(random: np.random.Generator) -> Case:
    """Return a case whose interpolation is cubic."""
    return draw(random)._replace(interpolation="cubic")


def draw_masks(random: np.random.Generator) -> Case:
    """Return a case of up to 255 queries and 2 to 99 classes."""
    case = draw(random)
    logits = random.normal(0, random.uniform(1, 5), (len(case.scores), random.integers(3, 101)))
    shares = torch.from_numpy(logits.astype(np.float32)).softmax(1)[:, :-1].numpy()
    return case._replace(shares=shares)


def decoded(case: Case) -> np.ndarray:
    """Return the labels that the product gives."""
    if case.shares is not None:
        labels, _ = decoding.decode_masks(
            case.scores, case.shares, case.size, align_corners=case.align_corners,
            with_confidence=False,
        )  # fmt: skip
        return labels
    return decoding.decode_scores(
        case.scores, case.size, align_corners=case.align_corners, interpolation=case.interpolation
    )


def grown(case: Case) -> torch.Tensor:
    """Return the scores (K,H,W) of every pixel, by torch."""
    mode = "bicubic" if case.interpolation == "cubic" else "bilinear"
    scores = torch.from_numpy(case.scores)[None]
    full = F.interpolate(scores, case.size, mode=mode, align_corners=case.align_corners)[0]
    if case.shares is None:
        return full
    return torch.einsum("qk,qhw->khw", torch.from_numpy(case.shares), full.sigmoid())


def check(case: Case) -> Counts:
    """Compare one case with torch."""
    labels, full = decoded(case), grown(case)
    best, winner = full.max(0)
    full.scatter_(0, winner[None], -torch.inf)  # what is left of topk costs a third of it
    tie = (best - full.amax(0) <= TIE).numpy()
    wrong = (winner.numpy() != labels) & ~tie
    return Counts(labels.size, int(tie.sum()), int(wrong.sum()))


DRAWS = {"bilinear": draw, "cubic": draw_cubic, "masks": draw_masks}


def fuzz(megapixels: float, seed: int = 0, *, decoder: str = "bilinear") -> Counts:
    """Check random cases of one of DRAWS until so many pixels were compared."""
    random = np.random.default_rng(seed)
    total = Counts(0, 0, 0)
    while total.pixels < megapixels * 1e6:
        total = Counts(*(a + b for a, b in zip(total, check(DRAWS[decoder](random)), strict=True)))
    return total


if __name__ == "__main__":
    counts = {name: fuzz(float(sys.argv[1]), decoder=name) for name in DRAWS}
    print(json.dumps({"label_fuzz": {name: c._asdict() for name, c in counts.items()}}))
    sys.exit(1 if any(c.wrong for c in counts.values()) else 0)
