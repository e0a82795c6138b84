"""Check a model file: that it equals its checkpoint, and what the fast mode costs in labels."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_perception import runtimes
from seg_perception.checkpoints.dry_run import synthetic_pictures
from seg_perception.errors import ModelError
from seg_perception.outputs import arrays
from seg_perception.runtimes import Runtime
from seg_perception.segmenter import Segmenter

PICTURES = 2  # of the bundled clip, evenly spaced


class Verdict(NamedTuple):
    """What was found: one line a check, and whether all that could be checked is right."""

    lines: tuple[str, ...]
    is_good: bool


def verify(model: Path, *, against: Path | None = None) -> Verdict:
    """Load `model`, run it, compare it with the official checkpoint `against` where given.

    The share of labels on which the fast mode and the official mode differ, on pictures of the
    bundled clip, is told and is no fault. Raises the errors of loading.
    """
    runtime = runtimes.load(model)
    manifest, segmenter = runtime.manifest, Segmenter(runtime)
    lines = [
        f"{model}: {manifest.name or 'unnamed'}, {len(manifest.classes)} classes, loads and runs",
        "sha256 of the weights " + ("matches" if manifest.sha256 else "is not stated"),
    ]
    pictures = synthetic_pictures(manifest.input.size)
    results = (arrays(runtime.run(segmenter.to_input(picture))) for picture in pictures)
    if not all(np.isfinite(part).all() for parts in results for part in parts):
        lines.append("gives NaN or infinite scores on test pictures: import its checkpoint again")
        return Verdict(tuple(lines), is_good=False)
    is_good, official = True, runtime
    if against is not None:
        line, is_good, network = _compare(runtime, against)
        lines.append(line)
        official = runtime if model.suffix == ".pt" else network
    lines.append(_modes(segmenter, official))
    return Verdict(tuple(lines), is_good)


def _compare(runtime: Runtime, checkpoint: Path) -> tuple[str, bool, Runtime]:
    """Return a line, whether the two are equal, and the checkpoint as it runs at any size."""
    from seg_perception.checkpoints.export import compare
    from seg_perception.checkpoints.official import load_official
    from seg_perception.checkpoints.zoo import describe
    from seg_perception.runtimes.torch import TorchRuntime

    manifest = runtime.manifest
    arch, dataset = manifest.architecture, manifest.dataset
    network = load_official(checkpoint, arch=arch, dataset=dataset)
    size, classes = manifest.input.size, len(manifest.classes)
    trained = describe(arch, dataset, classes=classes, size=size)
    parity = compare(network, runtime, trained.input)
    relation = "differs from" if parity.is_broken() else "equals"
    line = f"{relation} {arch} of {checkpoint}: {parity.text()}"
    official = TorchRuntime(network, replace(trained, official=manifest.official))
    return line, not parity.is_broken(), official


def _modes(fast: Segmenter, official: Runtime) -> str:
    title = "fast mode against official mode"
    if fast.manifest.official is None:
        return f"{title}: not described by the manifest"
    from seg_perception.evaluation.clip import bundled_pictures

    differ, total = 0, 0
    try:
        slow = Segmenter(official, mode="official")
        for picture in bundled_pictures(PICTURES):
            pair = [s(picture, "bgr8", confidence=False).labels for s in (fast, slow)]
            differ += int((pair[0] != pair[1]).sum())
            total += pair[0].size
    except ModelError:
        return f"{title}: not compared, as the file takes one size: give --against"
    return f"{title}: {differ / total:.2%} of {total} labels differ"
