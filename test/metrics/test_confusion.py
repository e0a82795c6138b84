"""Scores equal a direct count."""

import numpy as np
import pytest

from seg_perception.errors import DataError
from seg_perception.metrics.confusion import ConfusionMatrix


def direct_iou(truth: np.ndarray, predicted: np.ndarray, c: int) -> float:
    known = truth != 11
    union = ((truth == c) | (predicted == c)) & known
    return float(((truth == c) & (predicted == c)).sum() / union.sum())


def test_scores_equal_a_direct_count_over_several_images() -> None:
    random = np.random.default_rng(0)
    matrix = ConfusionMatrix(4, (11,))
    truths = random.choice([0, 1, 2, 11], (3, 20, 30)).astype(np.uint8)
    guesses = random.choice([0, 1, 2, 3, 255], (3, 20, 30)).astype(np.uint8)
    for truth, guess in zip(truths, guesses, strict=True):
        matrix.add(truth, guess)
    expected = [direct_iou(truths, guesses, c) for c in range(4)]
    np.testing.assert_allclose(matrix.iou(), expected)
    # Class 3 is predicted but never true: it lowers the others alone.
    assert matrix.miou() == pytest.approx(np.mean(expected[:3]))
    known = truths != 11
    assert matrix.pixel_accuracy() == pytest.approx((truths == guesses)[known].mean())


def test_void_and_unknown_count_as_the_contract_says() -> None:
    matrix = ConfusionMatrix(2, (11, 255))
    matrix.add(np.uint8([[0, 0, 11, 1]]), np.uint8([[0, 255, 0, 1]]))
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1])
    np.testing.assert_allclose(matrix.iou(void_counted=True), [1 / 3, 1])
    assert matrix.miou() == pytest.approx(0.75)
    assert matrix.pixel_accuracy() == pytest.approx(2 / 3)


def test_nothing_counted_is_not_a_number() -> None:
    assert np.isnan(ConfusionMatrix(2).miou())
    assert np.isnan(ConfusionMatrix(2).pixel_accuracy())


def test_unknown_truth_and_other_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"ids \[7\], neither one of 2 classes nor void"):
        ConfusionMatrix(2).add(np.uint8([[7]]), np.uint8([[0]]))
    with pytest.raises(DataError, match=r"\(1, 2\) and prediction \(1, 1\)"):
        ConfusionMatrix(2).add(np.uint8([[0, 0]]), np.uint8([[0]]))
