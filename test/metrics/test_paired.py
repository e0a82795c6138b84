"""Paired differences and their intervals equal closed forms, a slow loop and scipy."""

import numpy as np
import pytest

from seg_perception.errors import DataError
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.metrics.paired import (
    Blocks,
    class_counts,
    class_iou,
    compare,
    mean_iou,
)

NAMES = ("road", "sky", "pole")
SECOND = 10**9


def filled(counts: np.ndarray, *, start: int = 0) -> Blocks:
    """One image a second; counts (B,3,K)."""
    blocks = Blocks(counts.shape[2])
    for i, image in enumerate(counts):
        blocks.add((start + i) * SECOND + 7, image)
    return blocks


def drawn(random: np.random.Generator, share: float, truth: np.ndarray) -> np.ndarray:
    """Counts (B,3,K) of a model that is right on about `share` of the true pixels."""
    hits = random.binomial(truth, share)
    return np.stack([hits, truth, hits + random.binomial(truth, 0.2)], axis=1)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    truth = random.integers(0, 200, (30, 3))
    truth[:20, 2] = 0  # a class that some seconds lack
    return drawn(random, 0.7, truth), drawn(random, 0.75, truth)


def test_counts_give_the_scores_of_the_confusion_matrix() -> None:
    random = np.random.default_rng(0)
    matrix = ConfusionMatrix(4, (11,))
    truth = random.choice([0, 1, 2, 11], (20, 30)).astype(np.uint8)
    matrix.add(truth, random.choice([0, 1, 2, 3, 255], (20, 30)).astype(np.uint8))
    counts = class_counts(matrix.counts)
    np.testing.assert_allclose(class_iou(counts)[:3], matrix.iou()[:3], rtol=1e-15)
    assert np.isnan(class_iou(counts)[3])
    assert float(mean_iou(counts)) == pytest.approx(matrix.miou(), rel=1e-15)


def test_a_constant_difference_has_no_width() -> None:
    # Every second alike: IoU 50/100 and 80/100 of road, 1 of sky, no pole.
    base = np.tile([[[50, 10, 0], [100, 10, 0], [50, 10, 0]]], (8, 1, 1))
    other = np.tile([[[80, 10, 0], [100, 10, 0], [80, 10, 0]]], (8, 1, 1))
    found = compare(filled(base), filled(other), NAMES)
    assert found.miou == pytest.approx((0.15, 0.15, 0.15))
    assert found.per_class_iou["road"] == pytest.approx((0.3, 0.3, 0.3))
    assert found.per_class_iou["sky"] == (0.0, 0.0, 0.0)
    assert found.per_class_iou["pole"] == (None, None, None)
    assert (found.blocks, found.better_blocks, found.resamples) == (8, 1.0, 2000)


def test_a_model_differs_from_itself_by_nothing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = compare(filled(pair[0]), filled(pair[0]), NAMES)
    assert found.miou == (0.0, 0.0, 0.0)
    assert set(found.per_class_iou.values()) == {(0.0, 0.0, 0.0)}
    assert found.better_blocks == 0.0


def test_intervals_equal_a_slow_loop_that_repeats_blocks(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    base, other = pair
    found = compare(filled(base), filled(other), NAMES, resamples=300, seed=5)
    random = np.random.default_rng(5)
    means, roads = [], []
    for weights in random.multinomial(30, np.full(30, 1 / 30), size=300):
        blocks = np.repeat(np.arange(30), weights)
        scores = []
        for counts in (base, other):
            hits, truth, predicted = counts[blocks].sum(axis=0)
            iou = hits / (truth + predicted - hits)
            scores.append((iou[truth > 0].mean(), iou[0]))
        means.append(scores[1][0] - scores[0][0])
        roads.append(scores[1][1] - scores[0][1])
    assert found.miou[1:] == pytest.approx(np.percentile(means, [2.5, 97.5]), rel=1e-12)
    road = found.per_class_iou["road"]
    assert road[1:] == pytest.approx(np.percentile(roads, [2.5, 97.5]), rel=1e-12)


def test_what_is_drawn_at_once_changes_nothing(
    pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compare(filled(pair[0]), filled(pair[1]), NAMES)
    monkeypatch.setattr("seg_perception.metrics.paired.AT_ONCE", 30 * 7)
    assert compare(filled(pair[0]), filled(pair[1]), NAMES) == whole


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    held = 0
    for seed in range(300):
        truth = np.full((40, 1), 400)
        # Seconds differ in difficulty, alike for both models: what pairing is for.
        ease = random.uniform(-0.15, 0.15, (40, 1))
        both = [random.binomial(truth, share + ease) for share in (0.6, 0.63)]
        base, other = (np.stack([h, truth, h], axis=1) for h in both)
        low, high = compare(filled(base), filled(other), ("road",), resamples=300, seed=seed).miou[
            1:
        ]
        # With hits = predicted, IoU is hits / truth, so that the true difference is 0.03.
        held += low <= 0.03 <= high
    sigma = np.sqrt(0.95 * 0.05 / 300)  # of so many draws
    assert held / 300 == pytest.approx(0.95, abs=2 * sigma)


def test_intervals_agree_with_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    base, other = pair[0][:, :, :1], pair[1][:, :, :1]

    def iou(counts: np.ndarray) -> np.ndarray:
        hits, truth, predicted = np.moveaxis(counts.sum(axis=-3)[..., 0], -1, 0)
        return hits / (truth + predicted - hits)

    def statistic(ours: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
        return iou(other[theirs.astype(int)]) - iou(base[ours.astype(int)])

    at = np.arange(30)
    scipy = stats.bootstrap(
        (at, at), statistic, paired=True, method="percentile", n_resamples=20000, rng=0
    ).confidence_interval
    found = compare(filled(base), filled(other), ("road",), resamples=20000).miou
    width = found.high - found.low
    # Both draw: the 2.5th percentile of 20000 draws has a standard error of sqrt(0.025 x 0.975 /
    # 20000) over the density there, 0.0584 a standard deviation, of which `width` is 3.92.
    error = np.sqrt(2 * 0.025 * 0.975 / 20000) / 0.0584 * width / 3.92
    assert found.low == pytest.approx(scipy.low, abs=4 * error)
    assert found.high == pytest.approx(scipy.high, abs=4 * error)


def test_parts_that_cut_a_second_in_two_add_up(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base = pair[0]
    stamps = [i * SECOND // 4 for i in range(30)]
    whole, first, last = Blocks(3), Blocks(3), Blocks(3)
    for i, (stamp, counts) in enumerate(zip(stamps, base, strict=True)):
        whole.add(stamp, counts)
        (first if i < 14 else last).add(stamp, counts)
    first.merge(last.state())
    assert first.keys() == whole.keys() == list(range(8))
    np.testing.assert_array_equal(first.counts(), whole.counts())
    again = Blocks(3)
    again.merge(first.state())
    np.testing.assert_array_equal(again.state()["blocks"], whole.state()["blocks"])
    np.testing.assert_array_equal(again.state()["counts"], whole.state()["counts"])


def test_image_encodings_with_names_are_blocks_of_their_own() -> None:
    blocks = Blocks(1)
    for name in ("b", "a", "a longer name"):
        blocks.add(name, np.ones((3, 1), np.int64))
    again = Blocks(1)
    again.merge(blocks.state())
    assert again.keys() == ["a", "a longer name", "b"]


def test_nothing_merged_into_nothing_is_nothing() -> None:
    blocks = Blocks(2)
    blocks.merge(Blocks(2).state())
    assert blocks.keys() == []
    assert blocks.counts().shape == (0, 3, 2)


def test_few_seconds_give_a_difference_without_an_interval(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    found = compare(filled(pair[0][:4]), filled(pair[1][:4]), NAMES)
    assert found.miou.difference is not None
    assert found.miou[1:] == (None, None)
    assert found.content("a", "b")["note"] == (
        "4 seconds are too few for intervals; give 5 or more"
    )


def test_a_class_of_few_seconds_has_no_interval(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base, other = pair[0].copy(), pair[1].copy()
    base[4:, 1:, 2] = other[4:, 1:, 2] = 0
    base[:4, 1, 2] = other[:4, 1, 2] = 50
    found = compare(filled(base), filled(other), NAMES)
    assert found.per_class_iou["pole"].difference is not None
    assert found.per_class_iou["pole"][1:] == (None, None)
    assert found.per_class_iou["road"].low is not None


def test_seconds_of_void_count_for_nothing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    void = np.zeros((3, 3, 3), np.int64)
    some = [filled(np.concatenate([counts, void])) for counts in pair]
    assert compare(*some, NAMES) == compare(*map(filled, pair), NAMES)


def test_other_images_are_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base, other = pair
    with pytest.raises(DataError, match="not scored on the same images: 2 blocks differ"):
        compare(filled(base), filled(other, start=1), NAMES)
    strange = other.copy()
    strange[9, 1] += 1
    with pytest.raises(DataError, match="1 blocks differ, the first is 9; evaluate both"):
        compare(filled(base), filled(strange), NAMES)
    with pytest.raises(DataError, match="3 and 1 classes cannot be compared under 3 names"):
        compare(filled(base), filled(other[:, :, :1]), NAMES)
    with pytest.raises(DataError, match="no image was scored"):
        compare(Blocks(3), Blocks(3), NAMES)
