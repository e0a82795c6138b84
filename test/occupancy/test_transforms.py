"""A recording's tf tree, looked up as tf2 does."""

import numpy as np
import pytest
from support import bounds

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.transforms import TransformTree

S = 10**9
STILL = (0.0, 0.0, 0.0, 1.0)
ROUNDING = bounds.of_poses(4, reach=3.0)
LEFT = (0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4))  # 90 degrees around z


def step(
    tree: TransformTree, parent: str, child: str, stamp: int | None, x: float = 0.0,
    turn: tuple[float, ...] = STILL,
) -> None:  # fmt: skip
    """Add a transform along x; static where it has no stamp."""
    tree.add(parent, child, stamp or 0, (x, 0.0, 0.0), turn, is_static=stamp is None)


@pytest.fixture
def tree() -> TransformTree:
    """Return odom -> base, which drives 1 m/s from second 1 to 3, -> mast -> eye."""
    made = TransformTree()
    step(made, "base", "mast", None, 0.5)
    step(made, "mast", "eye", None, 0.1, LEFT)
    for second in (1, 2, 3):
        step(made, "odom", "base", second * S, float(second))
    return made


def x_of(pose: Pose) -> float:
    return float(pose.translation[0])


def test_chains_are_composed_in_both_directions(tree: TransformTree) -> None:
    found = tree.lookup("odom", "eye", 2 * S)
    bounds.check(found.translation, [2.6, 0, 0], ROUNDING)
    bounds.check(found.apply([1.0, 0.0, 0.0]), [2.6, 1.0, 0.0], ROUNDING)
    back = tree.lookup("eye", "odom", 2 * S)
    bounds.check(back.compose(found).rotation, np.eye(3), ROUNDING)
    assert tree.lookup("eye", "eye", 0) == Pose(np.eye(3), np.zeros(3))


def test_two_branches_meet_below_the_root_whatever_is_above(tree: TransformTree) -> None:
    step(tree, "mast", "ear", None, 0.4)
    assert x_of(tree.lookup("ear", "eye", 2 * S)) == pytest.approx(-0.3)
    assert x_of(tree.lookup("ear", "eye", 99 * S)) == pytest.approx(-0.3)  # odom ended long ago


def test_moving_transforms_are_interpolated(tree: TransformTree) -> None:
    assert x_of(tree.lookup("odom", "base", 1_250_000_000)) == pytest.approx(1.25)
    turning = TransformTree()
    step(turning, "odom", "base", 0)
    step(turning, "odom", "base", S, 0.0, LEFT)
    third = turning.lookup("odom", "base", S // 3).rotation
    angle = np.pi / 2 * (S // 3) / S
    bounds.check(third[:2, 0], [np.cos(angle), np.sin(angle)], ROUNDING)


def test_a_rotation_takes_the_shorter_arc() -> None:
    """q and -q are one rotation: between a turn and its negative nothing turns."""
    tree = TransformTree()
    step(tree, "odom", "base", 0, 0.0, LEFT)
    step(tree, "odom", "base", S, 0.0, tuple(-n for n in LEFT))
    ends = tree.lookup("odom", "base", 0).rotation
    bounds.check(tree.lookup("odom", "base", S // 2).rotation, ends, ROUNDING)


def test_order_of_recording_does_not_matter_but_for_equal_stamps(tree: TransformTree) -> None:
    step(tree, "odom", "base", S // 2, 0.5)  # late
    assert x_of(tree.lookup("odom", "base", 3 * S // 4)) == pytest.approx(0.75)
    step(tree, "odom", "base", 2 * S, 7.0)
    assert x_of(tree.lookup("odom", "base", 2 * S)) == 7.0


def test_a_static_transform_counts_at_any_time_and_the_last_one_wins(tree: TransformTree) -> None:
    assert x_of(tree.lookup("base", "eye", 10**18)) == pytest.approx(0.6)
    step(tree, "base", "mast", None, 0.9)
    assert x_of(tree.lookup("base", "eye", 0)) == pytest.approx(1.0)


def test_two_parents_are_named_and_the_newest_before_the_stamp_counts() -> None:
    tree = TransformTree()
    step(tree, "odom", "base", 1 * S, 1.0)
    step(tree, "map", "base", 2 * S, 5.0)
    step(tree, "map", "base", 3 * S, 6.0)
    assert x_of(tree.lookup("odom", "base", 1_900_000_000)) == 1.0  # not interpolated
    assert x_of(tree.lookup("map", "base", 2_500_000_000)) == 5.5
    with pytest.raises(GeometryError, match="does not connect 'base' and 'map'.*'odom'"):
        tree.lookup("map", "base", S)
    assert tree.conflicts() == [
        "base has 2 parents (map, odom): the newest transform before an image counts"
    ]


def test_frames_that_are_static_and_moving_are_named(tree: TransformTree) -> None:
    step(tree, "odom", "base", None, 9.0)
    assert tree.conflicts() == ["base is static and moving: what moves counts"]
    assert x_of(tree.lookup("odom", "base", 2 * S)) == 2.0


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        (S // 2, r"tf from 'odom' to 'base' begins 0\.500 s after the image"),
        (3 * S + 1, r"tf from 'odom' to 'base' ends 0\.000 s before the image"),
        (4 * S, r"ends 1\.000 s before the image"),
    ],
)
def test_nothing_is_extrapolated(tree: TransformTree, stamp: int, text: str) -> None:
    with pytest.raises(GeometryError, match=text):
        tree.lookup("odom", "eye", stamp)


def test_a_gap_is_named_with_its_length(tree: TransformTree) -> None:
    step(tree, "odom", "base", 5 * S, 5.0)
    with pytest.raises(GeometryError, match=r"a gap of 2\.000 s from 'odom' to 'base'"):
        tree.lookup("odom", "base", 4 * S)
    assert x_of(tree.lookup("odom", "base", 5 * S)) == 5.0


def test_names_may_begin_with_a_slash(tree: TransformTree) -> None:
    step(tree, "/eye", "/lens", None, 1.0)
    assert x_of(tree.lookup("/eye", "lens", 0)) == 1.0


def test_what_tf2_ignores_is_ignored_and_counted(tree: TransformTree) -> None:
    for parent, child, x, turn in [
        ("", "eye", 0.0, STILL),
        ("odom", "", 0.0, STILL),
        ("eye", "/eye", 0.0, STILL),
        ("odom", "eye", np.nan, STILL),
        ("odom", "eye", 0.0, (0.0, 0.0, 0.0, 0.0)),
    ]:
        step(tree, parent, child, None, x, turn)
    assert tree.refused == 5
    assert x_of(tree.lookup("base", "eye", 0)) == pytest.approx(0.6)


def test_a_turn_of_another_length_than_1_is_made_as_long_as_tf2_makes_it(
    tree: TransformTree,
) -> None:
    turned = tree.lookup("mast", "eye", 0).rotation
    for length in (1e-9, 0.5, 1.1, 1e9):
        step(tree, "mast", "eye", None, 0.1, tuple(length * n for n in LEFT))
        bounds.check(tree.lookup("mast", "eye", 0).rotation, turned, ROUNDING)
    assert tree.refused == 0


def test_unknown_frames_and_loops_are_named(tree: TransformTree) -> None:
    with pytest.raises(GeometryError, match="'lens' is not in tf; its frames are base, eye, mast"):
        tree.lookup("base", "lens", 0)
    step(tree, "eye", "base", None)  # base also moves in odom, which counts
    loop = TransformTree()
    step(loop, "a", "b", None)
    step(loop, "b", "a", None)
    step(loop, "b", "c", None)
    step(loop, "root", "d", None)
    with pytest.raises(GeometryError, match="tf has a loop"):
        loop.lookup("d", "c", 0)


def test_fixed_and_moving_ways_are_told_apart(tree: TransformTree) -> None:
    assert tree.is_fixed("base", "eye")
    assert tree.is_fixed("eye", "base")
    assert not tree.is_fixed("odom", "eye")
    assert tree.is_connected("odom", "eye")
    step(tree, "island", "tree", None)
    assert not tree.is_connected("odom", "tree")
