"""The worst images are those of lowest score, one a second, however the run is cut."""

import numpy as np
import pytest
from support.brightest import card

from seg_perception.evaluation.hardest import MOST, Base, Worst
from seg_perception.manifest import Manifest
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.metrics.metric import LabelledFrame
from seg_perception.metrics.paired import class_counts

SPACE = Manifest.from_dict(card()).label_space()
TRUTH = np.zeros((1, 100), np.uint8)
TENTH = 10**8


def answer(right: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (1,100) of which so many are right, and their class counts: IoU right/100."""
    labels = np.ones_like(TRUTH)
    labels[:, :right] = 0
    matrix = ConfusionMatrix(3)
    matrix.add(TRUTH, labels)
    return labels, class_counts(matrix.counts)


def offer(worst: Worst, key: int | str, right: int, base: int | None = None) -> None:
    labels, counts = answer(right)
    image = np.zeros((*TRUTH.shape, 3), np.uint8)
    other = None if base is None else Base(*answer(base))
    worst.offer(LabelledFrame(key, image, labels, TRUTH), counts, SPACE, other)


def test_the_lowest_of_each_second_are_kept_the_worst_first() -> None:
    worst = Worst()
    rights = np.random.default_rng(0).permutation(100)
    for i, right in enumerate(rights):
        offer(worst, i * TENTH, int(right))
    seconds = rights.reshape(10, 10)
    expected = sorted(seconds.min(axis=1))[:MOST]
    assert [entry["miou"] for entry in worst.result()] == pytest.approx([r / 100 for r in expected])
    keys = [entry["key"] for entry in worst.result()]
    assert [rights[key // TENTH] for key in keys] == expected
    assert worst.chosen()[0].title == f"{keys[0]}: mean IoU {expected[0] / 100:.3f}"


def test_of_equal_images_the_first_are_kept_also_where_they_come_last() -> None:
    worst = Worst()
    for name in "kjihgfedcba":
        offer(worst, name, 50)
    assert [entry["key"] for entry in worst.result()] == list("abcdef")


def test_parts_merge_to_what_one_run_keeps() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        rights = random.integers(0, 12, 60)
        cuts = sorted(random.integers(0, 60, 3))
        whole, merged = Worst(), Worst()
        for i, right in enumerate(rights):
            offer(whole, i * 3 * TENTH, int(right))
        for part in np.split(np.arange(60), cuts):
            later = Worst()
            for i in part:
                offer(later, int(i) * 3 * TENTH, int(rights[i]))
            merged.merge(later.state())
        assert merged.result() == whole.result()
    for ours, theirs in zip(merged.chosen(), whole.chosen(), strict=True):
        assert ours.title == theirs.title
        np.testing.assert_array_equal(ours.overlay, theirs.overlay)


def test_against_a_base_the_largest_losses_are_kept_and_gains_are_none() -> None:
    worst = Worst()
    for name, right, base in (("gain", 10, 5), ("same", 0, 0), ("small", 80, 90), ("big", 60, 99)):
        offer(worst, name, right, base)
    assert worst.result() == [
        {"key": "big", "miou": pytest.approx(0.6), "base_miou": pytest.approx(0.99)},
        {"key": "small", "miou": pytest.approx(0.8), "base_miou": pytest.approx(0.9)},
    ]
    sample = worst.chosen()[0]
    assert sample.title == "big: mean IoU 0.600, the base's 0.990"
    assert sample.base is not None
    assert (sample.base != sample.overlay).any()


def test_image_encodings_of_void_alone_are_no_bad_ones() -> None:
    worst = Worst()
    void = np.full_like(TRUTH, 255)
    counts = np.zeros((3, 3), np.int64)
    worst.offer(LabelledFrame("a", np.zeros((1, 100, 3), np.uint8), TRUTH, void), counts, SPACE)
    assert worst.result() == []
