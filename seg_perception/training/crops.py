"""Crops of training images, read and warped by workers; nothing of the data stays in memory."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from seg_perception.errors import DataError
from seg_perception.labels import UNKNOWN
from seg_perception.training.config import Config
from seg_perception.training.labels import as_ignored, read_ids, read_pixels
from seg_perception.training.soft_labels import TOP, SoftLabels, read_soft
from seg_perception.training.sources import Item, Labelled
from seg_perception.training.warping import Matrix, draw_matrix, resampled, warp

STRIDE = 2  # pixels of a crop for one of its labels
BORDER = (124, 116, 104)  # RGB where a crop leaves its image: ImageNet's mean
SMALLEST = 0.5  # zoom below which an image is averaged first, so that nothing flickers
POINTS = 2  # rows and columns apart at which pixels of a class are looked for

Key = tuple[int, int, int]  # epoch, position in it, index of the image


class Sample(NamedTuple):
    """A crop: image uint8 (3,h,w) RGB; at STRIDE, of the best TOP classes ids and shares uint8
    (TOP,h',w'), and float32 (h',w') how much each place counts."""

    image: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    shares: NDArray[np.uint8]
    weight: NDArray[np.float32]


class Batch(NamedTuple):
    """Samples, stacked: (B,3,h,w), (B,TOP,h',w') twice, (B,h',w')."""

    images: Tensor
    ids: Tensor
    shares: Tensor
    weight: Tensor


class Crops(Dataset[Sample | DataError]):
    """Random crops by key. What is drawn depends on seed and key alone, whoever draws it."""

    def __init__(
        self, data: Labelled, items: Sequence[Item], config: Config, area: float, *,
        label_weight: float = 1.0,
    ) -> None:  # fmt: skip
        """Take the images of train; `area` (pixels) is what each is scaled to before `scale`.

        `label_weight` is what a pixel that people labelled counts.
        """
        self._items, self._config, self._area = list(items), config, area
        self._tables = [as_ignored(table) for table in data.tables]
        self._palettes, self._weight = data.palettes, label_weight
        self._top = TOP if any(item.soft for item in items) else 1

    def __getitem__(self, key: Key) -> Sample | DataError:
        """Return a crop; an image that cannot be read is returned as its error, to be raised."""
        epoch, position, index = key
        random = np.random.default_rng((self._config.seed, epoch, position))
        try:
            return self._crop(self._items[index], random)
        except DataError as error:
            return error

    def _crop(self, item: Item, random: np.random.Generator) -> Sample:
        config = self._config
        image = read_pixels(Path(item.image))
        labels = self._labels(item, image.shape[:2])
        soft = read_soft(Path(item.soft)) if item.soft else None
        zoom = math.sqrt(self._area / (image.shape[0] * image.shape[1]))
        zoom *= math.exp(random.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
        around = labels if soft is None or (labels != UNKNOWN).any() else soft.best(labels.shape)
        centre = _centre(around, random, config.balanced)
        matrix = draw_matrix(image.shape[:2], centre, zoom, config, random)
        hard = _warped_labels(labels, matrix, config.crop)
        return Sample(
            _warped_image(image, matrix, config.crop, zoom),
            *_targets(hard, soft, matrix, image.shape[:2], config.crop, self._top, self._weight),
        )

    def _labels(self, item: Item, size: tuple[int, ...]) -> NDArray[np.uint8]:
        if not item.label:
            return np.full(size, UNKNOWN, np.uint8)
        ids = read_ids(Path(item.label), self._palettes[item.source])
        if ids.shape != size:
            raise DataError(f"{item.image} is {size} and {item.label} {ids.shape}: it has changed")
        return np.asarray(cv2.LUT(ids, self._tables[item.source]), np.uint8)


def collate(samples: Sequence[Sample | DataError]) -> Batch | DataError:
    """Stack samples; the first error takes the batch's place."""
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    columns = zip(*samples, strict=True)
    return Batch(*(torch.from_numpy(np.stack(column)) for column in columns))


def _centre(
    labels: NDArray[np.uint8], random: np.random.Generator, balanced: float
) -> tuple[float, float]:
    """Return where to crop (x, y): anywhere, or at a pixel of a class that is drawn evenly.

    Rare classes are so seen far more often than their share of pixels.
    """
    height, width = labels.shape
    anywhere = (random.random() * width, random.random() * height)
    if random.random() >= balanced:
        return anywhere
    few = labels[::POINTS, ::POINTS]
    present = np.flatnonzero(np.bincount(few.ravel(), minlength=256)[:UNKNOWN])
    if not len(present):
        return anywhere
    points = np.flatnonzero(few == random.choice(present))
    row, column = divmod(int(random.choice(points)), few.shape[1])
    return (column * POINTS, row * POINTS)


def _warped_image(
    image: NDArray[np.uint8], matrix: Matrix, crop: tuple[int, int], zoom: float
) -> NDArray[np.uint8]:
    """Return uint8 (3,h,w)."""
    if zoom < SMALLEST:
        before = image.shape
        small = (max(1, round(before[1] * zoom)), max(1, round(before[0] * zoom)))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = resampled(matrix, 1, (small[0] / before[1], small[1] / before[0]))
    warped = warp(image, matrix, crop, cv2.INTER_LINEAR, BORDER)
    return np.ascontiguousarray(warped.transpose(2, 0, 1), np.uint8)


def _warped_labels(
    labels: NDArray[np.uint8], matrix: Matrix, crop: tuple[int, int]
) -> NDArray[np.uint8]:
    size = (crop[0] // STRIDE, crop[1] // STRIDE)
    coarse = resampled(matrix, STRIDE)
    return np.asarray(warp(labels, coarse, size, cv2.INTER_NEAREST, UNKNOWN), np.uint8)


def _targets(
    hard: NDArray[np.uint8],
    soft: SoftLabels | None,
    matrix: Matrix,
    size: tuple[int, ...],
    crop: tuple[int, int],
    top: int,
    label_weight: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return ids, shares and weights: those of people where they labelled, else the teacher's."""
    labelled = hard != UNKNOWN
    ids = np.zeros((top, *hard.shape), np.uint8)
    shares = np.zeros_like(ids)
    weight = np.where(labelled, label_weight, 0.0).astype(np.float32)
    if soft is not None:
        grid = soft.ids.shape[1:]
        scale = (grid[1] / size[1], grid[0] / size[0])
        place = resampled(resampled(matrix, STRIDE), 1, scale)
        ids, shares, confidence = soft.warped(place, (hard.shape[0], hard.shape[1]))
        weight = np.where(labelled, weight, confidence).astype(np.float32)
    ids[0][labelled], ids[1:, labelled] = hard[labelled], 0
    shares[0][labelled], shares[1:, labelled] = UNKNOWN, 0
    return ids, shares, weight
