"""Places and turns of frames as tf2 computes with them: positions in metres, quaternions xyzw."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Placed(NamedTuple):
    """Where a frame is in another."""

    place: Floats  # (3,)
    turn: Floats  # (4,), of length 1

    @classmethod
    def from_message(cls, transform: Any) -> "Placed | None":
        """Return a Transform, its quaternion made as long as 1; None where it holds no such."""
        move, turn = transform.translation, transform.rotation
        place, turn = np.array([move.x, move.y, move.z]), np.array([turn.x, turn.y, turn.z, turn.w])
        if np.isnan(place).any() or not np.isfinite(turn).all() or not turn @ turn:
            return None
        return cls(place, turn / np.linalg.norm(turn))


IDENTITY = Placed(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


def product(one: Floats, other: Floats) -> Floats:
    """Return the turn by `other`, then by `one`."""
    (*a, s), (*b, t) = one, other
    u, v = np.array(a), np.array(b)
    return np.append(s * v + t * u + np.cross(u, v), s * t - u @ v)


def conjugate(turn: Floats) -> Floats:
    """Return the turn back."""
    return turn * [-1, -1, -1, 1]


def rotate(turn: Floats, point: Floats) -> Floats:
    """Return a turned point."""
    return product(product(turn, np.append(point, 0.0)), conjugate(turn))[:3]


def compose(outer: Placed, inner: Placed) -> Placed:
    """Return where `inner` is in the frame that `outer` is in."""
    place = rotate(outer.turn, inner.place) + outer.place
    return Placed(place, product(outer.turn, inner.turn))


def inverse(placed: Placed) -> Placed:
    """Return where the other frame is in this one."""
    back = conjugate(placed.turn)
    return Placed(rotate(back, -placed.place), back)


def between(one: Placed, other: Placed, share: float) -> Placed:
    """Return what is `share` 0..1 of the way, along a line and the shorter arc."""
    place = (1 - share) * one.place + share * other.place
    cosine = float(one.turn @ other.turn)
    end = other.turn if cosine >= 0 else -other.turn
    half = np.arccos(min(1.0, abs(cosine)))  # of the angle between the two
    if half == 0:
        return Placed(place, one.turn)
    turn = np.sin((1 - share) * half) * one.turn + np.sin(share * half) * end
    return Placed(place, turn / np.sin(half))
