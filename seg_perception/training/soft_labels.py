"""A teacher's labels on disk: for each cell of a coarse grid its best classes and their shares."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError
from seg_perception.files import atomic_write
from seg_perception.training.warping import Matrix, warp

TOP = 3  # classes of a cell that are kept
FULL = 255  # share of a class that has it all

Floats = NDArray[np.float32]


class SoftLabels(NamedTuple):
    """Of a grid (h,w): the ids of the TOP best classes of each cell, best first, and their shares.

    Both are uint8 (TOP,h,w); shares are of 255. What is missing from 255 is of other classes, or
    of some that are ignored, so the sum says how far the teacher can be relied on.
    """

    ids: NDArray[np.uint8]
    shares: NDArray[np.uint8]

    @classmethod
    def of(cls, probabilities: Floats) -> "SoftLabels":
        """Keep the best of float32 (K,h,w)."""
        k = len(probabilities)
        best = np.argsort(-probabilities, axis=0, kind="stable")[:TOP]
        shares = np.take_along_axis(probabilities, best, axis=0) * FULL + 0.5
        missing = ((0, TOP - min(TOP, k)), (0, 0), (0, 0))
        return cls(
            np.pad(best.astype(np.uint8), missing),
            np.pad(np.clip(shares, 0, FULL).astype(np.uint8), missing),
        )

    def best(self, size: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the best class of each pixel of an image of `size`, by the nearest cell."""
        return np.asarray(
            cv2.resize(self.ids[0], (size[1], size[0]), interpolation=cv2.INTER_NEAREST), np.uint8
        )

    def warped(
        self, matrix: Matrix, size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
        """Return ids and shares (TOP,h,w) at the places that `matrix` (2,3) finds, and confidence.

        Shares are interpolated class by class, so that contours are finer than the grid.
        """
        present = np.flatnonzero(np.bincount(self.ids[self.shares > 0].ravel(), minlength=1))
        planes = np.zeros((max(len(present), TOP), *size), np.float32)
        for at, c in enumerate(present):
            plane = np.where(self.ids == c, self.shares, 0).sum(0).astype(np.float32)
            planes[at] = warp(plane, matrix, size, cv2.INTER_LINEAR, 0)
        best = np.argsort(-planes, axis=0, kind="stable")[:TOP]
        shares = np.take_along_axis(planes, best, axis=0)
        names = np.zeros(len(planes), np.uint8)
        names[: len(present)] = present
        return names[best], (shares + 0.5).astype(np.uint8), confidence_weight(shares[0] / FULL)


def confidence_weight(share: Floats) -> Floats:
    """Return how much a place counts whose best class has this share (0..1): its square."""
    return np.asarray(share * share, np.float32)


def write_soft(path: Path, soft: SoftLabels) -> None:
    """Write a file, whole or not at all; ModelError where the disk is full."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=soft.ids, shares=soft.shares)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_soft(path: Path) -> SoftLabels:
    """Read a file of write_soft; DataError for one that is damaged."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return SoftLabels(saved["ids"], saved["shares"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no labels of a teacher: {error}; delete it") from error
