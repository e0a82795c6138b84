"""Put weights into networks: which state dicts fit, without memory for what is replaced."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seg_perception.models import create_model

COMPUTED = "relative_position_index"  # buffers that the network fills by itself

Shapes = Mapping[str, tuple[int, ...]]


def without_data(arch: str, dataset: str, classes: int | None = None, **changes: Any) -> nn.Module:
    """Build a network that takes no memory and no time for weights; take_weights gives it some."""
    with torch.device("meta"):
        return create_model(arch, dataset=dataset, num_classes=classes, **changes)


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
    return shape_misfit(shapes_of(weights), shapes_of(wanted))


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight."""
    return {key: tuple(value.shape) for key, value in weights.items()}


def shape_misfit(given: Shapes, wanted: Shapes) -> str:
    """Return what is wrong with weights of such shapes for a network, or nothing."""
    missing = [k for k in wanted if k not in given and not k.endswith(COMPUTED)]
    left = [k for k in given if k not in wanted]
    if missing or left:
        return f"{len(missing)} keys are missing {missing[:3]}, {len(left)} are unknown {left[:3]}"
    for key, shape in wanted.items():
        if key in given and shape != given[key]:
            return f"{key} is {given[key]}, the network has {shape}"
    return ""
