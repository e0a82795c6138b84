"""Odometry at an image's stamp: interpolated, held for a moment, and never guessed."""

import math

import pytest

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.mapper import Pose2D
from seg_perception.occupancy.odometry import Odometry, planar


def at(seconds: float) -> int:
    return round(seconds * 1e9)


def odometry(*entries: tuple[float, float, float, float]) -> Odometry:
    """Return odometry of (seconds, x, y, yaw)."""
    made = Odometry()
    for seconds, x, y, yaw in entries:
        made.add(at(seconds), Pose2D(x, y, yaw))
    return made


def test_places_between_two_are_interpolated() -> None:
    found = odometry((10.0, 1.0, 2.0, 0.0), (10.5, 3.0, 1.0, 1.0)).at(at(10.1))
    assert found == pytest.approx((1.4, 1.8, 0.2))


def test_yaw_turns_the_shorter_way() -> None:
    made = odometry((1.0, 0, 0, math.radians(170)), (1.5, 0, 0, math.radians(-170)))
    assert abs(made.at(at(1.25)).yaw) == pytest.approx(math.pi)
    assert math.degrees(made.at(at(1.125)).yaw) == pytest.approx(175)
    assert math.degrees(made.at(at(1.375)).yaw) == pytest.approx(-175)


def test_stamps_that_are_there_are_exact() -> None:
    made = odometry((1.0, 5, 6, 0.5), (1.1, 7, 8, 0.6), (1.2, 9, 10, 0.7))
    for seconds, x in ((1.0, 5), (1.1, 7), (1.2, 9)):
        assert made.at(at(seconds)).x == x


def test_the_newest_is_held_for_a_moment_only() -> None:
    made = odometry((1.0, 5, 6, 0.5))
    assert made.at(at(1.2)) == Pose2D(5, 6, 0.5)
    with pytest.raises(GeometryError, match=r"newest odom is 0\.250 s older than the image"):
        made.at(at(1.25))


def test_what_is_older_than_the_buffer_is_refused() -> None:
    made = odometry(*((s / 10, s, 0, 0) for s in range(100, 301)))
    with pytest.raises(GeometryError, match=r"is 7\.500 s older than the oldest odom"):
        made.at(at(12.5))
    assert made.at(at(20.05)).x == pytest.approx(200.5)


def test_a_gap_is_not_bridged() -> None:
    made = odometry((1.0, 0, 0, 0), (3.5, 1, 0, 0))
    with pytest.raises(GeometryError, match=r"gap of 2\.500 s around the image"):
        made.at(at(2.0))
    assert made.at(at(3.5)).x == 1


def test_a_jump_back_in_time_begins_anew() -> None:
    made = odometry((100.0, 7, 0, 0), (5.0, 1, 0, 0))
    assert made.at(at(5.1)).x == 1
    with pytest.raises(GeometryError, match=r"newest odom is 95\.000 s older"):
        made.at(at(100.0))


def test_what_comes_a_little_late_or_twice_is_left_out() -> None:
    made = odometry((1.0, 1, 0, 0), (1.1, 2, 0, 0), (1.05, 99, 0, 0), (1.1, 99, 0, 0))
    assert made.at(at(1.1)).x == 2
    assert made.at(at(1.05)).x == pytest.approx(1.5)


def test_nothing_and_nonsense_are_told() -> None:
    made = Odometry()
    assert made.is_empty
    with pytest.raises(GeometryError, match="no odom yet"):
        made.at(1)
    with pytest.raises(GeometryError, match="finite numbers"):
        made.add(1, Pose2D(math.nan, 0, 0))
    assert made.is_empty


def test_memory_is_bounded_in_time_and_number() -> None:
    made = Odometry()
    for i in range(20_000):
        made.add(i * 500_000, Pose2D(i, 0, 0))
    assert len(made._places) == 5000
    made = odometry(*((s, s, 0, 0) for s in range(60)))
    assert len(made._places) == 11


def test_roll_pitch_and_height_are_left_out_of_a_place() -> None:
    found = planar(Pose.from_rpy(1, 2, 3, 0.1, -0.2, 2.5))
    assert found == pytest.approx((1, 2, 2.5))
