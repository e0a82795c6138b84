"""Official checkpoints in, verified self-describing model files out."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seg_perception import catalogue
from seg_perception.cards import load_card
from seg_perception.checkpoints.export import Exported, compare, export_onnx
from seg_perception.checkpoints.model_file import read_model, write_model
from seg_perception.checkpoints.official import load_network
from seg_perception.errors import ModelError
from seg_perception.files import check_output
from seg_perception.manifest import Manifest
from seg_perception.models.folding import check_size
from seg_perception.runtimes.torch import TorchRuntime

BACKGROUND = {"classes": ["background"], "palette": [[0, 0, 0]]}


def import_official(
    checkpoint: Path, out: Path, *, arch: str, dataset: str, size: tuple[int, int] | None = None
) -> Exported:
    """Write an official checkpoint as a model file: .onnx of one input size, .pt for any.

    `size` (height, width) is by default that of the official tests. Raises CheckpointError for a
    checkpoint that does not fit, ModelError for a file that would differ; nothing is written then.
    """
    check_output(out, kinds=(".onnx", ".pt"), sources=(checkpoint,))
    network, classes = load_network(checkpoint, arch=arch, dataset=dataset)
    manifest = describe(arch, dataset, classes=classes, size=size, checkpoint=checkpoint)
    if out.suffix == ".onnx":
        return export_onnx(network, manifest, out)
    check_size(network, manifest.input.size)
    threads = torch.get_num_threads()  # which a runtime sets for the whole process
    runtime = TorchRuntime(network, manifest, threads=threads)
    parity = compare(network, runtime, manifest.input, pictures=1)
    if parity.is_broken():
        raise ModelError(
            f"the model would differ from the checkpoint: {parity.text()}; nothing was written"
        )
    return Exported(write_model(network, manifest, out), parity)


def export_model(model: Path, out: Path, *, size: tuple[int, int] | None = None) -> Exported:
    """Write a .pt model file as ONNX for input `size` (height, width), its own by default."""
    if model.suffix != ".pt":
        raise ModelError(f"{model} is no .pt model file; import a checkpoint as .pt first")
    check_output(out, kinds=(".onnx",), sources=(model,))
    network, manifest = read_model(model)
    if size is not None:
        manifest = replace(manifest, input=replace(manifest.input, size=size))
    return export_onnx(network, manifest, out)


def describe(
    arch: str,
    dataset: str,
    *,
    classes: int,
    size: tuple[int, int] | None = None,
    checkpoint: Path | None = None,
) -> Manifest:
    """Return the manifest of an official network, as it was trained, for input `size`.

    What is published of the variant is told as that: whether `checkpoint` is the file that its
    authors measured, nobody can say.
    """
    prepared = catalogue.preparation(arch, dataset)
    entry = catalogue.find(arch, dataset)
    published: dict[str, Any] = {}
    origin = [_name_of(checkpoint)] if checkpoint else []
    if entry is not None:
        published["license"] = entry.license
        origin.append(f"code: {entry.source}")
        if entry.miou is not None:
            published["metrics"] = {
                "variant_published_miou": round(entry.miou / 100, 4),
                "variant_published_by": entry.miou_source,
            }
    return Manifest.from_dict(
        {
            "name": f"{arch}_{dataset}",
            "architecture": arch,
            "input": {
                "size": list(size or prepared.size),
                "color": prepared.color,
                "mean": list(prepared.mean),
                "std": list(prepared.std),
            },
            "output": dict(prepared.output),
            "official": dict(prepared.official) if prepared.official else None,
            "source": "; ".join(origin),
            **published,
            **_card(dataset, classes),
        }
    )


def _name_of(file: Path) -> str:
    with file.open("rb") as content:
        return f"{file.name}, sha256 {hashlib.file_digest(content, 'sha256').hexdigest()}"


def _card(dataset: str, classes: int) -> dict[str, Any]:
    """Return the data set's card; a network with one class more has its background first."""
    card = load_card(dataset)
    if len(card["classes"]) + 1 == classes:
        card = {**card, **{key: first + card[key] for key, first in BACKGROUND.items()}}
        card["void_ids"] = [0, *(i + 1 for i in card.get("void_ids", []))]
    return card
