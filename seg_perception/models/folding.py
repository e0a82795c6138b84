"""Fold batch normalisation into the convolutions before it: for inference alone.

Fewer passes over memory, and no statistics left for half precision to round or overflow.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from seg_perception.errors import ModelError, first_line


@torch.no_grad()
def fold_norms(network: nn.Module, shape: tuple[int, int, int, int]) -> None:
    """Fold every BatchNorm2d that alone reads one convolution into it; `network` is in eval mode.

    Which convolution a norm reads is seen by running a copy without data on inputs of `shape`
    (N,3,H,W): modules do not tell. Equal but for float rounding.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    for conv_name, norm_name in norms_after(network, shape).items():
        conv, norm = modules[conv_name], modules[norm_name]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        for name in [name for name, module in modules.items() if module is norm]:
            network.set_submodule(name, nn.Identity())


def norms_after(network: nn.Module, shape: tuple[int, int, int, int]) -> dict[str, str]:
    """Return the name of the norm for each convolution that feeds it and nothing else."""
    bare, seen = _without_data(network), _Readers()
    made: dict[str, list[int]] = defaultdict(list)  # by convolution: ids of its outputs
    read: dict[int, str] = {}  # by id of an input: the norm
    for name, module in bare.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, y, n=name: made[n].append(seen.keep(y)))
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.register_forward_pre_hook(lambda _, x, n=name: read.update({seen.keep(x[0]): n}))
    with seen:
        result = _run(bare, shape)
    seen.count.update(id(t) for t in _tensors(result))  # whoever gets it reads it, too
    pairs = {}
    uses = Counter(read.values())
    for conv, outputs in made.items():
        norms = {read.get(y) if seen.count[y] == 1 else None for y in outputs}
        norm = norms.pop()
        if norm is not None and not norms and uses[norm] == len(outputs):
            pairs[conv] = norm
    return pairs


@torch.no_grad()
def check_size(network: nn.Module, size: tuple[int, int]) -> None:
    """Raise ModelError for a size (height, width) that `network` cannot take; without computing."""
    _run(_without_data(network), (1, 3, *size))


def _run(bare: nn.Module, shape: tuple[int, int, int, int]) -> Any:
    try:
        return bare(torch.empty(shape, device="meta"))
    except RuntimeError as error:
        raise ModelError(
            f"the network cannot take images of {shape[2]}x{shape[3]}: {first_line(error)}; "
            "choose another size, larger or that of its official tests"
        ) from error


def _without_data(network: nn.Module) -> nn.Module:
    """Return a copy whose tensors have shapes and no data."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(
        network, {id(t): nn.Parameter(t.to("meta"), requires_grad=False) for t in tensors}
    )


class _Readers(TorchFunctionMode):
    """Count how many functions that give tensors read each tensor, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # so that no two tensors have one id

    def keep(self, tensor: Tensor) -> int:
        self._alive.append(tensor)
        return id(tensor)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):  # a shape or a type tells nothing of the values
            self.count.update({self.keep(t) for t in _tensors((args, kwargs))})
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
