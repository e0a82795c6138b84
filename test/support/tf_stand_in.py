"""A stand-in for tf2_ros where it is not installed: the calls that nodes make, and their errors.

Written after tf2_ros/buffer.py, transform_listener.py, tf2_py, and tf2's buffer_core.cpp, cache.cpp
and static_cache.cpp of ros2/geometry2. It knows one step from parent to child, where tf2 knows
trees, and gives the nearest transform, where tf2 interpolates.
"""

import sys
import time
from collections.abc import Iterable
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.time import Time

NO_WAIT = Duration()


class TransformException(Exception):
    """Base of the others, as in tf2_py."""


class LookupException(TransformException):
    """A frame that nobody published."""


class ConnectivityException(TransformException):
    """Frames of two trees."""


class ExtrapolationException(TransformException):
    """A time before or after all that is known."""


class InvalidArgumentException(TransformException):
    """A frame or a transform that cannot be."""


class Buffer:
    """Transforms by (parent, child), each with its times."""

    def __init__(self, cache_time: Duration | None = None, node: Any = None) -> None:
        self._known: dict[tuple[str, str], dict[int, Any]] = {}
        self._static: dict[tuple[str, str], Any] = {}
        jump = JumpThreshold(
            min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
        )
        self.jump_handle = node.get_clock().create_jump_callback(jump, post_callback=self._clear)

    def _clear(self, jump: Any) -> None:
        for times in self._known.values():
            times.clear()  # the frames stay known, and tf2's static cache keeps what it has

    def set_transform(self, transform: Any, authority: str) -> None:
        stamp = Time.from_msg(transform.header.stamp).nanoseconds
        key = transform.header.frame_id, transform.child_frame_id
        self._known.setdefault(key, {})[stamp] = transform

    def set_transform_static(self, transform: Any, authority: str) -> None:
        self._static[transform.header.frame_id, transform.child_frame_id] = transform

    def can_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> bool:
        try:
            self._core(target_frame, source_frame, time)
        except TransformException:
            return False
        return True

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> Any:
        end = _now() + timeout.nanoseconds / 1e9
        while _now() < end and not self.can_transform(target_frame, source_frame, time):
            _sleep(0.02)
        return self._core(target_frame, source_frame, time)

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        key = target_frame, source_frame
        if key in self._static:
            return Time()
        if not self._known.get(key):
            raise ConnectivityException("not part of the same tree")
        return Time(nanoseconds=max(self._known[key]))

    def _core(self, target: str, source: str, when: Time) -> Any:
        frames = {name for key in (*self._known, *self._static) for name in key}
        for what, frame in (("target", target), ("source", source)):
            if not frame or frame.startswith("/"):
                raise InvalidArgumentException(f"frame {frame!r} in tf2 cannot be")
            if frame not in frames:
                raise LookupException(
                    f'"{frame}" passed to lookupTransform argument {what}_frame does not exist. '
                )
        if (target, source) in self._static:
            return self._static[target, source]
        times = self._known.get((target, source))
        if times is None:
            raise ConnectivityException(
                f"Could not find a connection between '{target}' and '{source}' because they are "
                "not part of the same tree.Tf has two or more unconnected trees."
            )
        if not times or not min(times) <= when.nanoseconds <= max(times):
            raise ExtrapolationException("Lookup would require extrapolation")
        return times[min(times, key=lambda stamp: abs(stamp - when.nanoseconds))]


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
