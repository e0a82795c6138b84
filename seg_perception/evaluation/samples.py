"""A few pictures from all over a long run, for its report."""

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import draw_overlay, paint
from seg_perception.evaluation.report import Sample
from seg_perception.labels import LabelSpace

SAMPLES = 5
WIDTH = 640  # pixels; larger pictures are shown smaller


class Samples:
    """Keeps pictures from all over a run whose length nobody knows, at most 2 x SAMPLES at once.

    Every picture is kept at first; when there are too many, every other one goes, and from then on
    half as many come in.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: list[Sample] = []
        self._seen, self._every = 0, 1

    def offer(
        self,
        title: str,
        image: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        truth: NDArray[np.uint8] | None,
        space: LabelSpace,
    ) -> None:
        """Keep a picture, BGR (H,W,3), with its label images (H,W), if its turn has come."""
        wanted = self._seen % self._every == 0
        self._seen += 1
        if not wanted:
            return
        if len(self._kept) == 2 * SAMPLES:
            self._kept = self._kept[::2]
            self._every *= 2
            if (self._seen - 1) % self._every:
                return
        picture = _smaller(image)
        overlay = draw_overlay(picture, _smaller(labels), space)
        painted = None if truth is None else paint(_smaller(truth), space)
        self._kept.append(Sample(title, picture, overlay, painted))

    def chosen(self) -> list[Sample]:
        """Return up to SAMPLES of them, evenly spaced."""
        count = min(SAMPLES, len(self._kept))
        at = np.linspace(0, len(self._kept) - 1, count).round().astype(int)
        return [self._kept[i] for i in at]


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy, at most WIDTH wide; label images keep their ids."""
    height, width = image.shape[:2]
    if width <= WIDTH:
        return image.copy()
    how = cv2.INTER_AREA if image.ndim == 3 else cv2.INTER_NEAREST_EXACT
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
