"""The images that a model does worst on, for its report."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import Key
from seg_perception.labels import LabelSpace
from seg_perception.metrics.metric import LabelledFrame, State
from seg_perception.metrics.paired import Counts, block_of, mean_iou
from seg_perception.reporting.report import Sample
from seg_perception.reporting.samples import draw, pack, unpack

MOST = 6


class Base(NamedTuple):
    """What the base of a comparison made of an image: label image (H,W), class counts (3,K)."""

    labels: NDArray[np.uint8]
    counts: Counts


class Worst:
    """Keeps the MOST images of lowest score, at most one a second (or name).

    The score is the image's mean IoU over the classes that its truth holds; against a base, how
    much higher it is than the base's, and only images on which the model loses are kept. Of
    equal scores the first key wins, so parts merge to what one run keeps.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[Key, State] = {}  # by block

    def offer(
        self, view: LabelledFrame, counts: Counts, space: LabelSpace, base: Base | None = None
    ) -> None:
        """Keep an image with truth and its class counts (3,K) if it is one of the worst."""
        assert view.truth is not None
        miou = float(mean_iou(counts))
        entry: dict[str, Any] = {"key": view.key, "miou": miou, "score": miou}
        title = f"{view.key}: mean IoU {miou:.3f}"
        if base is not None:
            entry["base_miou"] = float(mean_iou(base.counts))
            entry["score"] = miou - entry["base_miou"]
            title += f", the base's {entry['base_miou']:.3f}"
        loses = base is None or entry["score"] < 0
        if np.isnan(miou) or not loses or not self._is_wanted(entry):
            return
        labels = None if base is None else base.labels
        sample = draw(title, view.image, view.labels, view.truth, space, base=labels)
        self._keep({**entry, "sample": pack(sample)})

    def chosen(self) -> list[Sample]:
        """Return their images, the worst first."""
        return [unpack(entry["sample"]) for entry in self._sorted()]

    def result(self) -> list[dict[str, Any]]:
        """Return what report.json says of them, the worst first: key, miou, base_miou."""
        left_out = ("score", "sample")
        return [{k: v for k, v in e.items() if k not in left_out} for e in self._sorted()]

    def state(self) -> State:
        """Return all that is kept, as metric.Metric does."""
        return {"worst": self._sorted()}

    def merge(self, later: State) -> None:
        """Add what was kept of the images that follow."""
        for entry in later["worst"]:
            if self._is_wanted(entry):
                self._keep(entry)

    def _sorted(self) -> list[State]:
        return sorted(self._kept.values(), key=_rank)

    def _is_wanted(self, entry: State) -> bool:
        rival = self._kept.get(block_of(entry["key"]))
        if rival is None and len(self._kept) == MOST:
            rival = self._sorted()[-1]
        return rival is None or _rank(entry) < _rank(rival)

    def _keep(self, entry: State) -> None:
        self._kept[block_of(entry["key"])] = entry
        if len(self._kept) > MOST:
            del self._kept[block_of(self._sorted()[-1]["key"])]


def _rank(entry: State) -> tuple[float, Key]:
    return entry["score"], entry["key"]
