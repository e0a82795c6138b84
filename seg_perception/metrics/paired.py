"""Paired differences of two models on one recording, with bootstrap intervals over its seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import Key
from seg_perception.errors import DataError
from seg_perception.metrics.metric import State

SECOND = 10**9  # nanoseconds
LEVELS = (2.5, 97.5)  # percentiles that hold 95 % between them
MIN_BLOCKS = 5  # from fewer, resampling tells nothing
AT_ONCE = 1 << 22  # weights that are drawn together; bounds the memory of a long recording

Counts = NDArray[np.int64]  # 3 K: pixels that are right, in the truth, and predicted
Floats = NDArray[np.float64]


def class_counts(confusion: Counts) -> Counts:
    """Return int64 (3,K) hits, truth and predicted of ConfusionMatrix's counts (K+1,K+1)."""
    known = confusion[:-1]
    return np.stack([np.diag(confusion)[:-1], known.sum(axis=1), known[:, :-1].sum(axis=0)])


def class_iou(counts: NDArray[Any]) -> Floats:
    """Return the IoU (...,K) of counts (...,3,K), NaN for a class that the truth lacks."""
    hits, truth, predicted = (counts[..., i, :].astype(float) for i in range(3))
    ratio: Floats = np.full(hits.shape, np.nan)
    np.divide(hits, truth + predicted - hits, out=ratio, where=truth > 0)
    return ratio


def mean_iou(counts: NDArray[Any]) -> Floats:
    """Return the mean IoU (...) of counts (...,3,K) over the classes that the truth holds.

    NaN where it holds none.
    """
    iou = class_iou(counts)
    present = np.isfinite(iou)
    mean: Floats = np.full(iou.shape[:-1], np.nan)
    np.divide(np.where(present, iou, 0).sum(-1), present.sum(-1), out=mean, where=present.any(-1))
    return mean


def block_of(key: Key) -> Key:
    """Return the second that a stamp (ns) lies in; an image that has a name is its own block."""
    return key // SECOND if isinstance(key, int) else key


class Blocks:
    """Class counts of a recording, summed over each block; a block may span several parts.

    Images within a second are alike, and to draw them one by one would make intervals too
    narrow: blocks are drawn instead. They are also too narrow where images have names and follow
    each other in time, because each of them is then a block.
    """

    def __init__(self, classes: int) -> None:
        """Begin with no block."""
        self.classes = classes
        self._counts: dict[Key, Counts] = {}

    def add(self, key: Key, counts: Counts) -> None:
        """Add the counts (3,K) of one image."""
        self._sum(block_of(key), counts)

    def keys(self) -> list[Key]:
        """Return the blocks whose truth is not all void, sorted."""
        return sorted(key for key, counts in self._counts.items() if counts[1].any())

    def counts(self) -> Counts:
        """Return int64 (B,3,K) in the order of `keys`."""
        kept = [self._counts[key] for key in self.keys()]
        return np.array(kept, np.int64).reshape(-1, 3, self.classes)

    def state(self) -> State:
        """Return all that was counted, as metric.Metric does."""
        counts = np.array(list(self._counts.values()), np.int64).reshape(-1, 3, self.classes)
        return {"blocks": np.array(list(self._counts)), "counts": counts}

    def merge(self, later: State) -> None:
        """Add what was counted of the images that follow."""
        for key, counts in zip(later["blocks"].tolist(), later["counts"], strict=True):
            self._sum(key, counts)

    def _sum(self, block: Key, counts: Counts) -> None:
        before = self._counts.get(block)
        self._counts[block] = counts.astype(np.int64) if before is None else before + counts


class Interval(NamedTuple):
    """A difference and the interval that holds it with 95 %; None where there is none."""

    difference: float | None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """Return +0.021 (+0.010 to +0.032), as much of it as there is."""
        if self.difference is None:
            return ""
        if self.low is None:
            return f"{self.difference:+.3f}"
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True)
class Difference:
    """What another model has more than the base; in IoU, shares 0..1.

    `better_blocks` is the share of the blocks in which the other's mean IoU is the higher one.
    """

    miou: Interval
    per_class_iou: dict[str, Interval]
    blocks: int
    better_blocks: float
    resamples: int
    unit: str  # what a block is: seconds or images
    note: str = ""  # why there are no intervals

    def content(self, base: str, model: str) -> dict[str, Any]:
        """Return what report.json says of it; `base` and `model` are the names of the two."""
        content = {
            "base": base,
            "model": model,
            "miou": self.miou._asdict(),
            "per_class_iou": {n: i._asdict() for n, i in self.per_class_iou.items()},
            "blocks": self.blocks,
            "better_blocks": self.better_blocks,
            "resamples": self.resamples,
            "unit": self.unit,
        }
        return {**content, "note": self.note} if self.note else content


def compare(
    base: Blocks, other: Blocks, names: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Return the differences other - base with percentile intervals of a paired block bootstrap.

    In each resample the same blocks, drawn with replacement, count for both models (Efron,
    Tibshirani 1993, chapters 8 and 13). The mean is over the classes that the truth of the
    recording, or of the resample, holds. A class that fewer than MIN_BLOCKS blocks hold has no
    interval. Raises DataError when the two were not scored on the same images.
    """
    ours, theirs = _checked(base, other, names)
    pair = np.stack([ours, theirs], axis=1)  # B 2 3 K
    whole = pair.sum(axis=0)
    classes = np.diff(class_iou(whole), axis=0)[0]  # K
    blocks = len(pair)
    bounds: Floats = np.full((2, len(names) + 1), np.nan)
    if blocks >= MIN_BLOCKS:
        bounds = _bounds(pair, resamples, np.random.default_rng(seed))
    bounds[:, :-1][:, (ours[:, 1] > 0).sum(axis=0) < MIN_BLOCKS] = np.nan
    values = [*classes, np.diff(mean_iou(whole))[0]]
    intervals = [Interval(*map(_number, row)) for row in zip(values, *bounds, strict=True)]
    scores = mean_iou(pair)  # B 2
    unit = "seconds" if isinstance(base.keys()[0], int) else "images"
    note = f"{blocks} {unit} are too few for intervals; give {MIN_BLOCKS} or more"
    return Difference(
        miou=intervals[-1],
        per_class_iou=dict(zip(names, intervals, strict=False)),
        blocks=blocks,
        better_blocks=float((scores[:, 1] > scores[:, 0]).mean()),
        resamples=resamples if blocks >= MIN_BLOCKS else 0,
        unit=unit,
        note="" if blocks >= MIN_BLOCKS else note,
    )


def _checked(base: Blocks, other: Blocks, names: Sequence[str]) -> tuple[Counts, Counts]:
    """Return the counts (B,3,K) of both, of the same blocks; DataError where they differ."""
    if not len(names) == base.classes == other.classes:
        raise DataError(
            f"{base.classes} and {other.classes} classes cannot be compared under {len(names)} "
            "names; give models of the same classes"
        )
    strange = sorted(map(str, set(base.keys()) ^ set(other.keys())))
    if not strange:
        ours, theirs = base.counts(), other.counts()
        unequal = (ours[:, 1] != theirs[:, 1]).any(axis=1)
        strange = [str(key) for key, bad in zip(base.keys(), unequal, strict=True) if bad]
    if strange:
        raise DataError(
            f"the two models were not scored on the same images: {len(strange)} blocks differ, "
            f"the first is {strange[0]}; evaluate both on the same recording and truth"
        )
    if not len(ours):
        raise DataError("no image was scored, so nothing can be compared; give truth that is "
                        "not all void")  # fmt: skip
    return ours, theirs


def _bounds(pair: Counts, resamples: int, random: np.random.Generator) -> Floats:
    """Return the interval (2, K+1) of each class's difference, and of the mean's at the end."""
    blocks, classes = len(pair), pair.shape[-1]
    flat = pair.reshape(blocks, -1).astype(float)  # B 6K; sums below 2**53 stay exact
    differences = []
    rows = max(1, AT_ONCE // blocks)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        weights = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=count)  # R B
        drawn = (weights.astype(float) @ flat).reshape(-1, 2, 3, classes)
        mean = np.diff(mean_iou(drawn), axis=1)
        differences.append(np.hstack([np.diff(class_iou(drawn), axis=1)[:, 0], mean]))
    return _percentiles(np.concatenate(differences))


def _percentiles(values: Floats) -> Floats:
    """Return LEVELS (2,N) of each column of (R,N) among what is a number there."""
    bounds: Floats = np.full((len(LEVELS), values.shape[1]), np.nan)
    held = np.isfinite(values).any(axis=0)
    bounds[:, held] = np.nanpercentile(values[:, held], LEVELS, axis=0)
    return bounds


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
