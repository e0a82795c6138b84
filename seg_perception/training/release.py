"""Turn a training checkpoint into the ONNX file that a robot runs."""

from pathlib import Path
from typing import Any

import torch

from seg_perception.cards import load_card
from seg_perception.catalogue import MEAN, STD
from seg_perception.checkpoints.export import Exported, export_onnx
from seg_perception.errors import CheckpointError
from seg_perception.manifest import Manifest
from seg_perception.models import create_model


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
    prefix = "network."
    network = create_model(config["arch"], dataset=config["dataset"])
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )
    manifest = Manifest.from_dict(
        {
            "name": f"{config['arch']}_{config['dataset']}",
            "architecture": config["arch"],
            "input": {"size": list(size), "mean": list(MEAN), "std": list(STD)},
            "output": {"kind": "logits"},
            "source": f"trained from scratch for {saved['epoch']} epochs by seg-perception train",
            **load_card(config["dataset"]),
            **card,
        }
    )
    return export_onnx(network, manifest, out)
