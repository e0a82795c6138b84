"""Lens distortion as CameraInfo names it, both ways.

Rays (x, y, z) have any length, axes x right, y down, z forward. The plane holds what the focal
lengths and the principal point have been taken from: ((u - cx) / fx, (v - cy) / fy).
Sources: OpenCV's calib3d (plumb_bob, rational_polynomial) and Kannala and Brandt 2006, the form of
OpenCV's fisheye module (equidistant).

Distortion is a polynomial that bends back far from the axis: there two rays share a pixel and
neither can be trusted. Only rays nearer to the axis than the first turning point are used.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from seg_perception.errors import GeometryError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COUNTS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
# A flat image plane never sees more than this half angle, in radians.
WIDEST_FLAT = 1.55
KNOTS = 2048
STEPS = 12
CONVERGED = 1e-11
# Points a block: its arrays stay in the cache.
BLOCK = 8192


class Radial(NamedTuple):
    """A radial profile that rises from the axis to `limit`, with samples to invert it.

    For flat images `knots` are radii x / z and `limit` a radius, for equidistant ones angles.
    """

    numerator: tuple[float, ...]  # ascending powers of the squared radius or angle
    denominator: tuple[float, ...]
    limit: float
    knots: Floats
    values: Floats


def check(model: str, coefficients: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """Return the model and its coefficients, ("", ()) where there is no distortion.

    Zeros mean no distortion to a flat model; to `equidistant` they are the ideal fisheye lens.
    """
    numbers = tuple(float(c) for c in coefficients)
    if not np.isfinite(numbers).all():
        raise GeometryError(f"distortion coefficients {numbers} are not finite: calibrate again")
    if not model and any(numbers):
        fitting = [name for name, counts in COUNTS.items() if len(numbers) in counts]
        raise GeometryError(
            f"distortion_model is empty next to {len(numbers)} coefficients: "
            + (f"set it to {' or '.join(fitting)}" if fitting else "no known model has so many")
            + ", as the camera was calibrated, or publish the rectified image"
        )
    if model not in COUNTS and model:
        known = ", ".join(COUNTS)
        raise GeometryError(
            f"unknown distortion model {model!r}: known are {known}; calibrate with one of them "
            "or publish the rectified image"
        )
    if model != "equidistant" and not any(numbers):
        return "", ()
    if len(numbers) not in COUNTS[model]:
        wanted = " or ".join(map(str, COUNTS[model]))
        raise GeometryError(
            f"{model} has {wanted} distortion coefficients, not {len(numbers)}: correct D"
        )
    return model, numbers


def distort(model: str, coefficients: tuple[float, ...], rays: Floats) -> Floats:
    """Return where rays (...,3) meet the plane (...,2); NaN where the lens does not see them."""
    x, y, z = np.moveaxis(rays, -1, 0)
    with np.errstate(all="ignore"):
        if model == "equidistant":
            radial, sine = _radial(model, coefficients), np.hypot(x, y)
            angle = np.arctan2(sine, z)
            seen = (angle <= radial.limit) & ((sine > 0) | (z > 0))
            # On the axis the ratio is 0 / 0, and its limit 1 / z.
            scale = np.where(sine > 0, _profile(radial, angle)[0] / sine, 1 / z)
            plane = np.stack([x * scale, y * scale], axis=-1)
        elif model:
            radial, flat_x, flat_y = _radial(model, coefficients), x / z, y / z
            seen = (z > 0) & (np.hypot(flat_x, flat_y) <= radial.limit)
            moved = _bend(radial, *_tangential(coefficients), flat_x, flat_y)
            plane = np.stack(moved[:2], axis=-1)
        else:
            seen = z > 0
            plane = np.stack([x / z, y / z], axis=-1)
    return np.where(seen[..., None], plane, np.nan)


def undistort(
    model: str, coefficients: tuple[float, ...], plane: Floats, *, tolerance: float
) -> tuple[Floats, Floats]:
    """Return the rays (N,3) through points (N,2) of the plane, and how fast they spread (N,).

    `spread` is det(ray, its derivatives along x and y of the plane). Both are NaN where no ray
    comes back to within `tolerance`, in units of the plane.
    """
    rays, spread = np.ones((len(plane), 3)), np.ones(len(plane))
    if not model:
        rays[:, :2] = plane
        return rays, spread
    radial = _radial(model, coefficients)
    for start in range(0, len(plane), BLOCK):
        part = slice(start, start + BLOCK)
        x, y = plane[part].T.copy()
        with np.errstate(all="ignore"):
            if model == "equidistant":
                found = _unbend_fisheye(radial, x, y, rays[part], spread[part], tolerance)
            else:
                moves = _tangential(coefficients)
                found = _unbend(radial, moves, x, y, rays[part], spread[part], tolerance)
        rays[part][~found] = np.nan
        spread[part][~found] = np.nan
    return rays, spread


def _unbend(
    radial: Radial,
    tangential: tuple[float, float],
    x: Floats,
    y: Floats,
    rays: Floats,
    spread: Floats,
    tolerance: float,
) -> Flags:
    """Invert `_bend` by Newton's method from the radial part's inverse; say where that worked."""
    distance = np.hypot(x, y)
    near = np.interp(distance, radial.values, radial.knots)
    scale = np.where(distance > 0, near / distance, 1)
    flat_x, flat_y = x * scale, y * scale
    for step in range(STEPS):
        moved_x, moved_y, along_x, across, along_y = _bend(radial, *tangential, flat_x, flat_y)
        miss_x, miss_y = x - moved_x, y - moved_y
        stretch = along_x * along_y - across * across
        if step == STEPS - 1 or not (np.abs(miss_x) + np.abs(miss_y) > CONVERGED).any():
            break
        flat_x += (along_y * miss_x - across * miss_y) / stretch
        flat_y += (along_x * miss_y - across * miss_x) / stretch
    rays[:, 0], rays[:, 1] = flat_x, flat_y
    spread[:] = 1 / stretch
    inside = np.hypot(flat_x, flat_y) <= radial.limit
    return np.asarray(inside & (stretch > 0) & (np.hypot(miss_x, miss_y) <= tolerance))


def _unbend_fisheye(
    radial: Radial, x: Floats, y: Floats, rays: Floats, spread: Floats, tolerance: float
) -> Flags:
    """Invert the equidistant profile by Newton's method from its samples; rays have length 1."""
    distance = np.hypot(x, y)
    angle = np.interp(distance, radial.values, radial.knots)
    for step in range(STEPS):
        value, slope = _profile(radial, angle)
        miss = distance - value
        if step == STEPS - 1 or not (np.abs(miss) > CONVERGED).any():
            break
        angle += miss / slope
    ratio = np.where(distance > 0, np.sin(angle) / distance, 1)
    rays[:, 0], rays[:, 1], rays[:, 2] = x * ratio, y * ratio, np.cos(angle)
    spread[:] = ratio / slope
    inside = (angle <= radial.limit) & (slope > 0)
    return np.asarray(inside & (np.abs(miss) <= tolerance))


def _bend(
    radial: Radial, p1: float, p2: float, x: Floats, y: Floats
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return the distorted x and y of flat x and y, and dx/dx, dx/dy = dy/dx, dy/dy."""
    square = x * x + y * y
    gain, slope = _ratio(radial, square)
    product = x * y
    moved_x = x * gain + 2 * p1 * product + p2 * (square + 2 * x * x)
    moved_y = y * gain + p1 * (square + 2 * y * y) + 2 * p2 * product
    along_x = gain + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    along_y = gain + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    return moved_x, moved_y, along_x, 2 * (product * slope + p1 * x + p2 * y), along_y


def _ratio(radial: Radial, square: Floats) -> tuple[Floats, Floats]:
    """Return numerator / denominator and its derivative by the squared radius or angle."""
    value, slope = _horner(radial.numerator, square)
    if len(radial.denominator) == 1:
        return value, slope
    below, below_slope = _horner(radial.denominator, square)
    value /= below
    return value, (slope - value * below_slope) / below


def _horner(polynomial: tuple[float, ...], x: Floats) -> tuple[Floats, Floats]:
    """Return a polynomial (ascending powers) and its derivative."""
    value, slope = np.full_like(x, polynomial[-1]), np.zeros_like(x)
    for c in polynomial[-2::-1]:
        slope = slope * x + value
        value = value * x + c
    return value, slope


def _profile(radial: Radial, r: Floats) -> tuple[Floats, Floats]:
    """Return the distorted radius of a radius or angle r, and its derivative."""
    square = r * r
    gain, slope = _ratio(radial, square)
    return r * gain, gain + 2 * square * slope


def _tangential(coefficients: tuple[float, ...]) -> tuple[float, float]:
    return coefficients[2], coefficients[3]


@lru_cache(maxsize=8)
def _radial(model: str, coefficients: tuple[float, ...]) -> Radial:
    """Find how far out the radial profile rises, and sample it there."""
    above: tuple[float, ...]
    below: tuple[float, ...]
    if model == "equidistant":
        above, below, widest = (1.0, *coefficients), (1.0,), np.pi
    else:
        k1, k2, _, _, *rest = coefficients
        above, below, widest = (1.0, k1, k2, *rest[:1]), (1.0, *rest[1:]), np.tan(WIDEST_FLAT)
    n, d, s = Polynomial(above), Polynomial(below), Polynomial([0, 1])
    rise = (n + 2 * s * n.deriv()) * d - 2 * s * n * d.deriv()
    # At a zero of the denominator the profile is infinite, and beyond it negative: stay before it.
    turns = [*np.sqrt(_positive(rise)), *(np.sqrt(_positive(d)) * (1 - 1e-9))]
    limit = min([widest, *turns])
    # Equal steps of the angle: flat radii grow without bound towards the widest one.
    if model == "equidistant":
        knots = np.linspace(0, limit, KNOTS)
    else:
        knots = np.tan(np.linspace(0, np.arctan(limit), KNOTS))
    radial = Radial(above, below, float(limit), knots, knots)
    return radial._replace(values=_profile(radial, knots)[0])


def _positive(polynomial: Polynomial) -> Floats:
    """Return the positive real roots of a polynomial."""
    roots = polynomial.trim().roots()
    real = roots.real[np.abs(roots.imag) <= 1e-9 * np.abs(roots)]
    return np.asarray(real[real > 0], np.float64)
