"""Read a label image from the robot outwards, along rays on the ground.

All pixels whose rays share a compass direction form one sweep, ordered from the nadir upwards:
along it the ground comes nearest first, and upright edges stand in line, however the camera is
pitched or rolled. A sweep stays open over ground and is closed by the first thing that stands on
it: that thing's lowest pixel is where it touches the ground. What is behind is occluded; the
thing's upper pixels show its height, not ground.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding.cells import compiled
from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.occupancy.camera import Camera, Pose

NONE = -1
SKY = GROUPS.index("sky")
STANDING = tuple(GROUPS.index(name) for name in ("obstacle", "person", "vehicle"))


class ScanColumns(NamedTuple):
    """Pixels by compass direction: sweep k is `order[first[k] : first[k+1]]`, nadir first.

    `order` int32 (n,) holds flat indices of pixels, `first` int32 (sweeps + 1,).
    """

    order: NDArray[np.int32]
    first: NDArray[np.int32]


class Seen(NamedTuple):
    """What the sweeps of an image (H,W) show; pixels are flat indices, -1 where there is none.

    `ground` uint8 (H,W): the group of ground that is seen, 255 elsewhere. `foot` int32 (H,W): the
    pixel whose ground point belongs to each: its own for ground and contacts, its contact's for the
    rest of a thing. `contact` int32 (sweeps,): where a sweep is closed. `free` int32 (sweeps,): the
    farthest ground that is seen without a gap.
    """

    ground: NDArray[np.uint8]
    foot: NDArray[np.int32]
    contact: NDArray[np.int32]
    free: NDArray[np.int32]


@lru_cache(maxsize=8)
def columns_of(camera: Camera, pose: Pose) -> ScanColumns:
    """Return as many sweeps as the image has columns; `pose` takes the optical frame into base.

    Takes a tenth of a second, once for a camera that does not move on its robot.
    """
    rays = camera.rays().reshape(-1, 3).astype(np.float64)
    known = np.flatnonzero(np.isfinite(rays).all(axis=1))
    toward = rays[known] @ pose.rotation.T
    # The seam of the compass lies behind the camera, where images seldom reach.
    ahead = np.median(toward / np.linalg.norm(toward, axis=1, keepdims=True), axis=0)
    turn = np.arctan2(toward[:, 1], toward[:, 0]) - np.arctan2(ahead[1], ahead[0])
    turn = np.arctan2(np.sin(turn), np.cos(turn))
    upward = np.arctan2(toward[:, 2], np.hypot(toward[:, 0], toward[:, 1]))
    low, high = turn.min(), turn.max()
    count = camera.width
    which = np.minimum(((turn - low) / max(high - low, 1e-9) * count).astype(np.int32), count - 1)
    ranked = np.lexsort((upward, which))
    first = np.searchsorted(which[ranked], np.arange(count + 1)).astype(np.int32)
    return ScanColumns(known[ranked].astype(np.int32), first)


def scan_columns(
    groups: NDArray[np.uint8],
    reachable: NDArray[np.bool_],
    sweeps: ScanColumns,
    *,
    min_pixels: int = 3,
) -> Seen:
    """Follow every sweep over group ids (H,W).

    `reachable` (H,W) tells where a pixel's ray meets the ground within the range that is trusted.
    Things of fewer than `min_pixels` in a row are label noise: unknown, and no reason to close a
    sweep; gaps so small do not end free ground. A thing that reaches the image's edge is put
    there: it is at least that near.
    """
    count = len(sweeps.first) - 1
    seen = Seen(
        np.full(groups.size, UNKNOWN, np.uint8),
        np.full(groups.size, NONE, np.int32),
        np.full(count, NONE, np.int32),
        np.full(count, NONE, np.int32),
    )
    stands = np.zeros(256, np.bool_)
    stands[list(STANDING)] = True
    flat = np.ascontiguousarray(groups).reshape(-1)
    within = np.ascontiguousarray(reachable).reshape(-1)
    _follow(flat, within, stands, sweeps, min_pixels, seen)
    shape = groups.shape
    return Seen(seen.ground.reshape(shape), seen.foot.reshape(shape), seen.contact, seen.free)


@compiled
def _follow(
    groups: Any, reachable: Any, stands: Any, sweeps: Any, min_pixels: int, seen: Any
) -> None:
    order, first = sweeps
    ground, foot, contacts, frees = seen
    for sweep in range(first.size - 1):
        at, end = first[sweep], first[sweep + 1]
        gap, is_free = 0, True
        while at < end:
            pixel = order[at]
            group = groups[pixel]
            if stands[group]:
                top = at
                while top < end and stands[groups[order[top]]]:
                    top += 1
                if top - at >= min_pixels:
                    if reachable[pixel]:
                        contacts[sweep] = pixel
                        for i in range(at, top):
                            foot[order[i]] = pixel
                    break  # even beyond the trusted range it hides all above it
                gap += top - at
                at = top
                continue
            if group in (UNKNOWN, SKY) or not reachable[pixel]:
                gap += 1
            else:
                ground[pixel] = group
                foot[pixel] = pixel
                is_free = is_free and (gap < min_pixels or frees[sweep] < 0)
                if is_free:
                    frees[sweep] = pixel
                gap = 0
            at += 1


def warm_up() -> None:
    """Compile, or load from the cache, so that no frame waits for it."""
    nothing = ScanColumns(np.zeros(0, np.int32), np.zeros(2, np.int32))
    scan_columns(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.bool_), nothing)
