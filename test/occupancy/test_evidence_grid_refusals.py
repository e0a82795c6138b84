"""The evidence grid refuses what makes no sense, says what to do, and stays as it was."""

import math
from typing import Any

import numpy as np
import pytest
from support.slow_grid import HERE, look, small

from seg_perception.errors import GeometryError
from seg_perception.labels import GROUPS

PERSON = GROUPS.index("person")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 0}, "resolution is 0; set it to a finite number of m above 0"),
        ({"resolution": -0.1}, "resolution is -0.1"),
        ({"resolution": math.nan}, "resolution is nan"),
        ({"resolution": math.inf}, "resolution is inf"),
        ({"resolution": None}, "resolution is None; give a number"),
        ({"resolution": "fine"}, "resolution is 'fine'; give a number"),
        ({"resolution": 1e-4}, r"resolution is 0.0001 m; set it to 0.001 m or more"),
        ({"width": 0}, "width is 0; set it to a finite number of m above 0"),
        ({"height": math.inf}, "height is inf"),
        ({"height": -3}, "height is -3"),
        ({"width": 1000, "height": 1001}, "1000 m x 1001 m with cells of 0.5 m .* 4000000 cells"),
        ({"width": 1e300, "height": 1e-9}, "4000000 cells; make it smaller"),
        ({"half_life": 0}, "half_life is 0; set it to a number of s above 0"),
        ({"half_life": -1}, "half_life is -1"),
        ({"half_life": math.nan}, "half_life is nan"),
        ({"minimum": 0}, "minimum is 0; set it to 0.001 full looks or more"),
        ({"minimum": math.nan}, "minimum is nan"),
        ({"minimum": math.inf}, "minimum is inf"),
    ],
)
def test_a_grid_without_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        small(**changes)


def test_the_largest_grid_is_accepted() -> None:
    assert small(width=1000, height=1000).evidence.shape == (8, 2000, 2000)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9, -1e300, None, "x"])
def test_a_place_out_of_this_world_is_refused(bad: Any) -> None:
    grid = small()
    look(grid, (0.2, 0.2, PERSON, 1))
    for place in ((bad, 0), (0, bad)):
        with pytest.raises(GeometryError, match=r"^[xy] is "):
            grid.recentre(*place)
        with pytest.raises(GeometryError, match=r"^[xy] is "):
            look(grid, (0.2, 0.2, PERSON, 1), transform=(*place, 0))
    assert grid.origin == (-1.5, -1.0)
    assert grid.evidence.sum() == 1


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ((0, 0, math.nan), "yaw is nan; give a finite angle"),
        ((0, 0, math.inf), "yaw is inf"),
        ((0, 0), r"pose \(0, 0\) of the base is not \(x, y, yaw\)"),
        (None, "pose None of the base"),
    ],
)
def test_a_pose_that_is_none_is_refused(transform: Any, message: str) -> None:
    grid = small()
    for contacts in (False, True):
        with pytest.raises(GeometryError, match=message):
            look(grid, (0, 0, PERSON, 1), transform=transform, contacts=contacts)


@pytest.mark.parametrize("seconds", [-1e-9, -5, math.nan, math.inf])
def test_time_that_runs_backwards_is_refused(seconds: float) -> None:
    grid = small()
    look(grid, (0.2, 0.2, PERSON, 1))
    with pytest.raises(GeometryError, match=f"is {seconds} s; clear the grid when time jumps"):
        grid.decay(seconds)
    assert grid.evidence[PERSON, 2, 3] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": np.zeros(3, np.int64)}, "groups are of type int64; give uint8"),
        ({"points": np.zeros((3, 2), np.int32)}, "points are of type int32; give float32"),
        ({"weights": np.zeros(3, np.uint8)}, "weights are of type uint8; give float32"),
        ({"points": np.zeros((4, 2), np.float32)}, r"points \(4, 2\), groups \(3,\) and weights"),
        ({"points": np.zeros((3, 3), np.float32)}, r"points \(3, 3\)"),
        ({"weights": np.zeros(2, np.float32)}, r"weights \(2,\) do not match"),
    ],
)
def test_pixels_that_do_not_match_are_refused(changes: dict[str, Any], message: str) -> None:
    pixels = {
        "points": np.zeros((3, 2), np.float32),
        "groups": np.zeros(3, np.uint8),
        "weights": np.ones(3, np.float32),
        **changes,
    }
    grid = small()
    with pytest.raises(GeometryError, match=message):
        grid.add(*pixels.values(), HERE)
    assert not grid.evidence.any()


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ([0] * 7, "costs has 7 entries; give one for each of other, drivable"),
        ([0] * 3 + [101] + [0] * 4, "the cost of obstacle is 101; set it to a whole number"),
        ([-1] + [0] * 7, "the cost of other is -1"),
        ([0, 0.5] + [0] * 6, "the cost of drivable is 0.5"),
        ([math.nan] * 8, "the cost of other is nan"),
        (["a"] * 8, "a cost is 'a'; give a number"),
        (5, "costs is 5; give one number a group"),
    ],
)
def test_costs_without_sense_are_refused(costs: Any, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        small().cost(costs)
