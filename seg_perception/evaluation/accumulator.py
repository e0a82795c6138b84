"""What one network did on one recording, counted image by image, in parts that add up."""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from seg_perception.bags.frames import Key
from seg_perception.errors import DataError
from seg_perception.evaluation.hardest import Base, Worst
from seg_perception.labels import LabelSpace
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.metrics.metric import LabelledFrame, Metric, State
from seg_perception.metrics.paired import Blocks, class_counts
from seg_perception.reporting.samples import Samples

MAX_REASONS = 20  # why images were skipped; what comes later is counted together
OTHERS = "other reasons"
COUNTS = ("frames_in", "frames_out", "frames_scored")


class Accumulator:
    """Counts in memory that grows by a few bytes an image; scores are exact sums."""

    def __init__(
        self,
        space: LabelSpace,
        void_ids: Collection[int],
        metrics: Sequence[Metric] = (),
        *,
        compares: bool = False,
    ) -> None:
        """Begin with nothing counted; `space` is that of the network's own classes.

        `compares`: counts of each second, or named image, are kept for differences of networks.
        """
        self.space, self.metrics = space, tuple(metrics)
        classes = len(space.names)
        self.matrix = ConfusionMatrix(classes, void_ids)
        self.blocks, self._compares = Blocks(classes), compares
        self.samples, self.worst = Samples(), Worst()
        self.frames_in = self.frames_out = self.frames_scored = 0
        self.skipped: Counter[str] = Counter()
        # Four bytes a stage and image; percentiles need them.
        self.times: dict[str, array[float]] = {}
        self.example: Key | None = None

    @property
    def needs_confidence(self) -> bool:
        """Whether some metric reads it."""
        return any(metric.needs_confidence for metric in self.metrics)

    @property
    def needs_all(self) -> bool:
        """Whether images count of which no truth is known."""
        return any(not metric.needs_truth for metric in self.metrics)

    def skip(self, key: Key, reason: str) -> None:
        """Count an image that has no labels, and why."""
        self._came(key)
        self._skip(reason, 1)

    def observe_previous(self, view: LabelledFrame) -> None:
        """Show the image before those that count to the metrics that want it."""
        for metric in self.metrics:
            if metric.needs_previous:
                metric.observe_previous(view)

    def add(
        self, view: LabelledFrame, timing: Mapping[str, float], base: Base | None = None
    ) -> Base | None:
        """Count an image and its stage times, ms; DataError where its truth does not fit.

        `base` is what the network that this one is compared with made of it; what is returned is
        that to others.
        """
        scored = None
        counts = None if view.truth is None else self.matrix.add(view.truth, view.labels)
        self._came(view.key)  # once it fits, and before all else: saved progress.Progress.is_whole
        if counts is not None:
            counts = class_counts(counts)
            if self._compares:
                self.blocks.add(view.key, counts)
            self.worst.offer(view, counts, self.space, base)
            self.frames_scored += 1
            scored = Base(view.labels, counts)
        for metric in self.metrics:
            if _can_be_counted(view, metric):
                metric.add(view)
        self.samples.offer(str(view.key), view.image, view.labels, view.truth, self.space)
        for stage, milliseconds in timing.items():
            self.times.setdefault(stage, array("f")).append(milliseconds)
        self.frames_out += 1
        return scored

    def state(self) -> State:
        """Return all that was counted, as plain data."""
        return {
            **{name: getattr(self, name) for name in COUNTS},
            "example": self.example,
            "skipped": dict(self.skipped),
            "times": {stage: np.asarray(values) for stage, values in self.times.items()},
            "matrix": self.matrix.counts,
            "blocks": self.blocks.state(),
            "samples": self.samples.state(),
            "worst": self.worst.state(),
            "metrics": {metric.name: metric.state() for metric in self.metrics},
        }

    def merge(self, later: State) -> None:
        """Add what was counted of the images that follow."""
        if later["matrix"].shape != self.matrix.counts.shape:
            raise DataError(
                f"counts of {len(later['matrix']) - 1} classes do not add to those of "
                f"{self.matrix.classes}; remove what was kept and start again"
            )
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + later[name])
        self.example = later["example"] if self.example is None else self.example
        for reason, count in later["skipped"].items():
            self._skip(reason, count)
        for stage, values in later["times"].items():
            self.times.setdefault(stage, array("f")).extend(values.tolist())
        self.matrix.counts += later["matrix"]
        self.blocks.merge(later["blocks"])
        self.samples.merge(later["samples"])
        self.worst.merge(later["worst"])
        for metric in self.metrics:
            metric.merge(later["metrics"][metric.name])

    def _skip(self, reason: str, count: int) -> None:
        known = reason in self.skipped or len(self.skipped) < MAX_REASONS
        self.skipped[reason if known else OTHERS] += count

    def _came(self, key: Key) -> None:
        self.frames_in += 1
        self.example = key if self.example is None else self.example


def _can_be_counted(view: LabelledFrame, metric: Metric) -> bool:
    """Whether an image has what is measured; live nodes may lose a confidence, not the mask."""
    return (view.truth is not None or not metric.needs_truth) and (
        view.confidence is not None or not metric.needs_confidence
    )
