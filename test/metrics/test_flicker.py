"""Labels that move with the scene do not flicker; others do, as often as they change."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.bags.frames import Key
from seg_perception.metrics.flicker import Flicker
from seg_perception.metrics.metric import LabelledFrame

CLASSES = ("ground", "thing", "wall")
FRAME = 66_666_667  # ns
Shape = tuple[int, int]


def texture(shape: Shape, seed: int = 0) -> np.ndarray:
    """Return an image BGR (H,W,3) with something to follow everywhere."""
    random = np.random.default_rng(seed)
    coarse = cv2.GaussianBlur(random.random(shape), (0, 0), 4)
    fine = cv2.GaussianBlur(random.random(shape), (0, 0), 1.5)
    grey = cv2.normalize(coarse * 3 + fine, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def stripes(shape: Shape) -> np.ndarray:
    """Return ids in upright stripes of 40 pixels."""
    labels = np.arange(shape[1], dtype=np.uint8)[None] // 40 % 3
    return np.ascontiguousarray(np.broadcast_to(labels, shape))


def shifted(shape: Shape, steps: Iterable[int]) -> list[LabelledFrame]:
    """Return views of one scene, each `step` pixels farther right than the first."""
    height, width = shape
    wide = (height, width + 100)
    image, labels = texture(wide), stripes(wide)
    return [
        LabelledFrame(i * FRAME, image[:, s : s + width].copy(), labels[:, s : s + width].copy())
        for i, s in enumerate(steps)
    ]


def flicker(views: Iterable[LabelledFrame]) -> dict[str, Any] | None:
    measure = Flicker(CLASSES)
    for view in views:
        measure.add(view)
    return measure.result()


def counted(views: Iterable[LabelledFrame]) -> dict[str, Any]:
    result = flicker(views)
    assert result is not None
    return result


@pytest.mark.parametrize("shape", [(180, 240), (300, 1300)], ids=["small", "made smaller"])
def test_labels_that_move_with_the_image_do_not_flicker(shape: Shape) -> None:
    views = shifted(shape, [0, 6, 12, 9])
    result = counted(views)
    assert result["share"] < 0.1 / 40  # a tenth of a pixel at the borders, 40 pixels apart
    assert result["pairs"] == 3
    assert result["pixels"] > 0.9 * 3 * shape[0] * shape[1]
    # The same labels on an image that stands still flicker where they differ.
    still = [v._replace(image=views[0].image) for v in views[:2]]
    assert counted(still)["share"] == (views[0].labels != views[1].labels).mean() > 0.1


def test_labels_flipped_at_random_flicker_as_often() -> None:
    random = np.random.default_rng(0)
    before, after = shifted((180, 240), [0, 5])
    flipped = random.random(after.labels.shape) < 0.2
    labels = np.where(flipped, (after.labels + 1) % 3, after.labels).astype(np.uint8)
    result = counted([before, after._replace(labels=labels)])
    sigma = np.sqrt(0.2 * 0.8 / result["pixels"])  # of so many draws
    assert result["share"] == pytest.approx(0.2, abs=4 * sigma)


def test_the_share_of_a_class_is_of_the_earlier_images_pixels() -> None:
    (view,) = shifted((120, 120), [0])  # three stripes
    labels = view.labels.copy()
    labels[:60, :40] = 1
    after = view._replace(key=FRAME, labels=labels)
    result = counted([view, after])
    assert result["per_class"] == {"ground": 0.5, "thing": 0.0, "wall": 0.0}
    assert result["share"] == pytest.approx(1 / 6)
    assert (result["pixels"], result["pairs"]) == (120 * 120, 1)


def test_unknown_in_either_image_is_left_out() -> None:
    (view,) = shifted((120, 120), [0])
    first, second = view.labels.copy(), view.labels.copy()
    first[:, :40] = 255
    second[:30] = 255
    result = counted([view._replace(labels=first), view._replace(key=FRAME, labels=second)])
    assert result["pixels"] == 80 * 90
    assert result["share"] == 0
    assert result["per_class"]["ground"] is None


def test_what_was_hidden_or_outside_is_not_compared() -> None:
    views = []
    for i, step in enumerate((0, 12)):
        (view,) = shifted((180, 240), [step])
        view.image[60:120, 100:160] = texture((60, 60), seed=7)  # it moves along with the camera
        labels = np.zeros_like(view.labels)
        labels[60:120, 100:160] = 2
        views.append(view._replace(key=i * FRAME, labels=labels))
    result = counted(views)
    hidden, outside = 60 * 12, 180 * 12
    assert result["share"] < 0.4 * hidden / (180 * 240)
    assert 0.9 * (180 * 240 - outside) < result["pixels"] < 180 * 240 - outside - 0.5 * hidden


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        (0, 1_000_000_000, 1),
        (0, 1_000_000_001, 0),
        (FRAME, 0, 0),
        (FRAME, FRAME, 1),
        ("b", "a", 1),
    ],
)
def test_a_gap_or_a_step_back_begins_anew(first: Key, second: Key, pairs: int) -> None:
    (view,) = shifted((60, 80), [0])
    result = flicker([view._replace(key=first), view._replace(key=second)])
    assert (0 if result is None else result["pairs"]) == pairs


def test_image_encodings_of_another_size_begin_anew() -> None:
    sizes: list[Shape] = [(60, 80), (60, 90), (60, 90)]
    views = [shifted(s, [0])[0]._replace(key=i * FRAME) for i, s in enumerate(sizes)]
    assert counted(views)["pairs"] == 1


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 200), (9, 1000), (200, 9)])
def test_image_encodings_of_any_shape_are_compared(shape: Shape) -> None:
    (view,) = shifted(shape, [0])
    result = counted([view, view._replace(key=FRAME)])
    assert (result["share"], result["pixels"]) == (0, shape[0] * shape[1])


def test_numbers_do_not_depend_on_the_run_or_on_threads() -> None:
    views = shifted((180, 240), [0, 7, 9, 3])
    noisy = np.random.default_rng(1).integers(0, 3, (180, 240)).astype(np.uint8)
    views[2] = views[2]._replace(labels=noisy)
    threads = cv2.getNumThreads()
    try:
        results = []
        for count in (1, 2, 5, 1):
            cv2.setNumThreads(count)
            results.append(counted(views))
    finally:
        cv2.setNumThreads(threads)
    assert all(r == results[0] for r in results)
    assert results[0]["share"] > 0.1


def test_a_image_that_is_only_looked_at_is_not_counted() -> None:
    views = shifted((90, 120), [0, 3, 6])
    measure = Flicker(CLASSES)
    measure.observe_previous(views[0])
    assert measure.result() is None
    measure.add(views[1])
    assert measure.state()["pairs"] == 1
    # What another part saw last is not known here.
    measure.merge(Flicker(CLASSES).state())
    measure.add(views[2])
    assert measure.state()["pairs"] == 1
