"""The transforms of a recording, looked up by the rules of tf2.

Source of the rules: tf2's buffer_core.cpp and cache.cpp (ros2/geometry2). Different from a live
buffer, nothing is forgotten after 10 s, and a static transform counts from the beginning on,
whenever it was published. Lengths in metres, stamps in nanoseconds.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.mapper import NANO

LONGEST_GAP_S = 1.0  # between two transforms that may be interpolated
MAX_DEPTH = 1000  # steps to the root of a tree; a longer way is a loop
Floats = NDArray[np.float64]


class TransformTree:
    """Frames and their parents, static and moving."""

    def __init__(self) -> None:
        """Start empty."""
        self._static: dict[str, tuple[str, Pose]] = {}
        self._moving: dict[str, _Track] = {}
        self._parents: dict[str, set[str]] = {}
        self.frames: set[str] = set()
        self.refused = 0  # transforms that tf2 would ignore too

    def add(
        self,
        parent: str,
        child: str,
        stamp: int,
        translation: Sequence[float],
        rotation: Sequence[float],
        *,
        is_static: bool,
    ) -> None:
        """Take the pose of `child` in `parent`; `rotation` is a quaternion x, y, z, w.

        What tf2 ignores is counted in `refused`: a frame without a name or that is its own parent,
        NaN, a quaternion without a length; and infinite translations, which fit nowhere. Another
        length than 1 is made 1, as tf2 does.
        """
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        numbers = np.array([*translation, *rotation], np.float64)
        length = float(np.linalg.norm(numbers[3:]))
        is_valid = np.isfinite(numbers).all() and 0 < length < np.inf
        if not (parent and child and parent != child and is_valid):
            self.refused += 1
            return
        numbers[3:] /= length
        self._parents.setdefault(child, set()).add(parent)
        self.frames |= {parent, child}
        if is_static:
            self._static[child] = (parent, _pose(numbers))
        else:
            self._moving.setdefault(child, _Track(child)).add(parent, stamp, numbers)

    def conflicts(self) -> list[str]:
        """Return what two publishers disagree about."""
        found = [
            f"{child} has {len(parents)} parents ({', '.join(sorted(parents))}): the newest "
            "transform before an image counts"
            for child, parents in sorted(self._parents.items())
            if len(parents) > 1
        ]
        both = sorted(self._static.keys() & self._moving.keys())
        return found + [f"{child} is static and moving: what moves counts" for child in both]

    def is_connected(self, one: str, other: str) -> bool:
        """Return whether two frames have an ancestor in common."""
        return bool(self._ancestors(one) & self._ancestors(other))

    def is_fixed(self, parent: str, child: str) -> bool:
        """Return whether no moving transform is on the way from `child` to `parent`."""
        way = self._ancestors(child) ^ self._ancestors(parent)
        return not way & self._moving.keys()

    def lookup(self, parent: str, child: str, stamp: int) -> Pose:
        """Return the pose of `child` in `parent` at `stamp`; GeometryError says why not."""
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        for frame in (parent, child):
            if frame not in self.frames:
                raise GeometryError(
                    f"frame {frame!r} is not in tf; its frames are {', '.join(sorted(self.frames))}"
                )
        below: dict[str, Pose] = {}
        gap = None
        try:
            for frame, pose in self._upwards(child, stamp):
                if frame == parent:
                    return pose
                below[frame] = pose
        except GeometryError as error:  # the two may meet before it
            gap = error
        for frame, pose in self._upwards(parent, stamp):
            if frame in below:
                return pose.inverse().compose(below[frame])
        if gap is not None:
            raise gap
        raise GeometryError(
            f"tf does not connect {child!r} and {parent!r}: their trees end at "
            f"{list(below)[-1]!r} and {frame!r}; publish the transform between the two"
        )

    def _ancestors(self, frame: str) -> set[str]:
        """Return a frame and all frames above it, by the newest transforms."""
        return {name for name, _ in self._upwards(frame.removeprefix("/"), None)}

    def _upwards(self, frame: str, stamp: int | None) -> Iterator[tuple[str, Pose]]:
        """Yield each frame from `frame` to its root, and the pose of `frame` in it.

        Without a stamp, the newest transforms count.
        """
        pose = Pose(np.eye(3), np.zeros(3))
        yield frame, pose
        for _ in range(MAX_DEPTH):
            if frame in self._moving:
                parent, step = self._moving[frame].at(stamp)
            elif frame in self._static:
                parent, step = self._static[frame]
            else:
                return
            frame, pose = parent, step.compose(pose)
            yield frame, pose
        raise GeometryError(f"tf has a loop at {frame!r}: a frame is its own ancestor")


class _Track:
    """The moving transforms of one child frame."""

    def __init__(self, child: str) -> None:
        self._child = child
        self._names: list[str] = []  # of the parents
        self._stamps, self._parents, self._numbers = array("q"), array("i"), array("d")
        self._is_sorted = True

    def add(self, parent: str, stamp: int, numbers: Floats) -> None:
        if parent not in self._names:
            self._names.append(parent)
        self._is_sorted &= not self._stamps or stamp >= self._stamps[-1]
        self._stamps.append(stamp)
        self._parents.append(self._names.index(parent))
        self._numbers.extend(numbers.tolist())

    def at(self, stamp: int | None) -> tuple[str, Pose]:
        """Return the parent and the pose in it; the newest where `stamp` is None."""
        self._sort()
        stamps = self._stamps
        # Of equal stamps the one that came last counts, as in tf2.
        i = bisect_right(stamps, stamps[-1] if stamp is None else stamp) - 1
        parent = self._names[self._parents[max(i, 0)]]
        if stamp is None or (i >= 0 and stamps[i] == stamp):
            return parent, _pose(self._row(i))
        if i < 0 or i + 1 == len(stamps):
            raise GeometryError(self._outside(parent, stamp))
        if self._parents[i] != self._parents[i + 1]:
            return parent, _pose(self._row(i))
        gap = stamps[i + 1] - stamps[i]
        if gap * NANO > LONGEST_GAP_S:
            raise GeometryError(
                f"tf has a gap of {gap * NANO:.3f} s from {parent!r} to {self._child!r} around the "
                f"image, more than {LONGEST_GAP_S:g} s: record it more often"
            )
        share = (stamp - stamps[i]) / gap
        return parent, _pose(_between(self._row(i), self._row(i + 1), share))

    def _row(self, i: int) -> Floats:
        return np.array(self._numbers[7 * i : 7 * i + 7])

    def _sort(self) -> None:
        if self._is_sorted:
            return
        order = np.argsort(np.asarray(self._stamps), kind="stable")
        rows = np.asarray(self._numbers).reshape(-1, 7)[order]
        self._stamps = array("q", np.asarray(self._stamps)[order].tobytes())
        self._parents = array("i", np.asarray(self._parents)[order].tobytes())
        self._numbers = array("d", rows.tobytes())
        self._is_sorted = True

    def _outside(self, parent: str, stamp: int) -> str:
        first, last = self._stamps[0], self._stamps[-1]
        early = stamp < first
        seconds = (first - stamp if early else stamp - last) * NANO
        return (
            f"tf from {parent!r} to {self._child!r} {'begins' if early else 'ends'} "
            f"{seconds:.3f} s {'after' if early else 'before'} the image: is it published all the "
            "time, and do both use one clock?"
        )


def _pose(numbers: Floats) -> Pose:
    return Pose.from_quaternion(numbers[:3].tolist(), numbers[3:].tolist())


def _between(first: Floats, second: Floats, share: float) -> Floats:
    """Return the transform at `share` 0..1: linear, and the shorter arc of the rotation (slerp)."""
    mixed = (1 - share) * first + share * second
    a, b = first[3:] / np.linalg.norm(first[3:]), second[3:] / np.linalg.norm(second[3:])
    cosine = float(a @ b)
    b, cosine = (-b, -cosine) if cosine < 0 else (b, cosine)
    angle = float(np.arccos(min(1.0, cosine)))
    if angle < 1e-6:  # the sines are too small to divide by
        mixed[3:] = (1 - share) * a + share * b
    else:
        mixed[3:] = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    return mixed
