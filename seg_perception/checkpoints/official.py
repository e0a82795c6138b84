"""Read official checkpoints: weights only, unwrapped, every key accounted for, strict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seg_perception.catalogue import ENTRIES
from seg_perception.checkpoints.torch_file import check_finite, check_weights, read_weights_only
from seg_perception.errors import CheckpointError
from seg_perception.models import DATASET_CLASSES, class_counts, create_model, family_of

WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "model.")
AVERAGES = "ema_"  # how mmcv names moving averages, which stand beside the weights
COMPUTED = "relative_position_index"  # buffers that the network fills by itself
MOST_CLASSES = 1000  # a larger number in a shape is a width
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
    weights = _used(given, arch)
    for classes in counts:
        model = without_data(arch, dataset, classes)
        if not misfit(weights, model.state_dict()):
            break
    else:
        raise CheckpointError(
            f"{path} does not fit {arch} on {dataset}: {_difference(weights, arch, dataset)}; "
            f"{_advice(given, refused=(arch, dataset))}"
        )
    check_finite(weights, path)
    take_weights(model, weights)
    return Loaded(model.eval(), classes)


def without_data(arch: str, dataset: str, classes: int | None = None) -> nn.Module:
    """Build a network that takes no memory and no time for weights; take_weights gives it some."""
    with torch.device("meta"):
        return create_model(arch, dataset=dataset, num_classes=classes)


def take_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make the tensors of a state dict that fits those of a network, in the network's types."""
    wanted = model.state_dict()
    typed = {
        key: value.to(wanted[key].dtype).contiguous()
        for key, value in weights.items()
        if not key.endswith(COMPUTED)
    }
    typed |= {key: value for key, value in wanted.items() if key.endswith(COMPUTED)}
    model.load_state_dict(typed, strict=True, assign=True)


def misfit(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return what is wrong with a state dict for a network, or nothing."""
    missing = [k for k in wanted if k not in weights and not k.endswith(COMPUTED)]
    left = [k for k in weights if k not in wanted]
    if missing or left:
        return f"{len(missing)} keys are missing {missing[:3]}, {len(left)} are unknown {left[:3]}"
    for key, value in wanted.items():
        if key in weights and value.shape != weights[key].shape:
            return f"{key} is {tuple(weights[key].shape)}, the network has {tuple(value.shape)}"
    return ""


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Return the plain state dict inside the wrappers that training tools put around it."""
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    weights = check_weights(loaded, path)
    while shared := [p for p in PREFIXES if all(key.startswith(p) for key in weights)]:
        weights = {key.removeprefix(shared[0]): value for key, value in weights.items()}
    averages = [key for key in weights if key.startswith(AVERAGES)]
    if averages:
        raise CheckpointError(
            f"{path} holds {len(averages)} moving averages beside its weights ({averages[0]}, "
            f"...): save its state dict without the keys that start with {AVERAGES}"
        )
    return weights


def _used(weights: Mapping[str, Tensor], arch: str) -> dict[str, Tensor]:
    """Leave out what the official code keeps and inference does not need."""
    ignored = family_of(arch).ignored
    return {key: value for key, value in weights.items() if not key.startswith(ignored)}


def _difference(weights: Mapping[str, Tensor], arch: str, dataset: str) -> str:
    """Say why a state dict does not fit, as plainly as can be."""
    wanted = without_data(arch, dataset).state_dict()
    odd = [k for k, v in wanted.items() if k in weights and weights[k].shape != v.shape]
    for size in {n for n in weights[odd[0]].shape if n <= MOST_CLASSES} if odd else ():
        for count in (size, size - 1):  # one class more is "none of them"
            if count > 0 and not misfit(weights, without_data(arch, dataset, count).state_dict()):
                return f"it tells {count} classes apart, {dataset} has {DATASET_CLASSES[dataset]}"
    return misfit(weights, wanted)


def _advice(weights: Mapping[str, Tensor], *, refused: tuple[str, str]) -> str:
    """Say which architecture and data set fit a state dict, or fit it best."""
    archs = dict.fromkeys(entry.arch for entry in ENTRIES)
    first = {arch: next(e.dataset for e in ENTRIES if e.arch == arch) for arch in archs}
    arch = max(archs, key=lambda a: _likeness(weights, a, first[a]))
    if _likeness(weights, arch, first[arch]) < UNLIKE:
        return f"no architecture of this package fits it: {', '.join(list(weights)[:3])} ..."
    official = [e.dataset for e in ENTRIES if e.arch == arch]
    others = [d for d in dict.fromkeys([*official, *DATASET_CLASSES]) if (arch, d) != refused]
    dataset = max(others, key=lambda d: _likeness(weights, arch, d))
    share = _likeness(weights, arch, dataset)
    if share < 1 and arch == refused[0]:
        return f"no other data set of {arch} fits it either: give a checkpoint of one of them"
    how = "fits" if share == 1 else f"fits best ({share:.0%} of all keys)"
    return f"--arch {arch} --dataset {dataset} {how}"


def _likeness(weights: Mapping[str, Tensor], arch: str, dataset: str) -> float:
    """Return the share of keys that a state dict and a variant have in common, shapes included."""
    wanted = without_data(arch, dataset).state_dict()
    used = _used(weights, arch)
    used |= {k: v for k, v in wanted.items() if k.endswith(COMPUTED)}
    same = len([k for k, v in wanted.items() if k in used and used[k].shape == v.shape])
    return same / len(wanted.keys() | used.keys())
