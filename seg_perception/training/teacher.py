"""Large networks that label frames once, with how sure they are, into files."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import images, runtimes, weights
from seg_perception.decoding import official_mode, sigmoid
from seg_perception.errors import DataError, SegPerceptionError
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.manifest import Manifest
from seg_perception.segmenter import Segmenter
from seg_perception.training.card import Card, class_table
from seg_perception.training.soft_labels import Floats, SoftLabels

CELL = 4  # pixels of an image for one of the labels that are kept, at least


class Teacher:
    """One network, whose classes become those of a card."""

    def __init__(self, setting: ModelSetting, card: Card, *, flip: bool) -> None:
        """Load it; DataError names classes that the card does not map."""
        path = weights.resolve(setting.model)
        self._runtime = runtimes.load(
            path, provider=setting.provider, threads=setting.threads, precision=setting.precision
        )
        self._segmenter = Segmenter(self._runtime, mode=setting.mode)
        self._flip = flip
        self.manifest = self._segmenter.manifest
        try:
            self._table = class_table(self.manifest.classes, self.manifest.groups, card)
        except DataError as error:
            raise DataError(f"the teacher {setting.title}: {error}") from error
        void = [i for i in self.manifest.void_ids if i < len(self.manifest.classes)]
        self._table[void] = 255
        self._classes = len(card.classes)
        said = (setting.title, flip, self.manifest.sha256, self._table.tobytes())
        self.key = hashlib.sha256(repr(said).encode()).hexdigest()[:12]

    def probabilities(self, image: NDArray[np.uint8]) -> Floats:
        """Return float32 (K,h,w) of the card's classes for an image BGR uint8 (H,W,3).

        They sum to 1 less what is of ignored classes; h and w are at most H and W over CELL.
        """
        total = self._own(image)
        if self._flip:
            mirrored = np.ascontiguousarray(image[:, ::-1])
            total = np.asarray((total + self._own(mirrored)[:, :, ::-1]) / 2, np.float32)
        grid = (max(1, image.shape[0] // CELL), max(1, image.shape[1] // CELL))
        return resized_planes(self._mapped(total), grid, only_smaller=True)

    def _own(self, image: NDArray[np.uint8]) -> Floats:
        """Return float32 (K,h,w), probabilities of the teacher's classes."""
        spec = self.manifest.input
        if self.manifest.output.kind == "labels":
            labels = self._segmenter(image, "bgr8", confidence=False).labels
            ids = np.arange(len(self.manifest.classes))[:, None, None]
            return np.asarray(labels == ids, np.float32)
        converted = images.convert(image, "bgr8", spec.color)
        if self._segmenter.mode == "official":
            return self._official(converted)
        fitted = images.fit(converted, spec.size, spec.resize, spec.pad_value)
        scores = self._runtime.scores(self._segmenter.to_input(fitted.image))
        sides = zip(scores.shape[1:], fitted.inside, spec.size, strict=True)
        height, width = (max(1, round(side * inside / whole)) for side, inside, whole in sides)
        return self._normalised(scores[:, :height, :width])

    def _official(self, image: NDArray[np.uint8]) -> Floats:
        assert self.manifest.official is not None

        def run(part: NDArray[np.uint8]) -> Floats:
            return self._runtime.scores(self._segmenter.to_input(part))

        spec, output = self.manifest.official, self.manifest.output
        scores = official_mode.scores_of_what_is_seen(image, spec, output, run)
        return self._normalised(scores)

    def _normalised(self, scores: Floats) -> Floats:
        """Turn scores (K,h,w) of any kind into probabilities."""
        output = self.manifest.output
        if output.kind == "logits":
            e = np.exp(scores - scores.max(0, keepdims=True))
            return np.asarray(e / e.sum(0, keepdims=True), np.float32)
        if output.kind == "masks" and not output.is_of_queries:
            scores = sigmoid(np.ascontiguousarray(scores))
        scores = np.maximum(scores, 0)
        return np.asarray(scores / np.maximum(scores.sum(0, keepdims=True), 1e-6), np.float32)

    def _mapped(self, own: Floats) -> Floats:
        """Add the teacher's classes up to those of the card; ignored ones are left out."""
        total = np.zeros((self._classes, *own.shape[1:]), np.float32)
        for i, plane in enumerate(own):
            if self._table[i] < self._classes:
                total[self._table[i]] += plane
        return total


def mean(teachers: Sequence[Teacher], image: NDArray[np.uint8]) -> SoftLabels:
    """Return what teachers say together of an image BGR uint8 (H,W,3)."""
    every = [teacher.probabilities(image) for teacher in teachers]
    size = (every[0].shape[1], every[0].shape[2])
    planes = [resized_planes(planes, size) for planes in every]
    return SoftLabels.of(np.asarray(np.mean(planes, axis=0), np.float32))


def load(texts: Iterable[str], card: Card, *, flip: bool, threads: int) -> list[Teacher]:
    """Return the networks that MODEL[,key=value...] name; errors name which one."""
    return [Teacher(ModelSetting.parse(text, threads=threads), card, flip=flip) for text in texts]


def resized_planes(planes: Floats, size: tuple[int, int], *, only_smaller: bool = False) -> Floats:
    """Return (K,h,w) at `size` (height, width); `only_smaller` leaves those that are."""
    before = planes.shape[1:]
    if before == size or (only_smaller and before[0] <= size[0] and before[1] <= size[1]):
        return planes
    smaller = before[0] > size[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.stack([np.asarray(cv2.resize(p, size[::-1], interpolation=how)) for p in planes])


def manifest_of(path_or_name: str) -> Manifest | None:
    """Return what a model file says of itself, None for a file that says nothing."""
    path = Path(weights.resolve(path_or_name))
    if path.suffix not in (".onnx", ".pt"):
        return None
    try:
        return runtimes.read_manifest(path)
    except SegPerceptionError:
        return None
