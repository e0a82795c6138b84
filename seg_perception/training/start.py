"""The network that training begins with: from nothing, or from any checkpoint or model file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_perception import weights
from seg_perception.checkpoints.class_card import class_card
from seg_perception.checkpoints.official import load_checkpoint
from seg_perception.checkpoints.unfolding import unfold
from seg_perception.errors import CheckpointError, ManifestError, UsageError
from seg_perception.group_words import plain
from seg_perception.manifest import Manifest
from seg_perception.models import config_of
from seg_perception.runtimes.pt_file import read_model
from seg_perception.training.card import Card
from seg_perception.training.release import PREFIX, build, known_data_set

Images = Callable[[tuple[int, int]], Iterable[NDArray[np.uint8]]]  # RGB of a size (height, width)


class Start(NamedTuple):
    """A network for the card's classes. `changes` are fields of its config that are not usual.

    `notes` say what of it was kept and what is new.
    """

    network: nn.Module
    arch: str
    changes: Mapping[str, Any]
    notes: list[str]


class Given(NamedTuple):
    """What a file holds: a network, and the names of its classes as far as they are known."""

    network: nn.Module
    arch: str
    config: Any
    classes: Sequence[str]


def start(init: str, arch: str, card: Card, images: Images) -> Start:
    """Return the network to train: untrained where `init` is empty, else that of a file.

    What fits is kept. Where the classes are others, rows of the head are kept by their names and
    drawn again for new ones. `images` set the statistics of norms that an .onnx file has lost.
    Raises CheckpointError or ModelError for a file that cannot be read, or taken apart.
    """
    if not init:
        network = build(arch, card.keys, {})
        initialise(network)
        return Start(network, arch, {}, [f"{arch}, from scratch"])
    given = _read(weights.resolve(init), images)
    usual = config_of(given.arch, known_data_set(str(card.keys.get("dataset", ""))))
    changes = {
        f.name: getattr(given.config, f.name)
        for f in fields(usual)
        if getattr(given.config, f.name) != getattr(usual, f.name)
    }
    network = build(given.arch, card.keys, changes)
    initialise(network)
    note = _take_over(network, given, card, changes)
    return Start(network, given.arch, changes, [f"{given.arch} of {init}: {note}"])


def initialise(model: nn.Module) -> None:
    """Draw convolutions by He et al. (2015), fan-in; classifiers (1x1, biased) start near zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if module.bias is not None and module.kernel_size == (1, 1):
                nn.init.normal_(module.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def freeze(model: nn.Module, beginnings: Sequence[str]) -> list[nn.BatchNorm2d]:
    """Stop the training of modules whose names begin so; return their norms, which stay in eval.

    UsageError names a beginning that no module has.
    """
    norms = []
    for name in beginnings:
        module = _module(model, name, option="freeze")
        module.requires_grad_(False)
        norms += [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms


def rate_factors(model: nn.Module, rates: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter that trains, by name."""
    for name in rates:
        _module(model, name, option="rates")
    factors = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            name = key.removeprefix(PREFIX)
            own = [n for n in rates if name == n or name.startswith(n + ".")]
            factors[key] = rates[max(own, key=len)] if own else 1.0
    if not any(key.startswith(PREFIX) for key in factors):
        raise UsageError("every layer is frozen, so nothing would be trained; freeze fewer")
    return factors


def _module(model: nn.Module, name: str, *, option: str) -> nn.Module:
    network = model.get_submodule(PREFIX.rstrip("."))
    known = dict(network.named_modules())
    if name not in known or not name:
        near = [n for n in known if n and n.count(".") < 2]
        raise UsageError(
            f"{option} names {name!r}, which is no module; there are {', '.join(near)}"
        )
    found: nn.Module = known[name]
    return found


def _read(path: Path, images: Images) -> Given:
    """Open any file that `import` takes, a model file, or a checkpoint of training."""
    if path.suffix == ".onnx":
        network, manifest = unfold(path, _sized(path, images))
        return _of_manifest(network, manifest)
    if path.suffix == ".pt" and path.is_file():
        own = _own_checkpoint(path)
        if own is not None:
            return own
        try:
            return _of_manifest(*read_model(path))
        except ManifestError:  # no model file, perhaps a checkpoint of another library
            pass
    loaded = load_checkpoint(path)
    try:
        names = class_card(loaded.source, loaded.fit, groups=None).keys["classes"]
    except CheckpointError:  # it names no classes, and training brings its own
        names = ()
    return Given(loaded.network, loaded.fit.arch, loaded.fit.config, names)


def _sized(path: Path, images: Images) -> Iterable[NDArray[np.uint8]]:
    from seg_perception.runtimes import read_manifest

    return images(read_manifest(path).input.size)


def _of_manifest(network: nn.Module, manifest: Manifest) -> Given:
    arch = manifest.architecture
    config = replace(config_of(arch, known_data_set(manifest.dataset)), **manifest.network)
    return Given(network, arch, config, manifest.classes)


def _own_checkpoint(path: Path) -> Given | None:
    """Return the averaged network of a checkpoint that training wrote, None for another file."""
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        arch, card, averaged = saved["arch"], saved["card"], saved["averaged"]
    except Exception:  # whatever it is, the other readers say what is wrong with it
        return None
    changes = saved.get("network", {})
    network = build(arch, card, changes)
    network.load_state_dict(
        {k.removeprefix(PREFIX): v for k, v in averaged.items() if k.startswith(PREFIX)}
    )
    usual = config_of(arch, known_data_set(card.get("dataset", "")))
    return Given(network, arch, replace(usual, **changes), card["classes"])


@torch.no_grad()
def _take_over(network: nn.Module, given: Given, card: Card, changes: Mapping[str, Any]) -> str:
    """Copy what fits into `network`; return what was kept."""
    theirs, ours = given.network.state_dict(), network.state_dict()
    by_class = _class_axes(given.arch, card, changes)
    names = [plain(name) for name in given.classes]
    rows = [(i, names.index(plain(n))) for i, n in enumerate(card.classes) if plain(n) in names]
    for key, value in ours.items():
        if key not in by_class:
            value.copy_(theirs[key])
        elif rows:
            to, of = (torch.tensor(column) for column in zip(*rows, strict=True))
            axis = by_class[key]
            value.index_copy_(axis, to, theirs[key].index_select(axis, of).to(value.dtype))
    new = [n for n in card.classes if plain(n) not in names]
    if not new:
        return f"all {len(rows)} classes kept"
    return f"{len(rows)} classes kept by name, the head is new for {', '.join(new[:8])}" + (
        ", ..." if new[8:] else ""
    )


def _class_axes(arch: str, card: Card, changes: Mapping[str, Any]) -> dict[str, int]:
    """Return the axis that counts classes of each weight that has one."""
    more = {**card.keys, "classes": [*card.classes, "one more"]}
    with torch.device("meta"):
        few: Mapping[str, Tensor] = build(arch, card.keys, changes).state_dict()
        many: Mapping[str, Tensor] = build(arch, more, changes).state_dict()
    axes = {}
    for key, value in few.items():
        differs = [
            a for a, (s, t) in enumerate(zip(value.shape, many[key].shape, strict=True)) if s != t
        ]
        if differs:
            axes[key] = differs[0]
    return axes
