"""Label images are exactly those of upsampling, in every way, and argmax."""

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import rounding
from support.label_fuzz import Case, check, decoded, draw_masks, fuzz, grown

from seg_perception import decoding

WAYS = ("bilinear", "cubic")


@pytest.mark.parametrize(("decoder", "megapixels"), [("bilinear", 20), ("cubic", 8), ("masks", 8)])
def test_labels_equal_upsampling_and_argmax_in_a_fuzz(decoder: str, megapixels: int) -> None:
    counts = fuzz(megapixels, decoder=decoder)
    assert counts.pixels >= megapixels * 1_000_000
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


def test_the_fuzz_tells_the_ways_to_interpolate_apart() -> None:
    scores = np.random.default_rng(0).normal(0, 3, (5, 9, 11)).astype(np.float32)
    cubic, bilinear = (Case(scores, (70, 90), False, way) for way in ("cubic", "bilinear"))
    assert (decoded(cubic) != decoded(bilinear)).mean() > 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (8, 8), (7, 9), (480, 640)])
@pytest.mark.parametrize("coarse", [(1, 1), (1, 9), (9, 1), (8, 8), (60, 80)])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_labels_are_exact_at_the_edges_of_what_sizes_can_be(
    coarse: tuple[int, int], size: tuple[int, int], align_corners: bool, way: str
) -> None:
    scores = np.random.default_rng(1).normal(0, 3, (5, *coarse)).astype(np.float32)
    assert check(Case(scores, size, align_corners, way)).wrong == 0


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("spread", [0.3, 4.0, 40.0])
@pytest.mark.parametrize("classes", [1, 2, 19, 150])
@pytest.mark.parametrize("way", WAYS)
def test_confidence_is_the_softmax_of_the_winner(
    classes: int, spread: float, align_corners: bool, way: str
) -> None:
    random = np.random.default_rng(classes)
    scores = random.normal(0, spread, (classes, 9, 11)).astype(np.float32)
    confidence = decoding.decode_confidence(
        scores, (70, 90), align_corners=align_corners, interpolation=way
    )
    exact = grown(Case(scores, (70, 90), align_corners, way)).softmax(0).amax(0)
    assert np.abs(confidence.astype(float) - 255 * exact.numpy()).max() <= rounding.OF_A_SOFTMAX


@pytest.mark.parametrize("way", WAYS)
def test_confidence_of_probabilities_is_the_winning_value(way: str) -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(5), (6, 7)).astype(np.float32)
    scores = np.ascontiguousarray(scores.transpose(2, 0, 1))
    confidence = decoding.decode_confidence(
        scores, (24, 28), kind="probabilities", interpolation=way
    )
    exact = grown(Case(scores, (24, 28), False, way)).amax(0).clamp(0, 1) * 255
    assert np.abs(confidence - exact.numpy()).max() <= rounding.OF_A_SCORE


@pytest.mark.parametrize("way", WAYS)
def test_confidence_of_a_mask_a_class_is_the_winners_sigmoid(way: str) -> None:
    scores = np.random.default_rng(0).normal(0, 3, (7, 6, 7)).astype(np.float32)
    confidence = decoding.decode_confidence(scores, (48, 56), kind="masks", interpolation=way)
    exact = grown(Case(scores, (48, 56), False, way)).amax(0).sigmoid() * 255
    assert np.abs(confidence - exact.numpy()).max() <= rounding.OF_A_SCORE


@pytest.mark.parametrize("seed", range(8))
def test_confidence_of_queries_is_the_winners_score(seed: int) -> None:
    case = draw_masks(np.random.default_rng(seed))
    assert case.shares is not None
    labels, confidence = decoding.decode_masks(
        case.scores, case.shares, case.size, align_corners=case.align_corners
    )
    assert (labels == decoded(case)).all()
    assert confidence is not None
    exact = grown(case).amax(0).clamp(0, 1) * 255
    assert np.abs(confidence - exact.numpy()).max() <= rounding.OF_A_SCORE


def test_a_cubic_that_overshoots_its_samples_wins() -> None:
    scores = np.full((2, 1, 4), 0.17, np.float32)
    scores[1, 0] = [-1, 0, 0, -1]  # between the zeros it rises to 0.1875
    labels = decoding.decode_scores(scores, (1, 36), interpolation="cubic")
    assert labels[0, 17] == labels[0, 18] == 1
    assert check(Case(scores, (1, 36), False, "cubic")).wrong == 0


@pytest.mark.parametrize("size", [(30, 40), (60, 80), (75, 90), (200, 33)])
@pytest.mark.parametrize("corners", [False, True])
def test_masks_about_as_fine_as_the_image_are_right_too(
    size: tuple[int, int], corners: bool
) -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(6), 9).astype(np.float32)
    planes = random.normal(0, 3, (9, 60, 80)).astype(np.float32)
    case = Case(planes, size, corners, shares=shares)
    counts = check(case)
    assert (counts.pixels, counts.wrong) == (size[0] * size[1], 0)
    labels, confidence = decoding.decode_masks(planes, shares, size, align_corners=corners)
    assert len(np.unique(labels)) == 6
    assert confidence is not None
    exact = grown(case).amax(0).clamp(0, 1) * 255
    assert np.abs(confidence - exact.numpy()).max() <= rounding.OF_A_SCORE


def test_many_sure_queries_do_not_add_up_their_errors() -> None:
    random = np.random.default_rng(0)
    planes = random.normal(0, 4, (200, 9, 12)).astype(np.float32)
    shares = random.dirichlet(np.full(3, 30.0), 200).astype(np.float32)
    assert check(Case(planes, (90, 120), False, shares=shares)).wrong == 0


def test_fine_masks_of_many_queries_need_little_memory() -> None:
    planes = np.zeros((50, 240, 320), np.float32)
    tracemalloc.start()
    decoding.decode_masks(planes, np.full((50, 19), 0.05, np.float32), (240, 320))
    decoding.decode_masks(planes, np.full((50, 19), 0.05, np.float32), (960, 1280))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < planes.nbytes


def test_of_equal_scores_the_smaller_class_wins() -> None:
    zeros = np.zeros((4, 3, 3), np.float32)
    for way in WAYS:
        assert not decoding.decode_scores(zeros, (12, 12), interpolation=way).any()
    assert not decoding.decode_masks(zeros, np.full((4, 4), 0.2, np.float32), (12, 12))[0].any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["logits", "probabilities", "masks"])
def test_what_is_no_number_is_class_0_and_sure_of_nothing(way: str, kind: str) -> None:
    scores = np.full((3, 4, 5), np.nan, np.float32)
    assert not decoding.decode_scores(scores, (16, 20), interpolation=way).any()
    assert not decoding.decode_confidence(scores, (16, 20), kind=kind, interpolation=way).any()
    if kind == "masks" and way == "bilinear":
        for result in decoding.decode_masks(scores, np.full((3, 2), 0.2, np.float32), (16, 20)):
            assert result is not None
            assert not result.any()


def test_coarse_labels_grow_to_the_nearest() -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (7, 9)).astype(np.uint8)
    expected = F.interpolate(
        torch.from_numpy(coarse)[None, None].float(), (31, 50), mode="nearest-exact"
    )
    actual = decoding.decode_labels(coarse, (31, 50))
    assert (actual == expected[0, 0].byte().numpy()).all()
