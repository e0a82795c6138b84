"""Model files for torch: a manifest and a state dict, without code, written whole or not at all."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seg_perception.checkpoints.official import read_weights_only
from seg_perception.errors import ModelError
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.models import create_model

WEIGHTS_KEY = "state_dict"


def write_model(network: nn.Module, manifest: Manifest, path: Path) -> Manifest:
    """Write `network` with its manifest and the hash of its weights; return that manifest."""
    weights = {key: value.cpu() for key, value in network.state_dict().items()}
    manifest = replace(manifest, sha256=sha256_of(weights))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        torch.save({METADATA_KEY: manifest.to_json(), WEIGHTS_KEY: weights}, beside)
        read_model(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return manifest


def read_model(path: Path) -> tuple[nn.Module, Manifest]:
    """Return the network in eval mode on the CPU, and its manifest.

    Raises CheckpointError for a file that cannot be read, ManifestError for one without a manifest,
    and ModelError for one whose weights are not the manifest's or do not fit its architecture.
    """
    saved = read_weights_only(path)
    metadata = saved if isinstance(saved, Mapping) else {}
    manifest = Manifest.from_metadata(
        {k: v for k, v in metadata.items() if isinstance(v, str)}, where=str(path)
    )
    weights = metadata.get(WEIGHTS_KEY)
    if not isinstance(weights, Mapping):
        raise ModelError(f"{path} holds a manifest and no weights; import its checkpoint again")
    if manifest.sha256 and sha256_of(weights) != manifest.sha256:
        raise ModelError(
            f"the weights of {path} are not those of its manifest (sha256 "
            f"{manifest.sha256[:12]}...): it is damaged or was changed; import it again"
        )
    network = create_model(
        manifest.architecture, dataset=manifest.dataset, num_classes=len(manifest.classes)
    )
    try:
        network.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {path} do not fit its architecture {manifest.architecture}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return network.eval(), manifest


def sha256_of(weights: Mapping[str, Tensor]) -> str:
    """Return the hash over sorted keys: each key's bytes, then its array's."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(weights[key].numpy()).data)
    return digest.hexdigest()
