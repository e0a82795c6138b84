"""Run a network on synthetic images and compare what comes out with its manifest."""

from collections.abc import Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding.outputs import arrays
from seg_perception.errors import ManifestError
from seg_perception.manifest import Manifest
from seg_perception.runtimes import Runtime
from seg_perception.segmenter import Segmenter

NOT_FINITE = "check scale, mean and std, or export the network again"
SUM_ERROR = 0.02  # how far probabilities may be from a sum of 1: quantised networks round


class Range(NamedTuple):
    """Extremes of one output's scores, and of their sums over the classes."""

    low: float
    high: float
    low_sum: float
    high_sum: float


def dry_run(runtime: Runtime) -> None:
    """Run the network; ManifestError says how what it gives disagrees with the manifest."""
    manifest, segmenter = runtime.manifest, Segmenter(runtime)
    shapes: set[tuple[tuple[int, ...], ...]] = set()
    ranges: list[Range] = []
    ids: set[int] = set()
    for image in synthetic_images(manifest.input.size):
        y = runtime.run(segmenter.to_input(image))
        parts = arrays(y)
        shapes.add(tuple(part.shape for part in parts))
        if manifest.output.kind == "labels":
            ids.update(np.unique(y).tolist())
        else:
            ranges.append(_range(parts[0], channel=1 if manifest.output.layout == "NCHW" else 3))
        for classes in parts[1:]:
            _check_class_logits(classes)
    problem = label_problem(manifest, ids) if ids else score_problem(manifest, ranges)
    if len(shapes) > 1:
        problem = f"the output's shape follows the image's content, {shapes}: choose another"
    if problem:
        raise ManifestError(f"the network disagrees with its card on test images: {problem}")


def _check_class_logits(classes: NDArray[Any]) -> None:
    """Raise ManifestError for (1,Q,K+1) that no softmax should follow."""
    if not np.isfinite(classes).all():
        raise ManifestError(f"class_logits are NaN or infinite: {NOT_FINITE}")
    if classes.min() >= 0 and np.abs(classes.sum(2) - 1).max() <= SUM_ERROR:
        raise ManifestError(
            "class_logits lie in 0..1 and sum to 1, so the softmax is inside the network: choose "
            "the output before it"
        )


def synthetic_images(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Return a black, a white, a noisy and a smooth image, uint8 (H,W,3)."""
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    down, right = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    smooth = np.stack([down + 0 * right, right + 0 * down, (down + right) / 2], axis=-1)
    return [np.zeros_like(noise), np.full_like(noise, 255), noise, smooth.astype(np.uint8)]


def label_problem(manifest: Manifest, ids: Set[int]) -> str:
    """Return why `ids` are no labels of the manifest, or an empty string."""
    count = len(manifest.classes)
    strange = sorted(ids - {*range(count), *manifest.void_ids})
    if not strange:
        return ""
    return (
        f"it gives ids {strange[:8]}, classes names 0..{count - 1} and void_ids is "
        f"{list(manifest.void_ids)}: name them in classes or, where they mean no class, in void_ids"
    )


def score_problem(manifest: Manifest, ranges: list[Range]) -> str:
    """Return why scores of these ranges are not of the manifest's kind, or an empty string."""
    lows, highs, low_sums, high_sums = zip(*ranges, strict=True)
    seen = Range(float(np.min(lows)), float(np.max(highs)), min(low_sums), max(high_sums))
    if not np.isfinite(seen[:2]).all():
        return f"some scores are NaN or infinite: {NOT_FINITE}"
    in_range = seen.low >= -SUM_ERROR and seen.high <= 1 + SUM_ERROR
    sum_is_one = seen.low_sum >= 1 - SUM_ERROR and seen.high_sum <= 1 + SUM_ERROR
    if manifest.output.kind == "logits":
        looks = in_range and sum_is_one and len(manifest.classes) > 1
        return "its scores lie in 0..1 and sum to 1: say kind: probabilities" if looks else ""
    if manifest.output.kind == "masks":
        advice = "the sigmoid is inside the network: choose the output before it"
        return f"kind is masks but all scores lie in 0..1, so {advice}" if in_range else ""
    if not in_range:
        return (
            f"kind is probabilities but scores reach {seen.low:.3g} to {seen.high:.3g}: say "
            "kind: logits"
        )
    if not sum_is_one:
        return (
            f"kind is probabilities but over the classes they sum to {seen.low_sum:.3g} to "
            f"{seen.high_sum:.3g}: choose the output before the sigmoid and say kind: logits, or "
            "correct the output's layout; a sigmoid after the resize is kind: masks"
        )
    return ""


def _range(y: NDArray[Any], *, channel: int) -> Range:
    sums = y.sum(channel)
    return Range(float(y.min()), float(y.max()), float(sums.min()), float(sums.max()))
