"""Holds last a second, join, end early, and never take more than their share of the time."""

import pytest

from seg_perception.hold import CREDIT, HOLD, Hold

STEP = 0.05  # seconds


def test_masks_wait_for_a_second_after_the_newest_subscriber() -> None:
    hold = Hold()
    assert not hold.is_on(10.0)
    assert hold.begin(10.0)
    assert hold.is_on(10.0)
    assert hold.begin(10.4)
    assert hold.is_on(10.4 + HOLD - 0.01)
    assert not hold.is_on(10.4 + HOLD)


def test_a_hold_that_ends_early_gives_its_credit_back() -> None:
    hold = Hold()
    for i in range(100):  # five seconds without a second for each
        assert hold.begin(i * STEP)
        hold.end(i * STEP + 0.01)
        assert not hold.is_on(i * STEP + 0.01)
    hold.end(1000.0)
    assert hold.begin(1000.0), "an end without a hold changes nothing"


@pytest.mark.parametrize("period", [STEP, 0.3, 0.9, 1.1, 1.9, 2.5])
def test_subscribers_that_come_and_go_for_ever_do_not_silence_the_masks(period: float) -> None:
    hold, came, waits, longest, waited = Hold(), 0.0, 0.0, 0.0, 0.0
    steps = int(120 / STEP)
    for i in range(steps):
        now = i * STEP
        if now >= came:
            hold.begin(now)
            came += period
        waits = waits + STEP if hold.is_on(now) else 0.0
        longest = max(longest, waits)
        waited += STEP if hold.is_on(now) else 0.0
    assert longest <= CREDIT + STEP
    assert waited <= steps * STEP / 2 + CREDIT


def test_a_layer_that_restarts_every_other_second_has_its_second_each_time() -> None:
    hold = Hold()
    assert all(hold.begin(2.01 * HOLD * i) for i in range(1000))
