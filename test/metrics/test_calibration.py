"""The calibration error equals closed forms, a direct sum and scikit-learn's curve."""

from typing import Any

import numpy as np
import pytest

from seg_perception.metrics.calibration import Calibration
from seg_perception.metrics.metric import LabelledFrame

VOID = 9


def measured(
    truth: np.ndarray, labels: np.ndarray, confidence: np.ndarray, bins: int = 15
) -> dict[str, Any]:
    measure = Calibration(3, (VOID, 255), bins)
    image = np.zeros((*truth.shape, 3), np.uint8)
    measure.add(LabelledFrame(0, image, labels, truth, confidence))
    result = measure.result()
    assert result is not None
    return result


def noisy(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, labels and a confidence that knows a little of where they agree."""
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 2, VOID], (50, 80)).astype(np.uint8)
    labels = random.choice([0, 1, 2, 255], (50, 80)).astype(np.uint8)
    confidence = random.integers(0, 256, (50, 80)) // 2 + 127 * (truth == labels)
    return truth, labels, confidence.astype(np.uint8)


def test_a_network_that_is_sure_and_wrong_has_the_gap_as_its_error() -> None:
    truth = np.zeros((4, 10), np.uint8)
    labels = truth.copy()
    labels[0] = 1
    result = measured(truth, labels, np.full(truth.shape, 255, np.uint8))
    assert result["ece"] == result["mce"] == 0.25
    assert (result["mean_confidence"], result["accuracy"]) == (1.0, 0.75)
    assert [b["pixels"] for b in result["bins"]] == [0] * 14 + [40]
    assert result["bins"][0] == {"confidence": None, "accuracy": None, "pixels": 0}


def test_confidence_that_equals_accuracy_has_no_error() -> None:
    truth, labels = np.zeros((2, 15, 10), np.uint8)
    labels[0:5, 3:] = 1  # 3 of 10 are right
    labels[5:15, 8:] = 1  # 8 of 10
    confidence = np.full(truth.shape, 204, np.uint8)  # 0.8
    confidence[0:5] = 77  # 0.302: no level is 0.3
    result = measured(truth, labels, confidence)
    assert result["mce"] == pytest.approx(77 / 255 - 0.3)
    assert result["ece"] == pytest.approx(result["mce"] / 3)


def test_void_and_unknown_are_ignored() -> None:
    truth = np.uint8([[0, VOID, 1, 2]])
    labels = np.uint8([[0, 1, 255, 1]])
    result = measured(truth, labels, np.uint8([[255, 10, 20, 255]]))
    assert sum(b["pixels"] for b in result["bins"]) == 2
    assert (result["accuracy"], result["mean_confidence"]) == (0.5, 1.0)


def test_a_level_between_two_bins_belongs_to_the_lower_one() -> None:
    levels = np.uint8([[0, 17, 18, 34, 35, 255]])  # 17 / 255 is 1 / 15
    truth = np.zeros_like(levels)
    pixels = [b["pixels"] for b in measured(truth, truth, levels)["bins"]]
    assert pixels == [2, 2, 1] + [0] * 11 + [1]


@pytest.mark.parametrize("bins", [1, 7, 16])
def test_it_equals_a_direct_sum(bins: int) -> None:
    truth, labels, confidence = noisy()
    known = (truth != VOID) & (labels != 255)
    sure, right = confidence[known] / 255, (truth == labels)[known]
    gaps, error = [], 0.0
    for i in range(bins):
        here = (sure > i / bins) & (sure <= (i + 1) / bins) | ((i == 0) & (sure == 0))
        if here.any():
            gaps.append(abs(right[here].mean() - sure[here].mean()))
            error += gaps[-1] * here.mean()
    result = measured(truth, labels, confidence, bins)
    assert result["ece"] == pytest.approx(error, rel=1e-12)
    assert result["mce"] == pytest.approx(max(gaps), rel=1e-12)
    assert result["mean_confidence"] == pytest.approx(sure.mean(), rel=1e-12)
    assert result["accuracy"] == pytest.approx(right.mean(), rel=1e-12)
    assert error > 0.01


def test_bins_equal_scikit_learns() -> None:
    reason = "scikit-learn is not installed"
    calibration = pytest.importorskip("sklearn.calibration", reason=reason)
    truth, labels, confidence = noisy(1)
    known = (truth != VOID) & (labels != 255)
    accuracy, sure = calibration.calibration_curve(
        (truth == labels)[known], confidence[known] / 255, n_bins=16
    )
    filled = [b for b in measured(truth, labels, confidence, 16)["bins"] if b["pixels"]]
    np.testing.assert_allclose([b["accuracy"] for b in filled], accuracy)
    np.testing.assert_allclose([b["confidence"] for b in filled], sure)


def test_nothing_counted_has_no_result() -> None:
    assert Calibration(3, (255,)).result() is None
