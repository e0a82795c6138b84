"""Check a model file: that it equals its checkpoint, and what the fast mode costs in labels."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_perception import runtimes
from seg_perception.checkpoints.dry_run import synthetic_images
from seg_perception.decoding.outputs import arrays
from seg_perception.errors import ModelError
from seg_perception.runtimes import Runtime
from seg_perception.segmenter import Segmenter

IMAGES = 2  # of the bundled clip, evenly spaced


class Verdict(NamedTuple):
    """What was found: one line a check, and whether all that could be checked is right."""

    lines: tuple[str, ...]
    is_good: bool


def verify(model: Path, *, against: Path | None = None, ema: bool = False) -> Verdict:
    """Load `model`, run it, compare it with the checkpoint `against` where given.

    With `ema` it is compared with the checkpoint's moving averages.

    The share of labels on which the fast mode and the official mode differ, on images of the
    bundled clip, is told and is no fault. Raises the errors of loading.
    """
    runtime = runtimes.load(model)
    manifest, segmenter = runtime.manifest, Segmenter(runtime)
    lines = [
        f"{model}: {manifest.name or 'unnamed'}, {len(manifest.classes)} classes, loads and runs",
        "sha256 of the weights " + ("matches" if manifest.sha256 else "is not stated"),
    ]
    images = synthetic_images(manifest.input.size)
    results = (arrays(runtime.run(segmenter.to_input(image))) for image in images)
    if not all(np.isfinite(part).all() for parts in results for part in parts):
        lines.append("gives NaN or infinite scores on test images: import its checkpoint again")
        return Verdict(tuple(lines), is_good=False)
    is_good, official = True, runtime
    if against is not None:
        line, is_good, network = _compare(runtime, against, ema=ema)
        lines.append(line)
        official = runtime if model.suffix == ".pt" else network
    lines.append(_modes(segmenter, official))
    return Verdict(tuple(lines), is_good)


def _compare(runtime: Runtime, checkpoint: Path, *, ema: bool) -> tuple[str, bool, Runtime]:
    """Return a line, whether the two are equal, and the checkpoint as it runs at any size."""
    from seg_perception.checkpoints.export import compare
    from seg_perception.checkpoints.official import load_checkpoint
    from seg_perception.checkpoints.zoo import describe_loaded
    from seg_perception.runtimes.torch import TorchRuntime

    manifest = runtime.manifest
    arch = manifest.architecture
    loaded = load_checkpoint(checkpoint, arch=arch, ema=ema)
    network = loaded.network
    classes = {"classes": list(manifest.classes), "dataset": manifest.dataset}
    trained = describe_loaded(loaded, classes, size=manifest.input.size)
    parity = compare(network, runtime, trained.input)
    relation = "differs from" if parity.is_broken() else "equals"
    line = f"{relation} {arch} of {checkpoint}: {parity.text()}"
    official = TorchRuntime(network, replace(trained, official=manifest.official))
    return line, not parity.is_broken(), official


def _modes(fast: Segmenter, official: Runtime) -> str:
    title = "fast mode against official mode"
    if fast.manifest.official is None:
        return f"{title}: not described by the manifest"
    from seg_perception.bags.clip import bundled_images

    differ, total = 0, 0
    try:
        slow = Segmenter(official, mode="official")
        for image in bundled_images(IMAGES):
            pair = [s(image, "bgr8", confidence=False).labels for s in (fast, slow)]
            differ += int((pair[0] != pair[1]).sum())
            total += pair[0].size
    except ModelError:
        return f"{title}: not compared, as the file takes one size: give --against"
    return f"{title}: {differ / total:.2%} of {total} labels differ"
