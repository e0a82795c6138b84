"""What seg-perception quantize does: write a model in 8 bit, and measure what that costs first."""

import argparse
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from seg_perception import images, weights
from seg_perception.checkpoints.int8 import read_float, write_int8
from seg_perception.errors import DataError, ImageError, ModelError
from seg_perception.evaluation.measure import Key
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.evaluation.sources import (
    BagSource,
    FolderSource,
    Frame,
    Source,
)
from seg_perception.evaluation.truth import FolderTruth, Labels, Truth, default_void
from seg_perception.files import check_output, written_whole
from seg_perception.segmenter import Segmenter


class Comparison(NamedTuple):
    """A float model beside its 8-bit form: `same` of `labels` labels on `pictures` pictures.

    `calibrated` of the pictures set the ranges of the 8-bit form. `scores` are the matrices of both
    against the truth, None without one.
    """

    pictures: int
    calibrated: int
    same: int
    labels: int
    scores: tuple[ConfusionMatrix, ConfusionMatrix] | None

    @property
    def loss(self) -> float:
        """Return the mean IoU that is lost, a fraction; NaN where it was not measured."""
        before, after = self.scores or (None, None)
        return before.miou() - after.miou() if before and after else np.nan


def run(options: argparse.Namespace) -> int:
    """Quantise, print the comparison, and return the exit status."""
    source = _source(options.calibrate, options.image_topic)
    path = weights.resolve(options.model)
    quantize(
        path,
        source,
        options.out,
        labels=options.labels,
        max_loss=options.max_loss,
        pictures=options.pictures,
        on_comparison=_print,
    )
    if source.damage:
        print(source.damage, file=sys.stderr)
    sizes = [file.stat().st_size / 1e6 for file in (path, options.out)]
    print(f"{options.out}: {sizes[1]:.1f} MB, the float file {sizes[0]:.1f} MB")
    return 0


def quantize(
    model: Path,
    source: Source,
    out: Path,
    *,
    labels: Path | None,
    max_loss: float,
    pictures: int,
    on_comparison: Callable[[Comparison, tuple[str, ...]], None],
) -> None:
    """Write the ONNX file `model` in 8 bit to `out`, calibrated on `pictures` of `source`.

    With `labels` both are scored on every picture that has its PNG there, and ModelError refuses a
    loss of mean IoU above `max_loss`, a fraction; without, they are compared on the calibration's
    pictures. `on_comparison` hears of it before that, with the names of the classes. Nothing is
    written when anything is refused.
    """
    check_output(out, kinds=(".onnx",), sources=(model,))
    graph = read_float(model)
    before = Segmenter.load(model)
    manifest = before.manifest
    truth = FolderTruth(labels, manifest) if labels else None
    frames = list(_spread(source, pictures))
    named = replace(manifest, name=f"{manifest.name}_int8", metrics={})
    with written_whole(out) as beside:
        write_int8(graph, named, (_input(before, frame) for frame in frames), beside)
        compared = source.frames() if truth else iter(frames)
        known = {frame.key for frame in frames}
        comparison = compare(before, Segmenter.load(beside), compared, truth, known)
        if truth and not comparison.pictures:
            raise DataError(
                f"no picture of {source.name} has its truth in {truth.name}: pictures are named "
                f"{frames[0].key}, the truth {truth.example}; they must be the same"
            )
        if truth and np.isnan(comparison.loss):
            raise DataError(f"{truth.name} is void in every picture: give labels that name classes")
        on_comparison(comparison, manifest.classes)
        if comparison.loss > max_loss:
            raise ModelError(
                f"8 bit lose {comparison.loss:.4f} of the mean IoU, allowed are {max_loss}; "
                "nothing was written: calibrate on other pictures or more of them (--pictures), or "
                "allow it with --max-loss"
            )


def compare(
    before: Segmenter,
    after: Segmenter,
    frames: Iterator[Frame],
    truth: Truth | None,
    known: Collection[Key],
) -> Comparison:
    """Segment the readable pictures with both, with a truth only those that have one.

    `known` are the keys of the pictures that `after` was calibrated on.
    """
    void = default_void(before.manifest)
    matrices = [ConfusionMatrix(len(before.manifest.classes), void) for _ in range(2)]
    pictures = calibrated = same = total = 0
    for frame in frames:
        expected = truth.of(frame) if truth else None
        if truth and expected is None:
            continue
        try:
            found = [s(frame.image, "bgr8", confidence=False).labels for s in (before, after)]
        except ImageError:
            continue
        pictures += 1
        calibrated += frame.key in known
        same += int((found[0] == found[1]).sum())
        total += found[0].size
        if truth and expected is not None:
            _score(matrices, expected, found, f"{truth.name}, of {frame.key}")
    scores = (matrices[0], matrices[1]) if truth else None
    return Comparison(pictures, calibrated, same, total, scores)


def _score(
    matrices: list[ConfusionMatrix], expected: Labels, found: list[Labels], where: str
) -> None:
    try:
        for matrix, ids in zip(matrices, found, strict=True):
            matrix.add(expected, ids)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _spread(source: Source, count: int) -> Iterator[Frame]:
    """Yield up to `count` readable pictures, evenly spread; DataError where there is none."""
    step, found = max(1, (source.total or 0) // count), 0
    for i, frame in enumerate(source.frames()):
        if found == count:
            return
        if i % step == 0 and _is_readable(frame):
            found += 1
            yield frame
    if not found:
        raise DataError(f"no picture of {source.name} can be read; calibrate on another recording")


def _is_readable(frame: Frame) -> bool:
    try:
        return frame.image.size > 0
    except ImageError:
        return False


def _input(segmenter: Segmenter, frame: Frame) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Prepare a picture as the segmenter does for its network."""
    spec = segmenter.manifest.input
    picture = images.convert(frame.image, "bgr8", spec.color)
    return segmenter.to_input(images.fit(picture, spec.size, spec.resize, spec.pad_value).image)


def _source(path: Path, topic: str | None) -> Source:
    """Open a folder that holds pictures, or a bag; DataError says what there is not."""
    names = [p.name for p in path.iterdir()] if path.is_dir() else []
    is_bag = not path.is_dir() or any(n.endswith((".mcap", ".db3", ".yaml")) for n in names)
    return BagSource(path, topic) if is_bag else FolderSource(path)


def _print(comparison: Comparison, classes: tuple[str, ...]) -> None:
    share = comparison.same / comparison.labels
    print(
        f"{share:.2%} of the labels of {comparison.pictures} pictures, {comparison.calibrated} of "
        "which calibrated it, are the float model's"
    )
    if comparison.scores is None:
        print("accuracy was not measured: give --labels")
        return
    before, after = comparison.scores
    table = Table("IoU", "float", "int8", "lost")
    rows = [*zip(classes, before.iou(), after.iou(), strict=True)]
    for name, *values in [*rows, ("mean", before.miou(), after.miou())]:
        columns = (values[0], values[1], values[0] - values[1])
        table.add_row(name, *("-" if np.isnan(v) else f"{v:.4f}" for v in columns))
    Console().print(table)
