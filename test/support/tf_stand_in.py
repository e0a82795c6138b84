"""A stand-in for tf2_ros where it is not installed: the calls that nodes make, and their errors.

Written after the rules of tf2_ros/buffer.py, tf2_py, and tf2's buffer_core.cpp, cache.cpp and
static_cache.cpp (ros2/geometry2). test_tf_stand_in.py compares it with them where they are
installed. It subscribes to nothing and has no service: tests fill the buffer.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, JumpThreshold
from rclpy.duration import Duration
from rclpy.time import Time

from support.quaternions import IDENTITY, Placed, compose, inverse
from support.tf_tracks import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    Track,
    TransformException,
)

__all__ = [
    "Buffer",
    "ConnectivityException",
    "ExtrapolationException",
    "InvalidArgumentException",
    "LookupException",
    "TransformException",
    "TransformListener",
]
NO_WAIT = Duration()
CACHE_TIME = Duration(seconds=10)
MAX_DEPTH = 1000
UNCONNECTED = (
    "Could not find a connection between {!r} and {!r} because they are not part of the same tree."
    "Tf has two or more unconnected trees."
)


class Buffer:
    """The newest transforms of each child frame, as trees."""

    def __init__(self, cache_time: Duration | None = None, node: Any = None) -> None:
        self._cache = (cache_time or CACHE_TIME).nanoseconds
        self._tracks: dict[str, Track] = {}  # by child frame
        self._frames: set[str] = set()
        self.clock = node.get_clock() if node is not None else Clock()
        jump = JumpThreshold(
            min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
        )
        self.jump_handle = self.clock.create_jump_callback(jump, post_callback=self._on_jump)

    def clear(self) -> None:
        for track in self._tracks.values():
            track.clear()  # the frames stay known

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        self._set(transform, is_static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        self._set(transform, is_static=True)

    def can_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> bool:
        end = _now() + timeout.nanoseconds / 1e9
        while not self._is_known(target_frame, source_frame, time):
            if _now() >= end:
                return False
            _sleep(0.02)
        return True

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> TransformStamped:
        self.can_transform(target_frame, source_frame, time, timeout)
        found = self._look_up(target_frame, source_frame, time.nanoseconds)
        message = TransformStamped(child_frame_id=source_frame)
        message.header.frame_id = target_frame
        stamp = time.nanoseconds or self._newest(target_frame, source_frame)
        message.header.stamp = Time(nanoseconds=stamp).to_msg()
        move, turn = message.transform.translation, message.transform.rotation
        move.x, move.y, move.z = found.place.tolist()
        turn.x, turn.y, turn.z, turn.w = found.turn.tolist()
        return message

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        for frame in (target_frame, source_frame):
            self._check(frame, "get_latest_common_time")
        try:
            return Time(nanoseconds=self._newest(target_frame, source_frame))
        except TransformException as error:
            raise TransformException(str(error)) from None  # tf2_py names no kind here

    def _on_jump(self, jump: Any) -> None:
        self.clear()

    def _set(self, transform: TransformStamped, *, is_static: bool) -> None:
        parent = transform.header.frame_id.removeprefix("/")
        child = transform.child_frame_id.removeprefix("/")
        placed = Placed.from_message(transform.transform)
        if not parent or not child or parent == child or placed is None:
            return  # tf2 logs an error
        self._frames |= {parent, child}
        if child not in self._tracks or self._tracks[child].is_static != is_static:
            self._tracks[child] = Track(self._cache, is_static=is_static)
        stamp = Time.from_msg(transform.header.stamp).nanoseconds
        self._tracks[child].insert(stamp, parent, placed)

    def _is_known(self, target: str, source: str, when: Time) -> bool:
        try:
            self._look_up(target, source, when.nanoseconds)
        except TransformException:
            return False
        return True

    def _check(self, frame: str, what: str) -> None:
        if not frame or frame.startswith("/"):
            why = "start with a '/'" if frame else "be empty"
            raise InvalidArgumentException(
                f'Invalid argument "{frame}" passed to {what} - in tf2 frame_ids cannot {why}'
            )
        if frame not in self._frames:
            raise LookupException(f'"{frame}" passed to {what} does not exist. ')

    def _look_up(self, target: str, source: str, when: int) -> Placed:
        if target == source:
            return IDENTITY  # of any frame, known or not
        self._check(target, "lookupTransform argument target_frame")
        self._check(source, "lookupTransform argument source_frame")
        when = when or self._newest(target, source)
        below: dict[str, Placed] = {}
        gap: TransformException = ConnectivityException(UNCONNECTED.format(target, source))
        try:
            for frame, placed in self._upwards(source, when):
                below[frame] = placed
                if frame == target:
                    return placed
        except ExtrapolationException as error:  # the two may meet before it
            gap = error
        for frame, placed in self._upwards(target, when):
            if frame in below:
                return compose(inverse(placed), below[frame])
        raise gap

    def _upwards(self, frame: str, when: int) -> Iterator[tuple[str, Placed]]:
        """Yield each frame from `frame` to its root, and where `frame` is in it."""
        placed = IDENTITY
        yield frame, placed
        for _ in range(MAX_DEPTH):
            if frame not in self._tracks:
                return
            frame, step = self._tracks[frame].at(when)
            placed = compose(step, placed)
            yield frame, placed
        raise LookupException("The tf tree is invalid because it contains a loop.")

    def _newest(self, target: str, source: str) -> int:
        """Return the newest stamp that all steps between two frames have; 0 if all are static."""
        if target == source:
            newest = self._tracks[target].newest() if target in self._tracks else None
            return newest[0] if newest else 0
        ours: dict[str, int] = {}
        for frame, stamp in self._newest_steps(source):
            ours[frame] = stamp
            if frame == target:
                return min(filter(None, ours.values()), default=0)
        theirs: list[int] = []
        for frame, stamp in self._newest_steps(target):
            theirs.append(stamp)
            if frame in ours:
                below = list(ours.values())[: list(ours).index(frame) + 1]
                return min(filter(None, below + theirs), default=0)
        raise ConnectivityException(UNCONNECTED.format(target, source))

    def _newest_steps(self, frame: str) -> Iterator[tuple[str, int]]:
        """Yield each frame from `frame` to its root, and the stamp of the step to there."""
        stamp = 0
        for _ in range(MAX_DEPTH):
            yield frame, stamp
            newest = self._tracks[frame].newest() if frame in self._tracks else None
            if newest is None:
                return
            stamp, frame = newest
        raise LookupException("The tf tree is invalid because it contains a loop.")


class TransformListener:
    """Hears nothing: tests fill the buffer."""

    def __init__(self, buffer: Buffer, node: Any, *, spin_thread: bool = False) -> None:
        self.is_listening = True

    def unregister(self) -> None:
        self.is_listening = False


def install(fixed: Any, moving: Iterable[Any] = ()) -> None:
    """Be this process's tf2_ros, whose every buffer knows these transforms."""

    class Filled(Buffer):
        def __init__(self, cache_time: Any = None, node: Any = None) -> None:
            super().__init__(cache_time, node)
            self.set_transform_static(fixed, "test")
            for transform in moving:
                self.set_transform(transform, "test")

    here = sys.modules[__name__]
    here.Buffer = Filled  # type: ignore[attr-defined]
    sys.modules["tf2_ros"] = here


_now, _sleep = time.monotonic, time.sleep
