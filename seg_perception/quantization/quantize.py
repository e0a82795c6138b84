"""Write a model in 8 bit, and measure first what that costs."""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception import images
from seg_perception.bags.frames import Frame, Key, ahead
from seg_perception.bags.sources import Source
from seg_perception.errors import DataError, ImageError, ModelError
from seg_perception.evaluation.ground_truth import FolderTruth, Labels, Truth, default_void
from seg_perception.files import atomic_write, check_output
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.quantization.int8 import read_float, write_int8
from seg_perception.segmenter import Segmenter


class Comparison(NamedTuple):
    """A float model next to its 8-bit form: `same` of `labels` labels on `images` images.

    `calibrated` of the images set the ranges of the 8-bit form. `scores` are the matrices of both
    against the truth, None without one.
    """

    images: int
    calibrated: int
    same: int
    labels: int
    scores: tuple[ConfusionMatrix, ConfusionMatrix] | None

    @property
    def loss(self) -> float:
        """Return the mean IoU that is lost, a fraction; NaN where it was not measured."""
        before, after = self.scores or (None, None)
        return before.miou() - after.miou() if before and after else np.nan


def quantize(
    model: Path,
    source: Source,
    out: Path,
    *,
    labels: Path | None,
    max_loss: float,
    count: int,
    on_comparison: Callable[[Comparison, tuple[str, ...]], None],
) -> None:
    """Write the ONNX file `model` in 8 bit to `out`, calibrated on `count` images of `source`.

    With `labels` both are scored on every image that has its PNG there, and ModelError refuses a
    loss of mean IoU above `max_loss`, a fraction; without, they are compared on the calibration's
    images. `on_comparison` hears of it before that, with the names of the classes. Nothing is
    written when anything is refused.
    """
    check_output(out, kinds=(".onnx",), sources=(model,))
    graph = read_float(model)
    before = Segmenter.load(model)
    manifest = before.manifest
    truth = FolderTruth(labels, manifest) if labels else None
    frames = list(_spread(source, count))
    named = replace(manifest, name=f"{manifest.name}_int8", metrics={})
    with atomic_write(out) as temporary:
        write_int8(graph, named, (_input(before, frame) for frame in frames), temporary)
        compared = source.frames() if truth else iter(frames)
        known = {frame.key for frame in frames}
        comparison = compare(before, Segmenter.load(temporary), compared, truth, known)
        if truth and not comparison.images:
            raise DataError(
                f"no image of {source.name} has its truth in {truth.name}: images are named "
                f"{frames[0].key}, the truth {truth.example}; they must be the same"
            )
        if truth and np.isnan(comparison.loss):
            raise DataError(f"{truth.name} is void in every image: give labels that name classes")
        on_comparison(comparison, manifest.classes)
        if comparison.loss > max_loss:
            raise ModelError(
                f"8 bit lose {comparison.loss:.4f} of the mean IoU, allowed are {max_loss}; "
                "nothing was written: calibrate on other images or more of them (--pictures), or "
                "allow it with --max-loss"
            )


def compare(
    before: Segmenter,
    after: Segmenter,
    frames: Iterator[Frame],
    truth: Truth | None,
    known: Collection[Key],
) -> Comparison:
    """Segment the readable images with both, with a truth only those that have one.

    `known` are the keys of the images that `after` was calibrated on.
    """
    void = default_void(before.manifest)
    matrices = [ConfusionMatrix(len(before.manifest.classes), void) for _ in range(2)]
    images = calibrated = same = total = 0
    with closing(ahead(_with_truth(frames, truth))) as pairs:
        for frame, expected in pairs:
            try:
                found = [s(frame.image, "bgr8", confidence=False).labels for s in (before, after)]
            except ImageError:  # an image of a size that the network does not take
                continue
            images += 1
            calibrated += frame.key in known
            same += int((found[0] == found[1]).sum())
            total += found[0].size
            if truth and expected is not None:
                _score(matrices, expected, found, f"{truth.name}, of {frame.key}")
    scores = (matrices[0], matrices[1]) if truth else None
    return Comparison(images, calibrated, same, total, scores)


def _with_truth(
    frames: Iterator[Frame], truth: Truth | None
) -> Iterator[tuple[Frame, Labels | None]]:
    """Yield the readable images with their truth, with a truth only those that have one."""
    for frame in frames:
        expected = truth.of(frame) if truth else None
        if (expected is not None or truth is None) and frame.is_readable():
            yield frame, expected


def _score(
    matrices: list[ConfusionMatrix], expected: Labels, found: list[Labels], where: str
) -> None:
    try:
        for matrix, ids in zip(matrices, found, strict=True):
            matrix.add(expected, ids)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _spread(source: Source, count: int) -> Iterator[Frame]:
    """Yield up to `count` readable images, evenly spread; DataError where there is none."""
    step, found = max(1, (source.total or 0) // count), 0
    for i, frame in enumerate(source.frames()):
        if found == count:
            return
        if i % step == 0 and frame.is_readable():
            found += 1
            yield frame
    if not found:
        raise DataError(f"no image of {source.name} can be read; calibrate on another recording")


def _input(segmenter: Segmenter, frame: Frame) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Prepare an image as the segmenter does for its network."""
    spec = segmenter.manifest.input
    image = images.convert(frame.image, "bgr8", spec.color)
    return segmenter.to_input(images.fit(image, spec.size, spec.resize, spec.pad_value).image)
