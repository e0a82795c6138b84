"""The stand-in of tf2_ros does what tf2_ros does, and a recording's tree what both do."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from support import bounds, tf_stand_in

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.transforms import TransformTree

FRAMES = "abcdef"
ROUNDING = bounds.of_poses(len(FRAMES), reach=10.0 * len(FRAMES))
needs_tf2 = pytest.mark.skipif(
    importlib.util.find_spec("tf2_ros") is None, reason="tf2_ros is not installed"
)
SEEDS = range(30)
CHANGES = [0.88, 0.1, 0.02]  # how often a transform moves, is static, all are cleared


def transform(random: np.random.Generator, parent: str, child: str, stamp: int) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = Time(nanoseconds=stamp).to_msg()
    move, turn = message.transform.translation, message.transform.rotation
    move.x, move.y, move.z = random.uniform(-5, 5, 3).tolist()
    turn.x, turn.y, turn.z, turn.w = (random.normal(size=4) * random.choice([0.1, 1.0])).tolist()
    return message


def pose(message: TransformStamped) -> Pose:
    move, turn = message.transform.translation, message.transform.rotation
    return Pose.from_quaternion((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))


def equal(one: Pose, other: Pose) -> bool:
    apart = [one.rotation - other.rotation, one.translation - other.translation]
    return max(np.abs(a).max() for a in apart) <= ROUNDING


def answer(call: Any, *arguments: Any) -> Any:
    """Return what a call gives, or its error's name."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error).__name__, str(error).partition("\n")[0]


class Both:
    """The stand-in and tf2_ros, told the same."""

    def __init__(self, random: np.random.Generator) -> None:
        tf2_ros = importlib.import_module("tf2_ros")
        self._random = random
        self._buffers = [module.Buffer() for module in (tf_stand_in, tf2_ros)]

    def change(self) -> None:
        """Set a transform, valid or not, or clear."""
        random = self._random
        parent, child = random.choice([*FRAMES, "", "/a"], 2, p=[0.15] * 6 + [0.05] * 2)
        message = transform(random, str(parent), str(child), self._stamp())
        if random.random() < 0.1:
            message.transform.rotation.w = float(random.choice([np.nan, np.inf]))
        name = str(random.choice(["set_transform", "set_transform_static", "clear"], p=CHANGES))
        for buffer in self._buffers:
            getattr(buffer, name)(*([] if name == "clear" else [message, "test"]))

    def compare(self) -> str:
        """Ask both for one transform; return what came of it."""
        random = self._random
        target, source = (str(f) for f in random.choice([*FRAMES, "x", "/a", ""], 2))
        when = Time(nanoseconds=self._stamp() * int(random.random() < 0.9))
        ours, theirs = (answer(b.lookup_transform, target, source, when) for b in self._buffers)
        if isinstance(theirs, tuple):
            assert ours[0] == theirs[0]
            if theirs[0] != "ExtrapolationException":  # its text holds times
                assert ours == theirs
        else:
            assert ours.header == theirs.header
            assert ours.child_frame_id == theirs.child_frame_id
            assert equal(pose(ours), pose(theirs))
        for call in ("can_transform", "get_latest_common_time"):
            arguments = (target, source, when)[: 3 if call == "can_transform" else 2]
            found = [answer(getattr(b, call), *arguments) for b in self._buffers]
            assert found[0] == found[1]
        return theirs[0] if isinstance(theirs, tuple) else "found"

    def _stamp(self) -> int:
        return int(self._random.integers(1, 30)) * 500_000_000


@needs_tf2
def test_the_stand_in_answers_as_tf2() -> None:
    seen = set()
    for seed in SEEDS:
        both = Both(np.random.default_rng(seed))
        for _ in range(60):
            both.change()
            seen.add(both.compare())
    assert seen == {
        "found", "ConnectivityException", "ExtrapolationException", "InvalidArgumentException",
        "LookupException",
    }  # fmt: skip


@pytest.fixture(params=["stand-in", pytest.param("real", marks=needs_tf2)])
def tf2(request: pytest.FixtureRequest) -> ModuleType:
    return tf_stand_in if request.param == "stand-in" else importlib.import_module("tf2_ros")


def test_a_recordings_tree_answers_as_a_buffer(tf2: ModuleType) -> None:
    found = 0
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        tree, buffer = TransformTree(), tf2.Buffer()
        for child, name in enumerate(FRAMES[1:], 1):
            parent = str(random.choice(list(FRAMES[:child])))
            is_static = bool(random.random() < 0.4)
            stamps = [0] if is_static else range(1, 7)
            for stamp in random.permutation(stamps):
                message = transform(random, parent, name, int(stamp) * 10**9)
                set_one = buffer.set_transform_static if is_static else buffer.set_transform
                set_one(message, "test")
                move, turn = message.transform.translation, message.transform.rotation
                numbers = (move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w)
                tree.add(parent, name, int(stamp) * 10**9, *numbers, is_static=is_static)
        for _ in range(20):
            target, source = (str(f) for f in random.choice([*FRAMES, "x"], 2, replace=False))
            stamp = int(random.integers(5, 70)) * 100_000_000
            try:
                ours = tree.lookup(target, source, stamp)
            except GeometryError:
                with pytest.raises(tf2.TransformException):
                    buffer.lookup_transform(target, source, Time(nanoseconds=stamp))
            else:
                theirs = buffer.lookup_transform(target, source, Time(nanoseconds=stamp))
                assert equal(ours, pose(theirs))
                found += 1
    assert found > 10 * len(SEEDS) / 2


def test_what_tf2_refuses_is_refused(tf2: ModuleType) -> None:
    good = transform(np.random.default_rng(0), "a", "b", 10**9)
    cases = {
        "nan": (np.nan, 1.0), "inf": (0.0, np.inf), "no turn": (0.0, 0.0), "long": (0.0, 2.0),
        "short": (0.0, 0.1),
    }  # fmt: skip
    kept = {}
    for name, (x, w) in cases.items():
        buffer, tree = tf2.Buffer(), TransformTree()
        good.transform.translation.x = x
        turn = good.transform.rotation
        turn.x, turn.y, turn.z, turn.w = 0.0, 0.0, 0.0, w
        buffer.set_transform(good, "test")
        kept[name] = bool(buffer.can_transform("a", "b", Time(nanoseconds=10**9), Duration()))
        tree.add("a", "b", 10**9, (x, 0.0, 0.0), (0.0, 0.0, 0.0, w), is_static=False)
        assert tree.refused == 1 - kept[name]
    assert kept == {"nan": False, "inf": False, "no turn": False, "long": True, "short": True}
