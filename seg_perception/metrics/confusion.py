"""Segmentation scores from a confusion matrix that images add to one by one."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError


@dataclass
class ConfusionMatrix:
    """Count pixels by (truth, prediction) for `classes` ids 0..classes-1.

    Void pixels of the truth are ignored. A prediction that is no class (255: unknown) has a
    column of its own, so that it counts as a miss of the true class and as nobody's false
    positive. `counts` is int64 (classes + 1, classes + 1); the last row holds what was
    predicted on void, the last column the unknown predictions.
    """

    classes: int
    void_ids: Collection[int] = (255,)
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes + 1, self.classes + 1), np.int64)
        row = np.full(256, -1, np.int64)
        row[: self.classes] = np.arange(self.classes)
        row[list(self.void_ids)] = self.classes
        self._row = row
        self._column = np.minimum(np.arange(256), self.classes)

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Add one image, two uint8 (H,W) label images, and return its own counts.

        Raises DataError when they do not fit.
        """
        if truth.shape != predicted.shape:
            raise DataError(
                f"truth is {truth.shape} and prediction {predicted.shape}: "
                "give label images of the image's own size"
            )
        rows = self._row[truth]
        if rows.min(initial=0) < 0:
            unknown = sorted(int(i) for i in np.unique(truth[rows < 0]))
            raise DataError(
                f"truth holds ids {unknown}, neither one of {self.classes} classes nor void "
                f"{sorted(self.void_ids)}: name them as void or use the right class list"
            )
        size = self.classes + 1
        pairs = rows * size + self._column[predicted]
        counts = np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size)
        self.counts += counts
        return counts

    def iou(self, *, void_counted: bool = False) -> NDArray[np.float64]:
        """Return the intersection over union of each class, NaN where it never occurs.

        `void_counted`: predictions on void pixels count as false positives.
        """
        hits = np.diag(self.counts)[:-1].astype(float)
        in_truth = self.counts[:-1].sum(axis=1)
        predicted = self.counts[:-1, :-1].sum(axis=0)
        if void_counted:
            predicted = predicted + self.counts[-1, :-1]
        union = in_truth + predicted - hits
        ratio: NDArray[np.float64] = np.full(self.classes, np.nan)
        np.divide(hits, union, out=ratio, where=union > 0)
        return ratio

    def miou(self, *, void_counted: bool = False) -> float:
        """Return the mean IoU over the classes that the truth holds (NaN when it holds none)."""
        present = self.counts[:-1].sum(axis=1) > 0
        return (
            float(self.iou(void_counted=void_counted)[present].mean()) if present.any() else np.nan
        )

    def pixel_accuracy(self) -> float:
        """Return the share of right pixels among those with a true class (NaN without any)."""
        total = int(self.counts[:-1].sum())
        return float(np.diag(self.counts)[:-1].sum() / total) if total else np.nan
