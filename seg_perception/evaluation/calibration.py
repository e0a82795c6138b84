"""Whether confidence tells how often a label is right: expected calibration error and its bins."""

from collections.abc import Collection
from typing import Any

import cv2
import numpy as np

from seg_perception.evaluation.measure import State, View
from seg_perception.evaluation.void import counted_ids
from seg_perception.labels import UNKNOWN

LEVELS = 256  # of confidence; level n means n / 255


class Calibration:
    """Counts of right and wrong pixels at each level of confidence.

    Ignored are void pixels of the truth, and predicted 255, which claims nothing. Bins are of equal
    width and open below, (i/n, (i+1)/n], but for the first, which holds 0 too. ECE is the gap
    between a bin's accuracy and its mean confidence, averaged over pixels; MCE the largest gap,
    often that of a bin with few pixels. Source: Guo et al., ICML 2017, equations 3 and 5.
    """

    name = "calibration"
    needs_truth = True
    needs_confidence = True
    looks_back = False

    def __init__(self, classes: int, void_ids: Collection[int], bins: int = 15) -> None:
        """Take the number of classes, ids 0..classes-1."""
        self._ids = counted_ids(classes, void_ids)
        self._bins = bins
        self._pixels = np.zeros((2, LEVELS), np.int64)  # wrong, right

    def look(self, view: View) -> None:
        """Take no note: pictures are counted each by itself."""

    def add(self, view: View) -> None:
        """Count a picture with its truth and confidence."""
        assert view.truth is not None
        assert view.confidence is not None
        truth = np.asarray(cv2.LUT(view.truth, self._ids), np.uint8)
        counted = (truth != UNKNOWN) & (view.labels != UNKNOWN)
        right = (truth == view.labels)[counted]
        cells = right * np.uint16(LEVELS) + view.confidence[counted]
        self._pixels += np.bincount(cells, minlength=2 * LEVELS).reshape(2, LEVELS)

    def state(self) -> State:
        """Return the counts, int64 (2, 256)."""
        return {"pixels": self._pixels.copy()}

    def merge(self, later: State) -> None:
        """Add the counts of other pictures."""
        self._pixels += later["pixels"]

    def result(self) -> dict[str, Any] | None:
        """Return ECE, MCE, means and the bins; an empty bin has None for its shares."""
        levels = np.arange(LEVELS)
        # In whole numbers, so that a level on the edge of two bins is never a rounding's choice.
        which = np.maximum(-(-levels * self._bins // (LEVELS - 1)) - 1, 0)
        bins = [self._bin(which == i) for i in range(self._bins)]
        whole = self._bin(levels >= 0)
        if not whole["pixels"]:
            return None
        filled = [b for b in bins if b["pixels"]]
        gaps = [abs(b["accuracy"] - b["confidence"]) for b in filled]
        weighted = sum(gap * b["pixels"] for gap, b in zip(gaps, filled, strict=True))
        return {
            "ece": weighted / whole["pixels"],
            "mce": max(gaps),
            "mean_confidence": whole["confidence"],
            "accuracy": whole["accuracy"],
            "bins": bins,
        }

    def _bin(self, levels: Any) -> dict[str, Any]:
        """Return mean confidence and accuracy over `levels`, bool (256,)."""
        at_level = self._pixels.sum(0)[levels]
        pixels, right = int(at_level.sum()), int(self._pixels[1, levels].sum())
        if not pixels:
            return {"confidence": None, "accuracy": None, "pixels": 0}
        confidence = int(at_level @ np.flatnonzero(levels)) / ((LEVELS - 1) * pixels)
        return {"confidence": confidence, "accuracy": right / pixels, "pixels": pixels}
