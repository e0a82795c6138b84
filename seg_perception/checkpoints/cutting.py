"""Take the tail off a network, prove that its labels stay the same, and measure what that gains."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto

from seg_perception.checkpoints import equality, graphs, tail
from seg_perception.checkpoints.dry_run import synthetic_images
from seg_perception.checkpoints.equality import REAL, labels_of, proof_images
from seg_perception.checkpoints.tail import Tail
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.segmenter import Segmenter

ROUNDS = 30  # of both ways, interleaved


class Report(NamedTuple):
    """What was removed and what that gained; without a cut, the reason.

    `milliseconds` are medians of network and decoder, before and after; `time_ratio` is the median
    of the rounds' after / before, `spread` their 10th and 90th percentile. `equal_labels` is a
    share of those of images; the ones that differ are `ties`. `classes` counts the classes among
    all labels compared, those of the tail alone on seeded scores included.
    """

    reason: str
    nodes: tuple[int, int]
    operators: tuple[str, ...] = ()
    milliseconds: tuple[float, float] | None = None
    time_ratio: float | None = None
    spread: tuple[float, float] | None = None
    equal_labels: float | None = None
    ties: int = 0
    classes: int = 0

    def text(self) -> str:
        """Return one or two lines for people."""
        if not self.operators:
            return f"left whole: {self.reason}"
        ties = f" ({self.ties} ties)" if self.ties else ""
        lines = [
            f"cut: {', '.join(self.operators)}; nodes {self.nodes[0]} -> {self.nodes[1]}, equal "
            f"labels {self.equal_labels:.4%}{ties}, of {self.classes} classes"
        ]
        if self.milliseconds is not None:
            before, after = self.milliseconds
            ratio = f"time ratio {self.time_ratio:.2f}"
            lines.append(f"network and labels: {before:.1f} ms -> {after:.1f} ms, {ratio}")
        return "\n".join(lines)


def find(model: ModelProto, whole: OnnxRuntime) -> Tail | str:
    """Return `model`, which runs as `whole`, cut before its tail; or why it is left whole."""
    x = Segmenter(whole).to_input(synthetic_images(whole.manifest.input.size)[0])
    feeds = {graphs.input_ports(model.graph)[0].name: x}
    return tail.cut(model, whole.manifest, lambda n: equality.tensors(model, list(n), **feeds))


def prove(
    model: ModelProto, found: Tail, whole: OnnxRuntime, cut: OnnxRuntime, *, rounds: int
) -> Report:
    """Compare the network `whole` with its form `cut`, and time both.

    A report without operators says that the cut is no good. Labels may differ only where two scores
    of the whole network tie within float32's rounding.
    """
    nodes = (len(model.graph.node), len(found.model.graph.node))
    feed = Segmenter(cut).to_input
    inputs = [feed(image) for image in proof_images(whole.manifest.input)]
    seen, seeded = equality.compare(model, found, whole, cut, inputs)
    for part in (seen, seeded):
        if part.differing > part.ties:
            wrong = f"{part.differing - part.ties} of {part.labels} labels would differ"
            return Report(wrong, nodes)
    report = Report(
        "", nodes, found.operators,
        equal_labels=seen.share, ties=seen.ties, classes=len(seen.classes | seeded.classes),
    )  # fmt: skip
    if not rounds:
        return report
    ways = [lambda x, r=r: labels_of(r.run(x), r.manifest) for r in (whole, cut)]
    times = interleaved(ways, inputs[-REAL:], rounds)
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    low, ratio, high = np.percentile([b / a for a, b in times], [10, 50, 90]).tolist()
    return report._replace(milliseconds=(before, after), time_ratio=ratio, spread=(low, high))


def interleaved(
    contenders: Sequence[Callable[[Any], Any]], inputs: Sequence[Any], rounds: int
) -> list[list[float]]:
    """Return the milliseconds of each contender in each round; their order changes every round."""
    result = []
    for i in range(rounds):
        times = [0.0] * len(contenders)
        for k in range(len(contenders)):
            place = (k + i) % len(contenders)
            start = time.perf_counter()
            contenders[place](inputs[i % len(inputs)])
            times[place] = (time.perf_counter() - start) * 1000
        result.append(times)
    return result
