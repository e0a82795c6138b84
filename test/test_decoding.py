"""Label images are exactly those of bilinear upsampling and argmax."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_perception import decoding

TIE = 1e-4


def upsampled(scores: np.ndarray, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    full = F.interpolate(
        torch.from_numpy(scores)[None], size, mode="bilinear", align_corners=align_corners
    )
    return full[0].numpy()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_labels_equal_upsampling_and_argmax(seed: int, align_corners: bool) -> None:
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 256 if seed % 8 == 0 else 30))
    coarse = tuple(int(v) for v in random.integers(1, 40, 2))
    size = tuple(int(v) for v in random.integers(1, 200, 2))
    scores = random.normal(0, 3, (classes, *coarse)).astype(np.float32)
    labels = decoding.decode_scores(scores, size, align_corners=align_corners)
    full = upsampled(scores, size, align_corners)
    top = np.sort(full, axis=0)
    clear = top[-1] - top[-2] > TIE
    assert labels.shape == size
    assert (labels != full.argmax(0))[clear].sum() == 0


@pytest.mark.parametrize("classes", [1, 2, 19, 40])
def test_confidence_is_the_softmax_of_the_winner(classes: int) -> None:
    random = np.random.default_rng(classes)
    scores = random.normal(0, 4, (classes, 9, 11)).astype(np.float32)
    labels = decoding.decode_scores(scores, (70, 90))
    confidence = decoding.decode_confidence(scores, labels)
    exact = torch.from_numpy(upsampled(scores, (70, 90), False)).softmax(0).max(0).values
    assert np.abs(confidence.astype(float) - 255 * exact.numpy()).max() <= 1.0


def test_confidence_of_probabilities_is_the_winning_value() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(5), (6, 7)).astype(np.float32)
    scores = np.ascontiguousarray(scores.transpose(2, 0, 1))
    labels = decoding.decode_scores(scores, (24, 28))
    confidence = decoding.decode_confidence(scores, labels, probabilities=True)
    exact = upsampled(scores, (24, 28), False).max(0) * 255
    assert np.abs(confidence - exact).max() <= 0.51


def test_of_equal_scores_the_smaller_class_wins() -> None:
    labels = decoding.decode_scores(np.zeros((4, 3, 3), np.float32), (12, 12))
    assert (labels == 0).all()


def test_coarse_labels_grow_to_the_nearest() -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (7, 9)).astype(np.uint8)
    expected = F.interpolate(
        torch.from_numpy(coarse)[None, None].float(), (31, 50), mode="nearest-exact"
    )
    actual = decoding.decode_labels(coarse, (31, 50))
    assert (actual == expected[0, 0].byte().numpy()).all()
