"""Read official checkpoints: weights only, unwrapped, every key accounted for, strict."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from seg_perception.catalogue import ENTRIES
from seg_perception.errors import CheckpointError
from seg_perception.models import class_counts, create_model, family_of

WRAPPERS = ("state_dict", "model")
PREFIX = "module."
COMPUTED = "relative_position_index"  # buffers that the network fills by itself
UNLIKE = 0.2  # share of common keys below which no architecture is worth naming


def load_official(path: str | Path, *, arch: str, dataset: str) -> nn.Module:
    """Return the network of an official checkpoint in eval mode, on the CPU.

    `module(x)` gives what comes before upsampling, `module.scores(x)` the official full-size
    class map (N,K,H,W) of a normalised float32 (N,3,H,W). Raises CheckpointError when the file
    cannot be read without running code, or does not fit `arch` key by key.
    """
    return load_network(Path(path), arch=arch, dataset=dataset).network


class Loaded(NamedTuple):
    """A network in eval mode and how many classes it tells apart."""

    network: nn.Module
    classes: int


def load_network(path: Path, *, arch: str, dataset: str) -> Loaded:
    """Do as load_official, and tell the class count: a background may count as a class."""
    counts = class_counts(arch, dataset)
    given = _unwrap(read_weights_only(path), path)
    complaints = []
    for classes in counts:
        model = create_model(arch, dataset=dataset, num_classes=classes)
        wanted = model.state_dict()
        weights = _used(given, arch)
        weights.update({k: v for k, v in wanted.items() if k.endswith(COMPUTED)} | weights)
        complaints.append(_misfit(weights, wanted))
        if not complaints[-1]:
            break
    else:
        raise CheckpointError(
            f"{path} does not fit {arch} on {dataset}: {complaints[0]}; {_advice(given)}"
        )
    bad = [k for k, w in weights.items() if not torch.isfinite(w).all()]
    if bad:
        raise CheckpointError(f"{path} holds NaN or infinite weights in {bad[:3]}: it is damaged")
    model.load_state_dict(weights, strict=True)
    return Loaded(model.eval(), classes)


def read_weights_only(path: Path) -> Any:
    """Return what a torch file holds, as long as that is tensors and plain values.

    Nothing in the file is run. CheckpointError says what else it holds, and how to convert it.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; download it first and give its path")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors{_foreign_types(path)}, and loading those could run "
            "code. Where you trust its origin, save its state dict alone: torch.save({'state_dict':"
            " torch.load(FILE, map_location='cpu', weights_only=False)['state_dict']}, OUT)"
        ) from error
    except Exception as error:  # torch meets damage with errors of many types
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a readable torch file, or truncated: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _foreign_types(path: Path) -> str:
    """Return the types besides tensors that a checkpoint names, read without loading it."""
    try:
        found = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # the file is odd in another way too; the caller's error tells of it
        return ""
    return f" ({', '.join(sorted(found)[:5])}{', ...' if len(found) > 5 else ''})" if found else ""


def _unwrap(loaded: Any, path: str | Path) -> dict[str, Tensor]:
    """Return the plain state dict inside the wrappers that training tools put around it."""
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path} holds {type(loaded).__name__}, not a state dict")
    strangers = [k for k, v in loaded.items() if not isinstance(v, Tensor)]
    if strangers:
        raise CheckpointError(
            f"{path} holds entries that are no tensors ({strangers[:3]}): is it a state dict?"
        )
    return {str(k).removeprefix(PREFIX): v for k, v in loaded.items()}


def _used(weights: Mapping[str, Tensor], arch: str) -> dict[str, Tensor]:
    """Leave out what the official code keeps and inference does not need."""
    ignored = family_of(arch).ignored
    return {key: value for key, value in weights.items() if not key.startswith(ignored)}


def _misfit(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return what is wrong with a state dict for a network, or nothing."""
    missing = [k for k in wanted if k not in weights]
    left = [k for k in weights if k not in wanted]
    if missing or left:
        return f"{len(missing)} keys are missing {missing[:3]}, {len(left)} are unknown {left[:3]}"
    for key, value in wanted.items():
        if value.shape != weights[key].shape:
            return f"{key} is {tuple(weights[key].shape)}, the network has {tuple(value.shape)}"
    return ""


def _advice(weights: Mapping[str, Tensor]) -> str:
    """Say which architecture and data set fit a state dict, or fit it best."""
    archs = dict.fromkeys(entry.arch for entry in ENTRIES)
    first = {arch: next(e.dataset for e in ENTRIES if e.arch == arch) for arch in archs}
    arch = max(archs, key=lambda a: _likeness(weights, a, first[a]))
    if _likeness(weights, arch, first[arch]) < UNLIKE:
        return f"no architecture of this package fits it: {', '.join(list(weights)[:3])} ..."
    datasets = [e.dataset for e in ENTRIES if e.arch == arch]
    dataset = max(datasets, key=lambda d: _likeness(weights, arch, d))
    share = _likeness(weights, arch, dataset)
    how = "fits" if share == 1 else f"fits best ({share:.0%} of all keys)"
    return f"--arch {arch} --dataset {dataset} {how}"


def _likeness(weights: Mapping[str, Tensor], arch: str, dataset: str) -> float:
    """Return the share of keys that a state dict and a variant have in common, shapes included."""
    with torch.device("meta"):
        wanted = create_model(arch, dataset=dataset).state_dict()
    used = _used(weights, arch)
    same = len([k for k, v in wanted.items() if k in used and used[k].shape == v.shape])
    return same / len(wanted.keys() | used.keys())
