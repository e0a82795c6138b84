"""Turn a training checkpoint into the ONNX file that a robot runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_perception import catalogue
from seg_perception.cards import load_card
from seg_perception.checkpoints.export import Exported, export_onnx
from seg_perception.errors import CheckpointError
from seg_perception.manifest import Manifest
from seg_perception.models import DATASET_CLASSES, create_model

PREFIX = "network."


def release(checkpoint: Path, out: Path, *, size: tuple[int, int], **card: Any) -> Exported:
    """Export the averaged weights of `checkpoint` for input `size` (height, width).

    `card` adds or overrides manifest keys (name, license, metrics ...). Raises CheckpointError
    for a file that training did not write.
    """
    try:
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        config, weights = saved["config"], saved["averaged"]
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint} is not a checkpoint of `seg-perception train`: {error}"
        ) from error
    keys = saved.get("card") or load_card(config["dataset"])
    arch = saved.get("arch", config["arch"])  # of the file that it began with
    network = build(arch, keys, saved.get("network", {}))
    network.load_state_dict(
        {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    )
    start = f"from {Path(config['init']).name}" if config.get("init") else "from scratch"
    origin = f"trained {start} for {saved['epoch']} epochs by seg-perception train"
    manifest = describe(arch, keys, saved.get("network", {}), size)
    return export_onnx(
        network, Manifest.from_dict({**manifest.to_dict(), "source": origin, **card}), out
    )


def build(arch: str, card: Mapping[str, Any], changes: Mapping[str, Any]) -> nn.Module:
    """Return the untrained network of an architecture for the classes of a card."""
    return create_model(
        arch,
        dataset=known_data_set(card.get("dataset", "")),
        num_classes=len(card["classes"]),
        **changes,
    )


def known_data_set(name: str) -> str:
    """Return the name of a data set that has official variants, empty for another."""
    return name if name in DATASET_CLASSES else ""


def describe(
    arch: str, card: Mapping[str, Any], changes: Mapping[str, Any], size: tuple[int, int]
) -> Manifest:
    """Return the manifest of a network of these classes that takes `size` (height, width)."""
    dataset = str(card.get("dataset", ""))
    usual = catalogue.preparation(arch, dataset)
    return Manifest.from_dict(
        {
            "name": "_".join(filter(None, (arch, dataset))),
            "architecture": arch,
            "network": dict(changes),
            "input": {
                "size": list(size),
                "color": usual.color,
                "mean": list(usual.mean),
                "std": list(usual.std),
            },
            "output": dict(usual.output),
            **card,
        }
    )
