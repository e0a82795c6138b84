"""A few images from all over a long run, for its report; small, and few at any time."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import draw_overlay, paint
from seg_perception.labels import LabelSpace
from seg_perception.metrics.metric import State
from seg_perception.reporting.report import Sample

SAMPLES = 5
WIDTH = 640  # pixels; larger images are shown smaller
QUALITY = 92  # of jpeg

Image = NDArray[np.uint8]


class Samples:
    """Keeps images from all over a run whose length nobody knows, at most 2 x SAMPLES at once.

    Every image is kept at first; when there are too many, every other one goes, and from then on
    they are kept twice as far apart. Parts of a run that are merged keep that distance too.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[int, State] = {}  # by place in the run
        self._seen, self._apart = 0, 1

    def offer(
        self,
        title: str,
        image: Image,
        labels: Image,
        truth: Image | None,
        space: LabelSpace,
    ) -> None:
        """Keep an image, BGR (H,W,3), with its label images (H,W), if its turn has come."""
        if self._is_wanted(self._seen):
            self._keep(self._seen, pack(draw(title, image, labels, truth, space)))
        self._seen += 1

    def chosen(self) -> list[Sample]:
        """Return up to SAMPLES of them, evenly spaced."""
        kept = list(self._kept.values())
        at = np.linspace(0, len(kept) - 1, min(SAMPLES, len(kept))).round().astype(int)
        return [unpack(kept[i]) for i in at]

    def state(self) -> State:
        """Return all that is kept, as metric.Metric does."""
        images = {str(place): packed for place, packed in self._kept.items()}
        return {"seen": self._seen, "apart": self._apart, "images": images}

    def merge(self, later: State) -> None:
        """Add what was kept of the images that follow."""
        self._apart = max(self._apart, later["apart"])
        for place, packed in later["images"].items():
            if self._is_wanted(self._seen + int(place)):
                self._keep(self._seen + int(place), packed)
        self._seen += later["seen"]

    def _is_wanted(self, place: int) -> bool:
        return not self._kept or place >= max(self._kept) + self._apart

    def _keep(self, place: int, packed: State) -> None:
        self._kept[place] = packed
        while len(self._kept) > 2 * SAMPLES:
            self._kept = dict(list(self._kept.items())[::2])
            self._apart *= 2


def draw(
    title: str,
    image: Image,
    labels: Image,
    truth: Image | None,
    space: LabelSpace,
    *,
    base: Image | None = None,
) -> Sample:
    """Return what a page shows of an image, BGR (H,W,3), and of its label images (H,W)."""
    small = _smaller(image)

    def overlay(ids: Image) -> Image:
        return draw_overlay(small, _smaller(ids), space)

    return Sample(
        title,
        small,
        overlay(labels),
        None if truth is None else paint(_smaller(truth), space),
        base=None if base is None else overlay(base),
    )


def pack(sample: Sample) -> State:
    """Return a sample as jpegs, so that the state of a part is small."""
    images = {name: value for name, value in sample._asdict().items() if name != "title"}
    return {
        "title": sample.title,
        **{n: _jpeg(p) for n, p in images.items() if p is not None},
    }


def unpack(packed: State) -> Sample:
    """Return the sample that was packed."""
    fields: dict[str, Any] = {
        name: cv2.imdecode(value, cv2.IMREAD_COLOR)
        for name, value in packed.items()
        if name != "title"
    }
    return Sample(packed["title"], **fields)


def _jpeg(image: Image) -> Image:
    return np.asarray(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


def _smaller(image: Image) -> Image:
    """Return a copy, at most WIDTH wide; label images keep their ids."""
    height, width = image.shape[:2]
    if width <= WIDTH:
        return image.copy()
    how = cv2.INTER_AREA if image.ndim == 3 else cv2.INTER_NEAREST_EXACT
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
