"""What tf2 remembers of one child frame, and the errors of tf2_py."""

from typing import NamedTuple

from support.quaternions import Placed, between


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


class Step(NamedTuple):
    """A child frame in its parent at a stamp."""

    stamp: int
    parent: str
    placed: Placed

    def equals(self, other: "Step") -> bool:
        if self[:2] != other[:2]:
            return False
        pairs = zip(self.placed, other.placed, strict=True)
        return all((a == b).all() for a, b in pairs)


class Track:
    """The steps of one child frame, newest first; one where it is static."""

    def __init__(self, cache: int, *, is_static: bool) -> None:
        """Remember `cache` ns."""
        self.is_static, self._cache = is_static, cache
        self._steps: list[Step] = []

    def insert(self, stamp: int, parent: str, placed: Placed) -> None:
        step = Step(stamp, parent, placed)
        if self.is_static:
            self._steps = [step]
            return
        newest = self._steps[0].stamp if self._steps else 0
        self._steps = [s for s in self._steps if s.stamp + self._cache >= newest]
        if self._steps and stamp < newest - self._cache:
            return
        if not any(step.equals(s) for s in self._steps):
            place = sum(s.stamp > stamp for s in self._steps)
            self._steps.insert(place, step)

    def clear(self) -> None:
        """Forget what moves; a static step stays."""
        if not self.is_static:
            self._steps.clear()

    def newest(self) -> tuple[int, str] | None:
        """Return the newest stamp, 0 where it is static, and parent."""
        if not self._steps:
            return None
        step = self._steps[0]
        return (0 if self.is_static else step.stamp), step.parent

    def at(self, when: int) -> tuple[str, Placed]:
        """Return parent and place; a time of 0 is the newest."""
        steps = self._steps
        if steps and (self.is_static or when in (0, steps[0].stamp)):
            return steps[0].parent, steps[0].placed
        if steps and when == steps[-1].stamp:
            return steps[-1].parent, steps[-1].placed
        if not steps or not steps[-1].stamp < when < steps[0].stamp:
            raise ExtrapolationException(f"Lookup would require extrapolation at time {when} ns")
        i = next(i for i, step in enumerate(steps) if step.stamp <= when)
        older, newer = steps[i], steps[i - 1]
        if older.parent != newer.parent:
            return older.parent, older.placed
        share = (when - older.stamp) / (newer.stamp - older.stamp)
        return older.parent, between(older.placed, newer.placed, share)
