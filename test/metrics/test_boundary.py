"""Boundary IoU equals a direct count, and closed forms."""

from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.metrics.boundary import BoundaryIou
from seg_perception.metrics.metric import LabelledFrame

CLASSES = ("ground", "thing", "wall")
VOID = 9


def score(truth: np.ndarray, labels: np.ndarray, **options: Any) -> dict[str, Any]:
    measure = BoundaryIou(CLASSES, (VOID, 255), **options)
    measure.add(view(truth, labels))
    result = measure.result()
    assert result is not None
    return result


def view(truth: np.ndarray, labels: np.ndarray) -> LabelledFrame:
    return LabelledFrame(0, np.zeros((*truth.shape, 3), np.uint8), labels, truth)


def near_contour(mask: np.ndarray, reach: int) -> np.ndarray:
    """Return the pixels of a mask that see a pixel outside it, or the image's edge, directly."""
    height, width = mask.shape
    near = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        inside = min(y, x, height - 1 - y, width - 1 - x) >= reach
        around = mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        near[y, x] = not (inside and around.all())
    return near


def blobs(random: np.random.Generator, ids: list[int]) -> np.ndarray:
    """Return a label image of 40x60 pixels with smooth regions."""
    heights = [cv2.GaussianBlur(random.random((40, 60)), (0, 0), 5) for _ in ids]
    return np.array(ids, np.uint8)[np.argmax(heights, axis=0)]


def test_it_equals_a_direct_count_on_random_blobs() -> None:
    random = np.random.default_rng(0)
    measure, sums = BoundaryIou(CLASSES, (VOID, 255), width=0.04), np.zeros((3, 2))
    for _ in range(4):
        truth, labels = blobs(random, [0, 1, VOID, 255]), blobs(random, [0, 1, 2, 255])
        measure.add(view(truth, labels))
        known = ~np.isin(truth, (VOID, 255))
        for c in range(3):
            masks = (truth == c) & known, (labels == c) & known
            wanted, given = (near_contour(m, 3) for m in masks)  # 0.04 of 72.1 pixels
            sums[c] += (wanted & given).sum(), (wanted | given).sum()
    result = measure.result()
    assert result is not None
    shares = sums[:, 0] / sums[:, 1]
    np.testing.assert_allclose(list(result["per_class_iou"].values()), shares)
    assert 0.05 < shares[0] < 0.95
    # The wall is predicted, and never true.
    assert result["iou"] == pytest.approx(shares[:2].mean())
    assert result["width"] == 0.04


def test_a_square_one_pixel_too_large_has_the_iou_of_two_frames() -> None:
    truth, labels = np.zeros((2, 60, 80), np.uint8)  # a diagonal of 100 pixels
    truth[20:40, 20:40] = 1
    labels[19:41, 19:41] = 1
    result = score(truth, labels, width=0.03)
    wanted, given = 20**2 - 14**2, 22**2 - 16**2
    both = 20**2 - 16**2  # the truth's frame without what lies too deep in the larger square
    assert result["per_class_iou"]["thing"] == pytest.approx(both / (wanted + given - both))
    assert result["per_class_iou"]["wall"] is None


def test_the_images_edge_is_contour() -> None:
    truth, labels = np.zeros((2, 60, 80), np.uint8)
    labels[10:50, 10:70] = 255
    # The middle is far from the edge, and what is said there is contour of the prediction alone.
    frame = 60 * 80 - 56 * 76
    around_the_middle = 44 * 64 - 40 * 60
    assert score(truth, truth)["iou"] == 1
    assert score(truth, labels)["iou"] == pytest.approx(frame / (frame + around_the_middle))


def test_void_counts_nowhere_and_is_contour_of_both() -> None:
    truth, labels = np.zeros((2, 60, 80), np.uint8)
    truth[20:40, 20:40] = VOID
    labels[22:38, 22:38] = 1
    result = score(truth, labels)
    assert result["iou"] == 1
    assert result["per_class_iou"] == {"ground": 1.0, "thing": None, "wall": None}


def test_nothing_but_void_has_no_result() -> None:
    measure = BoundaryIou(CLASSES, (VOID, 255))
    assert measure.result() is None
    void = np.full((8, 8), VOID, np.uint8)
    measure.add(view(void, np.zeros_like(void)))
    assert measure.result() is None


def test_contours_of_tiny_images_are_one_pixel_wide_at_least() -> None:
    truth = np.zeros((5, 5), np.uint8)
    labels = truth.copy()
    labels[2, 2] = 255  # now all but the corners' neighbours see a pixel outside
    assert score(truth, labels)["iou"] == pytest.approx(16 / 24)
