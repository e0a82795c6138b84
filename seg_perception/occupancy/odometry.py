"""Where the robot was: odometry of the last seconds, interpolated at an image's stamp."""

import math
import threading
from bisect import bisect_left
from collections import deque

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.mapper import NANO, Pose2D

HOLD = 0.2  # s that a place counts as the robot's after its stamp
LONGEST_GAP_S = 1.0  # s between two places that may be interpolated
KEPT = 10.0  # s, as tf2 keeps
MOST = 5000  # places; 500 Hz for KEPT seconds


class Odometry:
    """Remember where the base was in odom; methods may be called from several threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._places: deque[tuple[int, Pose2D]] = deque(maxlen=MOST)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever added."""
        return not self._places

    def add(self, stamp: int, place: Pose2D) -> None:
        """Take the place at `stamp` (ns); one that jumps back in time starts again.

        Raises GeometryError for a place that is none. What comes a little late is left out.
        """
        if not all(map(math.isfinite, place)):
            raise GeometryError(f"odom says {tuple(place)}: x, y and yaw must be finite numbers")
        with self._lock:
            places = self._places
            if places and stamp <= places[-1][0]:
                if (places[-1][0] - stamp) * NANO <= HOLD:
                    return
                places.clear()
            places.append((stamp, place))
            while (stamp - places[0][0]) * NANO > KEPT:
                places.popleft()

    def at(self, stamp: int) -> Pose2D:
        """Return the place at `stamp` (ns); GeometryError says by how much that is not known."""
        with self._lock:
            if not self._places:
                raise GeometryError("no odom yet: is it published?")
            newest, place = self._places[-1]
            if stamp >= newest:
                if (stamp - newest) * NANO > HOLD:
                    raise GeometryError(
                        f"the newest odom is {(stamp - newest) * NANO:.3f} s older than the "
                        f"image, more than {HOLD:g} s: is odometry still published, and do both "
                        "use one clock?"
                    )
                return place
            after = bisect_left(self._places, stamp, key=lambda entry: entry[0])
            later, there = self._places[after]
            if after == 0 and stamp < later:
                raise GeometryError(
                    f"the image is {(later - stamp) * NANO:.3f} s older than the oldest odom "
                    f"that is kept ({KEPT:g} s): do both use one clock, or is the image late?"
                )
            if stamp == later:
                return there
            earlier, here = self._places[after - 1]
        if (later - earlier) * NANO > LONGEST_GAP_S:
            raise GeometryError(
                f"odom has a gap of {(later - earlier) * NANO:.3f} s around the image, more than "
                f"{LONGEST_GAP_S:g} s: publish it more often"
            )
        return _between(here, there, (stamp - earlier) / (later - earlier))


def planar(pose: Pose) -> Pose2D:
    """Return x, y and yaw of the base's pose in odom; height, roll and pitch are left out."""
    x, y, _ = pose.translation.tolist()
    return Pose2D(x, y, math.atan2(pose.rotation[1, 0], pose.rotation[0, 0]))


def _between(here: Pose2D, there: Pose2D, share: float) -> Pose2D:
    """Return the place at `share` 0..1 of the way, turning the shorter way round."""
    turn = math.remainder(there.yaw - here.yaw, math.tau)
    return Pose2D(
        here.x + share * (there.x - here.x),
        here.y + share * (there.y - here.y),
        math.remainder(here.yaw + share * turn, math.tau),
    )
