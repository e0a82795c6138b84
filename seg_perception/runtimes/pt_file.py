"""Model files for torch: a manifest and a state dict, without code, written whole or not at all."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_perception import catalogue
from seg_perception.errors import ManifestError, ModelError, first_line
from seg_perception.files import atomic_write
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.models.loading import misfit, take_weights, without_data
from seg_perception.runtimes.safe_load import check_finite, check_weights, read_weights_only

WEIGHTS_KEY = "state_dict"


def write_model(network: nn.Module, manifest: Manifest, path: Path) -> Manifest:
    """Write `network` with its manifest and the hash of its weights; return that manifest."""
    weights = {key: value.cpu() for key, value in network.state_dict().items()}
    manifest = replace(manifest, sha256=sha256_of(weights))
    with atomic_write(path) as temporary:
        try:
            torch.save({METADATA_KEY: manifest.to_json(), WEIGHTS_KEY: weights}, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise ModelError(f"{path} cannot be written: {first_line(error)}") from error
        read_model(temporary)
    return manifest


def read_model(path: Path) -> tuple[nn.Module, Manifest]:
    """Return the network in eval mode on the CPU, and its manifest.

    Raises CheckpointError for a file that cannot be read or holds no weights, ManifestError for one
    without a manifest, and ModelError for one whose weights are not the manifest's or do not fit
    its architecture.
    """
    manifest, weights = _read(path)
    check_finite(weights, path)
    network = without_data(
        manifest.architecture, manifest.dataset, len(manifest.classes), **manifest.network
    )
    wrong = misfit(weights, network.state_dict())
    if wrong:
        raise ModelError(
            f"the weights of {path} do not fit its architecture {manifest.architecture}: {wrong}; "
            "import its checkpoint again"
        )
    take_weights(network, weights)
    return network.eval(), manifest


def read_manifest(path: Path) -> Manifest:
    """Return what a model file says of itself; its weights are hashed, and no network is built."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Manifest, dict[str, Tensor]]:
    saved = read_weights_only(path)
    text = saved.get(METADATA_KEY) if isinstance(saved, Mapping) else None
    if not isinstance(text, str):
        raise ManifestError(
            f"{path} holds no manifest, so it is no model file; make one of a checkpoint with: "
            f"seg-perception import {path} --arch ARCH --dataset DATASET -o OUT.pt"
        )
    manifest = Manifest.from_metadata({METADATA_KEY: text}, where=str(path))
    _check_trained(manifest, path)
    if WEIGHTS_KEY not in saved:
        raise ModelError(f"{path} holds a manifest and no weights; import its checkpoint again")
    weights = check_weights(saved[WEIGHTS_KEY], path)
    if manifest.sha256 and sha256_of(weights) != manifest.sha256:
        raise ModelError(
            f"the weights of {path} are not those of its manifest (sha256 "
            f"{manifest.sha256[:12]}...): it is damaged or was changed; import it again"
        )
    return manifest, weights


def _check_trained(manifest: Manifest, path: Path) -> None:
    """Raise ManifestError for an input or output that no such network of the model zoo has."""
    prepared = catalogue.preparation(manifest.architecture, manifest.dataset).output
    kinds = ("masks",) if prepared.get("kind") == "masks" else ("logits", "probabilities")
    for what, given, wanted in (
        ("input dtype", manifest.input.dtype, ("float32",)),
        ("input layout", manifest.input.layout, ("NCHW",)),
        ("output layout", manifest.output.layout, ("NCHW",)),
        ("output kind", manifest.output.kind, kinds),
    ):
        if given not in wanted:
            raise ManifestError(
                f"{path} says {what} {given}, and networks of .pt files, here of "
                f"{manifest.architecture}, have {' or '.join(wanted)} alone: import its checkpoint "
                "again"
            )


def sha256_of(weights: Mapping[str, Tensor]) -> str:
    """Return the hash over sorted keys: each key's bytes, then its tensor's, of whatever type."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(weights[key].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
