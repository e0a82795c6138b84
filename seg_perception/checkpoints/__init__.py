"""Official checkpoints and foreign networks in, verified ONNX files out."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

MODEL_KINDS = (".onnx", ".pt")  # how files of models end


def load_official(path: str | Path, *, arch: str, dataset: str) -> "nn.Module":
    """Return the network of an official checkpoint; see official.load_official."""
    from seg_perception.checkpoints import official  # imports torch, which foreign.py does without

    return official.load_official(path, arch=arch, dataset=dataset)


__all__ = ["MODEL_KINDS", "load_official"]
