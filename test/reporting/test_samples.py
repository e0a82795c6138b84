"""Images for a report are few, small and from all over the run, however it is cut."""

import numpy as np
from support.brightest import card

from seg_perception.manifest import Manifest
from seg_perception.reporting.report import Sample
from seg_perception.reporting.samples import SAMPLES, Samples

SPACE = Manifest.from_dict(card()).label_space()


def offer(samples: Samples, place: int, *, width: int = 8) -> None:
    image = np.full((6, width, 3), place % 256, np.uint8)
    labels = np.full((6, width), place % 3, np.uint8)
    samples.offer(str(place), image, labels, labels if place % 2 else None, SPACE)


def places(samples: Samples) -> list[int]:
    return [int(sample.title) for sample in samples.chosen()]


def test_a_short_run_is_shown_whole() -> None:
    samples = Samples()
    assert samples.chosen() == []
    for place in range(SAMPLES - 1):
        offer(samples, place)
    assert places(samples) == [0, 1, 2, 3]


def test_a_long_run_is_shown_evenly_and_few_are_held() -> None:
    samples = Samples()
    for place in range(1000):
        offer(samples, place)
        assert len(samples.state()["images"]) <= 2 * SAMPLES
    steps = np.diff(places(samples))
    assert places(samples)[0] == 0
    assert places(samples)[-1] >= 850
    assert steps.max() <= 2 * steps.min()


def test_many_short_parts_are_shown_as_evenly_as_one_run() -> None:
    whole = Samples()
    for start in range(0, 1000, 7):
        part = Samples()
        for place in range(start, min(start + 7, 1000)):
            offer(part, place)
        whole.merge(part.state())
    assert len(whole.state()["images"]) <= 2 * SAMPLES
    steps = np.diff(places(whole))
    assert places(whole)[0] == 0
    assert places(whole)[-1] >= 850
    assert steps.max() <= 2 * steps.min()


def test_what_is_kept_goes_on_from_its_state() -> None:
    through, before, after = Samples(), Samples(), Samples()
    for place in range(40):
        offer(through, place)
        offer(before, place)
    after.merge(before.state())
    for place in range(40, 90):
        offer(through, place)
        offer(after, place)
    assert places(after) == places(through)
    for ours, theirs in zip(after.chosen(), through.chosen(), strict=True):
        np.testing.assert_array_equal(ours.overlay, theirs.overlay)


def test_wide_images_are_shown_small() -> None:
    samples = Samples()
    offer(samples, 1, width=1280)
    (sample,) = samples.chosen()
    assert isinstance(sample, Sample)
    assert sample.truth is not None
    shapes = {p.shape for p in (sample.image, sample.overlay, sample.truth)}
    assert shapes == {(3, 640, 3)}
