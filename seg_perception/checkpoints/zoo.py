"""Checkpoints of known networks in, verified self-describing model files out."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seg_perception import catalogue
from seg_perception.checkpoints import MODEL_KINDS
from seg_perception.checkpoints.class_card import class_card, data_set_card
from seg_perception.checkpoints.export import Exported, compare, export_onnx, multiple_of
from seg_perception.checkpoints.official import Loaded, load_checkpoint
from seg_perception.checkpoints.source import Source
from seg_perception.errors import ModelError
from seg_perception.files import check_output
from seg_perception.manifest import Manifest
from seg_perception.models.dialects import OFFICIAL
from seg_perception.models.folding import check_size
from seg_perception.runtimes.pt_file import read_model, write_model
from seg_perception.runtimes.torch import TorchRuntime


class Prepared(NamedTuple):
    """A checkpoint that was read and recognised, and the card of the file that it will become."""

    loaded: Loaded
    manifest: Manifest
    notes: tuple[str, ...]


def import_official(
    checkpoint: Path, out: Path, *, arch: str, dataset: str, size: tuple[int, int] | None = None
) -> Exported:
    """Write an official checkpoint as a model file; see prepare and write."""
    check_output(out, kinds=MODEL_KINDS, sources=(checkpoint,))
    return write(prepare(checkpoint, arch=arch, dataset=dataset, size=size), out)


def prepare(
    checkpoint: Path,
    *,
    arch: str = "",
    dataset: str = "",
    groups: Path | None = None,
    size: tuple[int, int] | None = None,
    ema: bool = False,
) -> Prepared:
    """Read a checkpoint of any dialect and say what it is of.

    `arch` and `dataset` decide ties, `groups` is a YAML file of planner groups by class, `size`
    (height, width) is by default that of the checkpoint or of the official tests; `ema` takes its
    moving averages. Raises CheckpointError for one that is not known, or not known well enough.
    """
    loaded = load_checkpoint(checkpoint, arch=arch, dataset=dataset, ema=ema)
    card = class_card(loaded.source, loaded.fit, dataset=dataset, groups=groups)
    manifest = describe_loaded(loaded, card.keys, size=size)
    return Prepared(loaded, manifest, (*loaded.source.notes, *card.notes))


def write(prepared: Prepared, out: Path) -> Exported:
    """Write a checkpoint as a model file: .onnx of one input size, .pt for any.

    Raises ModelError for a file that would differ; nothing is written then.
    """
    network, manifest = prepared.loaded.network, prepared.manifest
    check_output(out, kinds=MODEL_KINDS, sources=(prepared.loaded.source.path,))
    if out.suffix == ".onnx":
        return export_onnx(network, manifest, out)
    check_size(network, manifest.input.size)
    multiple = multiple_of(network, manifest.input)
    manifest = replace(manifest, input=replace(manifest.input, multiple=multiple))
    threads = torch.get_num_threads()  # which a runtime sets for the whole process
    runtime = TorchRuntime(network, manifest, threads=threads)
    parity = compare(network, runtime, manifest.input, images=1)
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
        manifest = replace(manifest, input=replace(manifest.input, size=size, multiple=None))
    return export_onnx(network, manifest, out)


def describe(
    arch: str, dataset: str, *, classes: int, size: tuple[int, int] | None = None
) -> Manifest:
    """Return the manifest of an official network, as it was trained, for input `size`.

    What is published of the variant is told as that: whether a checkpoint is the file that its
    authors measured, nobody can say.
    """
    prepared = catalogue.preparation(arch, dataset)
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
            **_published(arch, dataset),
            **data_set_card(dataset, classes),
        }
    )


def describe_loaded(
    loaded: Loaded, card: Mapping[str, Any], *, size: tuple[int, int] | None = None
) -> Manifest:
    """Return the manifest of a network that was recognised, with the `card` of its classes.

    What is published of a variant is told of the official dialect alone, and so are its rules of
    tests: other libraries train and test in their own way.
    """
    source, fit = loaded.source, loaded.fit
    dataset = str(card.get("dataset", ""))
    usual = catalogue.preparation(fit.arch, dataset)
    side = getattr(fit.config, "image_size", None)  # of networks that take one size alone
    told = source.input.get("size") or (usual.size if side is None else (side, side))
    common = {
        "name": "_".join(filter(None, (fit.arch, dataset))) or fit.arch,
        "architecture": fit.arch,
        "network": fit.changes(dataset),
        "input": {
            "color": usual.color,
            "mean": list(usual.mean),
            "std": list(usual.std),
            **source.input,
            "size": list(size or told),
        },
        "output": dict(usual.output),
        **card,
    }
    if fit.dialect.name == OFFICIAL:
        official = dict(usual.official) if usual.official else None
        published = _published(fit.arch, dataset, _name_of(source))
        return Manifest.from_dict({**common, "official": official, **published})
    origin = f"{_name_of(source)}; read as {fit.dialect.name}"
    return Manifest.from_dict({**common, "source": origin})


def _published(arch: str, dataset: str, *origin: str) -> dict[str, Any]:
    """Return what is published of a variant, and where it is from."""
    entry = catalogue.find(arch, dataset)
    if entry is None:
        return {"source": "; ".join(origin)}
    published: dict[str, Any] = {
        "license": entry.license,
        "source": "; ".join((*origin, f"code: {entry.source}")),
    }
    if entry.miou is not None:
        published["metrics"] = {
            "variant_published_miou": round(entry.miou / 100, 4),
            "variant_published_by": entry.miou_source,
        }
    return published


def _name_of(source: Source) -> str:
    """Return the name of a checkpoint and the hash of the files that hold its weights."""
    digest = hashlib.sha256()
    for path in source.files:
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return f"{source.path.resolve().name}, sha256 {digest.hexdigest()}"
