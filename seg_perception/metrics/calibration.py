"""Whether confidence tells how often a label is right: expected calibration error and its bins."""

from collections.abc import Collection, Mapping
from typing import Any

import cv2
import numpy as np

from seg_perception.labels import UNKNOWN, counted_ids
from seg_perception.metrics.description import Compared, Description, Reliability, share
from seg_perception.metrics.metric import Context, LabelledFrame, Metric, State

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
    needs_previous = False
    needs_camera = False

    def __init__(self, classes: int, void_ids: Collection[int], bins: int = 15) -> None:
        """Take the number of classes, ids 0..classes-1."""
        self._ids = counted_ids(classes, void_ids)
        self._bins = bins
        self._pixels = np.zeros((2, LEVELS), np.int64)  # wrong, right

    @classmethod
    def create(cls, context: Context) -> "Calibration":
        """Return one for the classes of a network."""
        return cls(len(context.manifest.classes), context.void_ids)

    def observe_previous(self, view: LabelledFrame) -> None:
        """Do nothing: images are counted each by itself."""

    def add(self, view: LabelledFrame) -> None:
        """Count an image with its truth and confidence."""
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
        """Add the counts of other images."""
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

    @staticmethod
    def describe(result: Mapping[str, Any]) -> Description:
        """Return the mean error, and the chart of the bins."""
        error, largest = share(result["ece"]), share(result["mce"])
        says, is_right = share(result["mean_confidence"]), share(result["accuracy"])
        text = (
            f"Over all pixels the confidence is off by {error} in the mean and by {largest} in the "
            f"worst bin: it says {says}, and {is_right} of the labels are right."
        )
        return Description(
            rows=[("calibration error (ECE)", error)],
            compared=Compared("calibration error", result["ece"]),
            reliability=Reliability("Confidence: how often it is right", result["bins"], text),
        )

    def _bin(self, levels: Any) -> dict[str, Any]:
        """Return mean confidence and accuracy over `levels`, bool (256,)."""
        at_level = self._pixels.sum(0)[levels]
        pixels, right = int(at_level.sum()), int(self._pixels[1, levels].sum())
        if not pixels:
            return {"confidence": None, "accuracy": None, "pixels": 0}
        confidence = int(at_level @ np.flatnonzero(levels)) / ((LEVELS - 1) * pixels)
        return {"confidence": confidence, "accuracy": right / pixels, "pixels": pixels}


METRIC: type[Metric] = Calibration
