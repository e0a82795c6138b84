"""From the pixels of a crop to those of its image, and of maps that are coarser."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.training.config import Config

Matrix = NDArray[np.float64]  # 2 3: from pixels of the crop to pixels of the source


def draw_matrix(
    size: tuple[int, ...],
    centre: tuple[float, float],
    zoom: float,
    config: Config,
    random: np.random.Generator,
) -> Matrix:
    """Return where a crop's pixels are in an image of `size`: around `centre`, turned and flipped.

    The crop stays inside the image as far as it is smaller.
    """
    tall, wide = config.crop
    aspect = math.exp(random.uniform(-config.stretch, config.stretch))
    step = np.array([aspect, 1 / aspect]) / zoom  # image pixels for one of the crop: x, y
    half = step * (wide, tall) / 2
    whole = np.array(size[::-1], float)
    middle = np.array(centre) + half * random.uniform(-0.5, 0.5, 2)
    middle = np.clip(middle, np.minimum(half, whole / 2), np.maximum(whole - half, whole / 2))
    angle = math.radians(random.uniform(-config.rotate, config.rotate))
    flip = -1.0 if random.random() < 0.5 else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.diag(step * (flip, 1.0))
    # Indices are of pixels' centres: half a pixel away from the edges that sizes count from.
    offset = middle - 0.5 - linear @ ((wide - 1) / 2, (tall - 1) / 2)
    return np.asarray(np.column_stack([linear, offset]))


def resampled(matrix: Matrix, into: float, out: tuple[float, float] = (1.0, 1.0)) -> Matrix:
    """Return a matrix for a crop that is `into` times coarser, and a source scaled by `out`
    (x, y)."""
    coarse = np.array([[into, 0, (into - 1) / 2], [0, into, (into - 1) / 2], [0, 0, 1]])
    scaled = np.diag(out) @ (matrix @ coarse)
    scaled[:, 2] += 0.5 * np.array(out) - 0.5
    return np.asarray(scaled)


def warp(
    plane: NDArray[Any], matrix: Matrix, size: tuple[int, int], how: int, border: Any
) -> NDArray[Any]:
    """Return what `matrix` finds in a plane or image, of `size` (height, width)."""
    return cv2.warpAffine(
        plane, matrix, size[::-1], flags=how | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=border,
    )  # fmt: skip
