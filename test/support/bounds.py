"""How far computed geometry may be from what it stands for: derived, not measured.

Of scores and networks see support/rounding.py and support/reference.py.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPS32, EPS64 = (float(np.finfo(kind).eps) for kind in (np.float32, np.float64))


def of_float64(reach: float = 1.0, operations: int = 100) -> float:
    """Return the rounding of so many float64 operations on values up to `reach`."""
    return operations * EPS64 * max(1.0, reach)


def of_poses(steps: int = 1, reach: float = 1.0) -> float:
    """Return how far two float64 ways of following `steps` poses may be apart.

    A step takes at most a product of matrices, two of quaternions, an arc between two, and
    conversions: fewer than 100 roundings of values up to `reach` (m).
    """
    return of_float64(reach, 100 * steps)


def of_float32(values: ArrayLike) -> float:
    """Return a unit in the last place of the largest: what two roundings to float32 may do."""
    return EPS32 * float(np.nanmax(np.abs(values)))


def of_ground(away: ArrayLike, height: float) -> NDArray[np.float64]:
    """Return how far off (m) a ground point may be that a float32 ray meets `away` m from its foot.

    The ray falls by height / away a metre, to EPS32, so it meets the ground within EPS32 of away
    squared / height; and the point is rounded itself.
    """
    away = np.asarray(away, np.float64)
    return EPS32 * (away + away * away / height)


def of_row(away: float, height: float, focal: float) -> float:
    """Return how much ground (m) a row of pixels covers at most, `away` m ahead of a camera.

    From row to row a ray turns by at most 1 / focal, and a radian is (away^2 + height^2) / height m
    of ground; the row may begin at `away` and end beyond.
    """
    beyond = away + (away * away + height * height) / (height * focal)
    return (beyond * beyond + height * height) / (height * focal)


def check(actual: ArrayLike, expected: ArrayLike, bound: float) -> None:
    """Fail where two arrays are further apart than `bound` anywhere; not-a-numbers are equal."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
