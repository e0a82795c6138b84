"""Check a model file: that it equals its checkpoint, and what the fast mode costs in labels."""

from pathlib import Path
from typing import NamedTuple

from seg_perception import runtimes
from seg_perception.catalogue import preparation
from seg_perception.errors import ModelError
from seg_perception.manifest import InputSpec, Manifest
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
    segmenter = Segmenter.load(model)
    manifest = segmenter.manifest
    lines = [
        f"{model}: {manifest.name or 'unnamed'}, {len(manifest.classes)} classes, loads and runs",
        "sha256 of the weights " + ("matches" if manifest.sha256 else "is not stated"),
    ]
    is_good = True
    if against is not None:
        line, is_good = _compare(model, manifest, against)
        lines.append(line)
    lines.append(_modes(model, manifest, segmenter))
    return Verdict(tuple(lines), is_good)


def _compare(model: Path, manifest: Manifest, checkpoint: Path) -> tuple[str, bool]:
    from seg_perception.checkpoints.export import compare
    from seg_perception.checkpoints.official import load_official

    arch, dataset = manifest.architecture, manifest.dataset
    network = load_official(checkpoint, arch=arch, dataset=dataset)
    prepared = preparation(arch, dataset)
    trained = InputSpec(
        manifest.input.size, color=prepared.color, mean=prepared.mean, std=prepared.std
    )
    parity = compare(network, runtimes.load(model), trained)
    relation = "differs from" if parity.is_broken() else "equals"
    return f"{relation} {arch} of {checkpoint}: {parity.text()}", not parity.is_broken()


def _modes(model: Path, manifest: Manifest, fast: Segmenter) -> str:
    if manifest.official is None:
        return "official mode: not described by the manifest"
    from seg_perception.evaluation.clip import bundled_pictures

    official = Segmenter.load(model, mode="official")
    differ, total = 0, 0
    try:
        for picture in bundled_pictures(PICTURES):
            pair = [s(picture, "bgr8", confidence=False).labels for s in (fast, official)]
            differ += int((pair[0] != pair[1]).sum())
            total += pair[0].size
    except ModelError as error:
        return f"fast mode against official mode: not compared: {error}"
    return f"fast mode against official mode: {differ / total:.2%} of {total} labels differ"
