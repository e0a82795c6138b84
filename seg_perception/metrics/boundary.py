"""How well the contours of classes agree: Boundary IoU of Cheng et al., CVPR 2021."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.labels import UNKNOWN, counted_ids
from seg_perception.metrics.description import Compared, Description, Headline, Panel, share
from seg_perception.metrics.metric import Context, LabelledFrame, Metric, State

Labels = NDArray[np.uint8]


class BoundaryIou:
    """The IoU of the pixels of each class that lie near the contour of its mask.

    Near is a distance (the larger of rows and columns) of at most d = max(1, round(width x
    diagonal of the image)) to a pixel outside the mask. As in the paper's own code, all beyond
    the image's edge is outside. Void pixels of the truth are taken out of both label images and
    are as what is beyond the edge: they count nowhere, and where they touch a mask is contour in
    both. Predicted 255 is in no mask. Intersections and unions are sums over all images.
    """

    name = "boundary"
    needs_truth = True
    needs_confidence = False
    needs_previous = False
    needs_camera = False

    def __init__(
        self, classes: Sequence[str], void_ids: Collection[int], width: float = 0.02
    ) -> None:
        """Take the names of ids 0, 1, ...; `width` is a share of the image's diagonal."""
        self._classes, self._width = tuple(classes), width
        self._truth_ids = counted_ids(len(self._classes), void_ids)
        self._ids = counted_ids(len(self._classes))
        # Rows: near both contours, the truth's, the prediction's.
        self._pixels = np.zeros((3, len(self._classes)), np.int64)

    @classmethod
    def create(cls, context: Context) -> "BoundaryIou":
        """Return one for the classes of a network."""
        return cls(context.manifest.classes, context.void_ids)

    def observe_previous(self, view: LabelledFrame) -> None:
        """Do nothing: images are counted each by itself."""

    def add(self, view: LabelledFrame) -> None:
        """Count an image with its truth."""
        assert view.truth is not None
        reach = max(1, round(self._width * float(np.hypot(*view.labels.shape))))
        truth = np.asarray(cv2.LUT(view.truth, self._truth_ids), np.uint8)
        predicted = np.asarray(cv2.LUT(view.labels, self._ids), np.uint8)
        predicted[truth == UNKNOWN] = UNKNOWN
        wanted, given = _near_contours(truth, reach), _near_contours(predicted, reach)
        shared = wanted[wanted == given]
        self._pixels += [self._count(ids) for ids in (shared, wanted, given)]

    def state(self) -> State:
        """Return the counts, int64 (3, classes)."""
        return {"pixels": self._pixels.copy()}

    def merge(self, later: State) -> None:
        """Add the counts of other images."""
        self._pixels += later["pixels"]

    def result(self) -> dict[str, Any] | None:
        """Return the IoU of each class and its mean over those that occur in the truth."""
        both, wanted, given = self._pixels
        if not wanted.any():
            return None
        union = wanted + given - both
        shares = {
            name: int(hits) / int(all_) if all_ else None
            for name, hits, all_ in zip(self._classes, both, union, strict=True)
        }
        # No mask is without contour, so every class of the truth has pixels here.
        in_truth = [both[i] / union[i] for i in np.flatnonzero(wanted)]
        return {
            "iou": float(np.mean(in_truth)), "per_class_iou": shares, "width": self._width
        }  # fmt: skip

    @staticmethod
    def describe(result: Mapping[str, Any]) -> Description:
        """Return the mean, and a panel of the classes."""
        mean = share(result["iou"])
        return Description(
            rows=[("boundary IoU", mean)],
            compared=Compared("boundary IoU", result["iou"]),
            headline=Headline(mean, "mean boundary IoU"),
            panel=Panel("boundary IoU", result["per_class_iou"], result["iou"]),
        )

    def _count(self, ids: Labels) -> NDArray[np.int64]:
        return np.bincount(ids.ravel(), minlength=256)[: len(self._classes)]


METRIC: type[Metric] = BoundaryIou


def _near_contours(labels: Labels, reach: int) -> Labels:
    """Return the labels (H,W) with 255 where all of the square of 2 x reach + 1 has one label.

    That is where the least and the largest label in it are the same: one pass for all classes.
    """
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    edge = cv2.BORDER_CONSTANT
    least = cv2.erode(labels, square, borderType=edge, borderValue=UNKNOWN)
    largest = cv2.dilate(labels, square, borderType=edge, borderValue=UNKNOWN)
    near = labels.copy()
    near[least == largest] = UNKNOWN
    return near
