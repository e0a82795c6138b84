"""How far computed geometry may be from what it stands for: float64 poses, float32 points.

Derived, not measured; of scores and networks see support/rounding.py and support/reference.py.
"""

import numpy as np
from numpy.typing import ArrayLike

EPS32, EPS64 = (float(np.finfo(kind).eps) for kind in (np.float32, np.float64))


def of_poses(steps: int = 1, reach: float = 1.0) -> float:
    """Return how far two float64 ways of following `steps` poses may be apart.

    A step takes at most a product of matrices, two of quaternions, an arc between two, and
    conversions: fewer than 100 roundings of values up to `reach` (m).
    """
    return 100 * steps * EPS64 * max(1.0, reach)


def check(actual: ArrayLike, expected: ArrayLike, bound: float) -> None:
    """Fail where two arrays are further apart than `bound` anywhere; not-a-numbers are equal."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
