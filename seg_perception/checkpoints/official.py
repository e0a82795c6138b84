"""Read official checkpoints: weights only, unwrapped, every key accounted for, strict."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_perception.errors import CheckpointError
from seg_perception.models import create_model

WRAPPERS = ("state_dict", "model")
PREFIX = "module."


def load_official(path: str | Path, *, arch: str, dataset: str) -> nn.Module:
    """Return the network of an official checkpoint in eval mode, on the CPU.

    `module(x)` gives what comes before upsampling, `module.scores(x)` the official full-size
    class map (N,K,H,W) of a normalised float32 (N,3,H,W). Raises CheckpointError when the file
    cannot be read without running code, or does not fit `arch` key by key.
    """
    weights = _unwrap(_read(Path(path)), path)
    model = create_model(arch, dataset=dataset)
    _check(weights, model.state_dict(), path, f"{arch} on {dataset}")
    bad = [k for k, w in weights.items() if not torch.isfinite(w).all()]
    if bad:
        raise CheckpointError(f"{path} holds NaN or infinite weights in {bad[:3]}: it is damaged")
    model.load_state_dict(weights, strict=True)
    return model.eval()


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; download it first and give its path")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, and loading it could run code: "
            f"{str(error).splitlines()[0]}. Where you trust its origin, save its state dict alone: "
            "torch.save({'state_dict': torch.load(FILE, weights_only=False)['state_dict']}, OUT)"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a readable torch file, or truncated: "
            f"{str(error).splitlines()[0]}"
        ) from error


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


def _check(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str | Path, what: str
) -> None:
    missing = [k for k in wanted if k not in weights]
    left = [k for k in weights if k not in wanted]
    if missing or left:
        raise CheckpointError(
            f"{path} does not fit {what}: {len(missing)} keys are missing {missing[:3]}, "
            f"{len(left)} are unknown {left[:3]}; check --arch and --dataset"
        )
    for key, value in wanted.items():
        if value.shape != weights[key].shape:
            raise CheckpointError(
                f"{path} does not fit {what}: {key} is {tuple(weights[key].shape)}, the network "
                f"has {tuple(value.shape)}; check --arch, --dataset and the class count"
            )
