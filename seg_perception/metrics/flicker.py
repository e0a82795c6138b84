"""How many labels change from image to image where what is seen stays the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import Key
from seg_perception.labels import UNKNOWN, counted_ids
from seg_perception.metrics.description import (
    Compared,
    Description,
    Headline,
    Panel,
    percent,
    share,
)
from seg_perception.metrics.metric import Context, LabelledFrame, Metric, State

Flow = NDArray[np.float32]  # H W 2: x, y in pixels
Labels = NDArray[np.uint8]

LONGEST_GAP_NS = 1_000_000_000  # ns between two stamps; what is farther apart is no pair
WIDEST = 640  # pixels of the grey images that flow is computed on
AGREE = 1.0  # pixels of theirs: how far from its start the way there and back may end
SHORTEST = 16  # pixels; DIS reads beyond images that are low, or much wider than high


class Flicker:
    """The share of pixels whose label differs from that of the same thing one image before.

    Dense optical flow (DIS, Kroeger et al., ECCV 2016) tells where each pixel was: on grey images
    that are made smaller to at most WIDEST pixels of width. The label there, of the nearest pixel,
    is compared. Left out are pixels that were outside the image before, those whose flow back
    and forth misses its start by more than AGREE (hidden things, flow that is lost), and 255 in
    either image. Images whose stamps are more than a second apart or go back, and those of
    another size, start again; names are taken to follow each other.
    """

    name = "flicker"
    needs_truth = False
    needs_confidence = False
    needs_previous = True
    needs_camera = False

    def __init__(self, classes: Sequence[str]) -> None:
        """Take the names of ids 0, 1, ..."""
        self._classes = tuple(classes)
        self._ids = counted_ids(len(self._classes))
        self._pixels = np.zeros((2, len(self._classes)), np.int64)  # compared, changed
        self._pairs = 0
        self._before: LabelledFrame | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    @classmethod
    def create(cls, context: Context) -> "Flicker":
        """Return one for the classes of a network."""
        return cls(context.manifest.classes)

    def observe_previous(self, view: LabelledFrame) -> None:
        """Remember what the next image is compared with."""
        self._before = view._replace(truth=None, confidence=None)

    def add(self, view: LabelledFrame) -> None:
        """Compare an image with the one before."""
        before = self._before
        self.observe_previous(view)
        if before is None or not _follows(before.key, view.key):
            return
        if before.labels.shape != view.labels.shape:
            return
        then = self._labels_then(before, view)
        now = np.asarray(cv2.LUT(view.labels, self._ids), np.uint8)
        compared = (then != UNKNOWN) & (now != UNKNOWN)
        changed = then[compared & (then != now)]
        self._pixels += [self._count(ids) for ids in (then[compared], changed)]
        self._pairs += 1

    def state(self) -> State:
        """Return the counts: pixels int64 (2, classes) and pairs of images."""
        return {"pixels": self._pixels.copy(), "pairs": self._pairs}

    def merge(self, later: State) -> None:
        """Add the counts of later images; the last of them is not known here."""
        self._pixels += later["pixels"]
        self._pairs += later["pairs"]
        self._before = None

    def result(self) -> dict[str, Any] | None:
        """Return the share that changed, of all and of the pixels that were of each class."""
        compared, changed = self._pixels.tolist()
        if not sum(compared):
            return None
        shares = zip(self._classes, compared, changed, strict=True)
        return {
            "share": sum(changed) / sum(compared),
            "per_class": {name: c / n if n else None for name, n, c in shares},
            "pixels": sum(compared),
            "pairs": self._pairs,
        }

    @staticmethod
    def describe(result: Mapping[str, Any]) -> Description:
        """Return the share that changed, and a panel of the classes."""
        return Description(
            rows=[("labels that flicker", share(result["share"]))],
            compared=Compared("labels that flicker", result["share"]),
            headline=Headline(percent(result["share"]), "of labels flicker"),
            panel=Panel("share that flickers", result["per_class"], is_small=True),
        )

    def _labels_then(self, before: LabelledFrame, view: LabelledFrame) -> Labels:
        """Return (H,W): what each pixel's place was labelled one image before, 255 unknown."""
        height, width = view.labels.shape
        then, now = _grey(before.image), _grey(view.image)
        backward = self._between(now, then)
        agree = _agree(backward, self._between(then, now)).view(np.uint8)
        scale = width / now.shape[1], height / now.shape[0]
        moved = cv2.resize(backward, (width, height), interpolation=cv2.INTER_LINEAR) * scale
        known = cv2.resize(agree, (width, height), interpolation=cv2.INTER_NEAREST)
        ids = cv2.LUT(before.labels, self._ids)
        labels = cv2.remap(
            ids, *_targets(moved), cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT, borderValue=UNKNOWN,
        )  # fmt: skip
        labels[known == 0] = UNKNOWN
        return np.asarray(labels, np.uint8)

    def _between(self, start: Labels, end: Labels) -> Flow:
        """Return where the pixels of grey `start` go in `end`."""
        height, width = start.shape
        down, right = max(SHORTEST, width // 2) - height, SHORTEST - width
        border = (0, max(0, down), 0, max(0, right), cv2.BORDER_REPLICATE)
        first, second = (cv2.copyMakeBorder(grey, *border) for grey in (start, end))
        flow = self._flow.calc(first, second, None)  # type: ignore[call-overload]
        return np.asarray(flow[:height, :width], np.float32)

    def _count(self, ids: Labels) -> NDArray[np.int64]:
        return np.bincount(ids, minlength=len(self._classes))


METRIC: type[Metric] = Flicker


def _follows(before: Key, key: Key) -> bool:
    if isinstance(before, int) and isinstance(key, int):
        return 0 <= key - before <= LONGEST_GAP_NS
    return True


def _grey(image: NDArray[np.uint8]) -> Labels:
    """Return an image BGR (H,W,3) in grey, at most WIDEST wide."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _agree(backward: Flow, forward: Flow) -> NDArray[np.bool_]:
    """Tell where the way back and forth again ends within AGREE of its start."""
    there = _targets(backward)
    returned = cv2.remap(forward, *there, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = backward + returned
    return np.asarray((missed * missed).sum(2) <= AGREE * AGREE, np.bool_)


def _targets(flow: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the x and the y (H,W) that each pixel goes to."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width)
    y = flow[..., 1] + np.arange(height)[:, None]
    return x.astype(np.float32), y.astype(np.float32)
