"""Frames that differ: a thousand of one wall teach what one of them does."""

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (16, 12)  # width and height of what frames are compared by
APART = 0.03  # of the range of a byte: frames that are nearer are the same view

Signature = NDArray[np.uint8]


def signature(image: NDArray[np.uint8]) -> Signature:
    """Return what an image uint8 (H,W,3) looks like from afar, uint8 (576,)."""
    return np.asarray(cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA), np.uint8).ravel()


def distance(one: Signature, others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how far (...,576) are from a signature: root mean square, 0 equal to 1."""
    difference = others.astype(np.float32) - one
    return np.asarray(np.sqrt((difference * difference).mean(-1)) / 255, np.float32)


def choose(
    signatures: Sequence[Signature],
    count: int,
    *,
    always: Collection[int] = (),
    apart: float = APART,
) -> list[int]:
    """Return at most `count` indices, and `always`, in their order: each far from all before it.

    The next is the one whose nearest chosen one is farthest (Gonzalez, 1985); it ends where
    that is nearer than `apart`.
    """
    if not len(signatures):
        return []
    every = np.stack(signatures)
    chosen = sorted(always) or [0]
    nearest = np.min([distance(every[i], every) for i in chosen], axis=0)
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        if nearest[farthest] < apart:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, distance(every[farthest], every))
    return sorted(set(chosen))
