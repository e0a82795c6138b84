"""Folders of Hugging Face transformers: config.json, the image processor's numbers, weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_perception.checkpoints.safetensors_file import read_safetensors
from seg_perception.checkpoints.source import Source
from seg_perception.errors import CheckpointError, first_line
from seg_perception.runtimes.safe_load import check_weights, read_weights_only

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there is read
INDEX = ".index.json"
TASK = "ForSemanticSegmentation"
NAMELESS = "LABEL_"  # what the library calls classes that nobody named
BILINEAR = 2
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # the library's own


def is_in_folder(path: Path) -> bool:
    """Return whether a file is the weights of a folder that has a config."""
    return path.name in WEIGHTS and path.is_file() and (path.parent / CONFIG).is_file()


def read_folder(folder: Path, *, weights: str = "") -> Source:
    """Return what a folder holds that save_pretrained or a download made.

    `weights` names the file of weights where it has two. CheckpointError names the file in it that
    is missing, damaged or not of a segmentation network.
    """
    config = _read_json(folder / CONFIG, needed=True)
    _check_task(config, folder)
    notes: list[str] = []
    spec = _preparation(folder, notes)
    tensors, files = _read_weights(folder, (weights,) if weights else WEIGHTS)
    return Source(
        folder,
        check_weights(tensors, folder),
        files,
        _names(config, folder, notes, reduced=bool(spec.pop("reduced", False))),
        input=spec,
        config=config,
        notes=tuple(notes),
    )


def check_config(source: Source, expected: Mapping[str, Any], *, arch: str, classes: int) -> None:
    """Raise CheckpointError where config.json says other than the network that was built.

    `expected` are values of that network by the config's keys; a key that is not said is as usual.
    """
    said = {key: source.config[key] for key in expected if key in source.config}
    wrong = [
        f"{key} is {value}, {arch} has {expected[key]}"
        for key, value in said.items()
        if value != expected[key]
    ]
    if wrong:
        raise CheckpointError(
            f"{source.path / CONFIG} and the weights contradict each other ({'; '.join(wrong)}), "
            "or it is a network that is not built here: take the config that was saved with them"
        )
    if source.config and source.names and len(source.names) != classes:
        raise CheckpointError(
            f"{source.path / CONFIG} names {len(source.names)} classes, its weights tell {classes} "
            "apart: take the config that was saved with them"
        )


def _check_task(config: Mapping[str, Any], folder: Path) -> None:
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if kinds and not any(kind.endswith(TASK) for kind in kinds):
        raise CheckpointError(
            f"{folder / CONFIG} is of {', '.join(kinds)}: only networks of semantic segmentation "
            f"(...{TASK}) can be imported"
        )


def _read_json(path: Path, *, needed: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one where the file is absent."""
    if not path.is_file():
        if needed:
            raise CheckpointError(
                f"{path.parent} is a folder without {path.name}: give a checkpoint's file, or a "
                "folder that save_pretrained wrote"
            )
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not an object")
    return content


def _read_weights(
    folder: Path, names: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """Return the weights of a folder and the files that they are in."""
    for name in names:
        if (folder / name).is_file():
            return _read_file(folder / name), (folder / name,)
        if (folder / f"{name}{INDEX}").is_file():
            return _read_shards(folder / f"{name}{INDEX}")
    raise CheckpointError(
        f"{folder} holds no weights: neither {' nor '.join(WEIGHTS)}, whole or in shards"
    )


def _read_shards(index: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """Return the weights of the files that an index names, and those files."""
    said = _read_json(index).get("weight_map")
    if not isinstance(said, dict) or not said:
        raise CheckpointError(f"{index} has no weight_map: download it again")
    weights: dict[str, Tensor] = {}
    files = []
    for name in dict.fromkeys(said.values()):
        path = index.parent / str(name)
        if path.name != name:
            raise CheckpointError(f"{index} names {name!r}, which is no file of its folder")
        if not path.is_file():
            raise CheckpointError(f"{index} names {name}, which is missing: download it, too")
        shard = _read_file(path)
        double = sorted(shard.keys() & weights.keys())
        if double:
            raise CheckpointError(f"{path} holds {double[:3]} again: download the folder anew")
        weights |= shard
        files.append(path)
    lost = sorted(said.keys() - weights.keys())
    if lost:
        raise CheckpointError(
            f"{index} names {lost[:3]}, which no shard holds: download them again"
        )
    return weights, tuple(files)


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return check_weights(read_weights_only(path), path)


def _names(
    config: Mapping[str, Any], folder: Path, notes: list[str], *, reduced: bool
) -> tuple[str, ...]:
    """Return the names of the classes by id, or none where nobody named them."""
    said = config.get("id2label") or {}
    try:
        by_id = {int(i): str(name) for i, name in said.items()}
    except (AttributeError, ValueError) as error:
        raise CheckpointError(
            f"id2label of {folder / CONFIG} is no table of ids and names"
        ) from error
    if sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(
            f"id2label of {folder / CONFIG} has ids {sorted(by_id)[:5]}...: name 0 to "
            f"{len(by_id) - 1}, each once"
        )
    names = tuple(by_id[i] for i in range(len(by_id)))
    if all(name.startswith(NAMELESS) for name in names):
        return ()
    if reduced and names and names[0].lower() in ("background", "unlabeled", "void", "other"):
        notes.append(
            f"do_reduce_labels is true and class 0 is named {names[0]!r}: training shifted ids "
            "down by one, so names may be one off; id2label is taken as it is"
        )
    return names


def _preparation(folder: Path, notes: list[str]) -> dict[str, Any]:
    """Return keys of InputSpec that the image processor says, and whether it `reduced` labels."""
    said = _read_json(folder / PROCESSOR)
    if not said:
        notes.append(
            f"{PROCESSOR} is missing: ImageNet's mean and std and the usual size are taken"
        )
        return {}
    spec: dict[str, Any] = {
        "reduced": bool(said.get("do_reduce_labels", said.get("reduce_labels", False)))
    }
    spec["scale"] = _number(said.get("rescale_factor", 1 / 255), "rescale_factor", folder)
    if said.get("do_rescale") is False:
        spec["scale"] = 1.0
    spec |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    if said.get("do_normalize", True):
        for key in ("mean", "std"):
            values = said.get(f"image_{key}", IMAGENET[key])
            if not isinstance(values, list) or len(values) != 3:
                raise CheckpointError(
                    f"image_{key} of {folder / PROCESSOR} is {values!r}: give three numbers"
                )
            spec[key] = [_number(value, f"image_{key}", folder) for value in values]
    size = said.get("size")
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if all(isinstance(side, int) and side > 0 for side in sides):
        spec["size"] = list(sides)
    else:
        notes.append(f"{PROCESSOR} says size {size!r}: the usual size is taken")
    if said.get("resample", BILINEAR) != BILINEAR:
        notes.append(f"{PROCESSOR} says resample {said['resample']}: images are resized bilinearly")
    return spec


def _number(value: Any, key: str, folder: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CheckpointError(f"{key} of {folder / PROCESSOR} is {value!r}: give a number")
    return float(value)
