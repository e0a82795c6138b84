"""Label images are exactly those of bilinear upsampling and argmax."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from label_fuzz import Case, check, fuzz

from seg_perception import decoding


def upsampled(scores: np.ndarray, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    full = F.interpolate(
        torch.from_numpy(scores)[None], size, mode="bilinear", align_corners=align_corners
    )
    return full[0].numpy()


def test_labels_equal_upsampling_and_argmax_in_a_fuzz() -> None:
    counts = fuzz(20.0)
    assert counts.pixels >= 20_000_000
    assert counts.wrong == 0
    assert counts.ties < counts.pixels / 100


def test_the_fuzz_notices_one_wrong_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = decoding.decode_scores

    def spoiled(*arguments: object, **options: object) -> np.ndarray:
        labels = decode(*arguments, **options)
        labels[-1, -1] ^= 1
        return labels

    monkeypatch.setattr(decoding, "decode_scores", spoiled)
    scores = np.random.default_rng(0).normal(0, 3, (2, 5, 6)).astype(np.float32)
    assert check(Case(scores, (40, 48), False)).wrong == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (8, 8), (7, 9), (480, 640)])
@pytest.mark.parametrize("coarse", [(1, 1), (1, 9), (9, 1), (8, 8), (60, 80)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_labels_are_exact_at_the_edges_of_what_sizes_can_be(
    coarse: tuple[int, int], size: tuple[int, int], align_corners: bool
) -> None:
    scores = np.random.default_rng(1).normal(0, 3, (5, *coarse)).astype(np.float32)
    assert check(Case(scores, size, align_corners)).wrong == 0


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("spread", [0.3, 4.0, 40.0])
@pytest.mark.parametrize("classes", [1, 2, 19, 150])
def test_confidence_is_the_softmax_of_the_winner(
    classes: int, spread: float, align_corners: bool
) -> None:
    random = np.random.default_rng(classes)
    scores = random.normal(0, spread, (classes, 9, 11)).astype(np.float32)
    confidence = decoding.decode_confidence(scores, (70, 90), align_corners=align_corners)
    exact = torch.from_numpy(upsampled(scores, (70, 90), align_corners)).softmax(0).max(0).values
    assert np.abs(confidence.astype(float) - 255 * exact.numpy()).max() <= 0.8


def test_confidence_of_probabilities_is_the_winning_value() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(5), (6, 7)).astype(np.float32)
    scores = np.ascontiguousarray(scores.transpose(2, 0, 1))
    confidence = decoding.decode_confidence(scores, (24, 28), probabilities=True)
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
