"""An exported .onnx file back into the network that it was made of, so that training may go on.

An export folds each BatchNorm into the convolution before it, which its node still names. Any
statistics undo that exactly, if scale and shift are chosen to match; those of real images
make the network in training the one that it is in use.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from seg_perception import catalogue
from seg_perception.checkpoints.graphs import read_graph
from seg_perception.errors import CheckpointError
from seg_perception.manifest import InputSpec, Manifest
from seg_perception.models import DATASET_CLASSES
from seg_perception.models.folding import norms_after
from seg_perception.models.loading import without_data
from seg_perception.runtimes.onnx_file import OnnxFile

ROOT = "network"  # what export.FromBytes calls the network
CONV = "Conv"
PROBE = (1, 3, 64, 64)  # an input on which convolutions and their norms are found
Images = Iterable[NDArray[np.uint8]]


def unfold(path: Path, images: Images) -> tuple[nn.Module, Manifest]:
    """Return the network of an ONNX file that this package exported, in eval mode, and its card.

    `images` (uint8 (H,W,3) RGB, each brought to the file's input size by the caller) set the
    statistics of its norms. CheckpointError for a file of another exporter, or a network whose
    weights an export changes beyond that.
    """
    model = read_graph(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    manifest = Manifest.from_metadata(metadata, where=str(path))
    OnnxFile(path).check_sha256(manifest.sha256)
    usual = catalogue.preparation(manifest.architecture, manifest.dataset)
    trained = InputSpec(manifest.input.size, color=usual.color, mean=usual.mean, std=usual.std)
    dataset = manifest.dataset if manifest.dataset in DATASET_CLASSES else ""
    network = without_data(
        manifest.architecture, dataset, len(manifest.classes), **manifest.network
    ).eval()
    pairs = norms_after(network, PROBE)
    network = network.to_empty(device="cpu")
    _fill(network, model, pairs, trained, path)
    _measure(network, images, trained)
    return network, manifest


def _fill(
    network: nn.Module,
    model: onnx.ModelProto,
    pairs: dict[str, str],
    trained: InputSpec,
    path: Path,
) -> None:
    """Give every parameter its value; CheckpointError names those that are not in the file."""
    values = _values(model)
    convolutions = {
        _module_of(node.name): node for node in model.graph.node if node.op_type == CONV
    }
    state = network.state_dict()
    filled = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and name in convolutions:
            _, weight, *bias = convolutions[name].input
            filled[f"{name}.weight"] = values[weight]
            filled |= _bias(name, module, pairs, values[bias[0]] if bias else None)
        elif isinstance(module, nn.BatchNorm2d) and name in pairs.values():
            filled |= _neutral(name, module)
    for key in state:
        if key not in filled and f"{ROOT}.{key}" in values:
            filled[key] = values[f"{ROOT}.{key}"]
    lacking = [k for k, v in state.items() if k not in filled or filled[k].shape != v.shape]
    if lacking or not convolutions:
        raise CheckpointError(
            f"{path} cannot be trained on: an export keeps {len(lacking)} of its {len(state)} "
            f"weights in another form, such as {(lacking or ['convolutions'])[0]}; start from its "
            ".pt file or its checkpoint"
        )
    first = next(n for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    filled[f"{first}.weight"] = _for_trained(filled[f"{first}.weight"], trained)
    network.load_state_dict(filled, strict=True)


def _bias(
    name: str, module: nn.Conv2d, pairs: dict[str, str], bias: Tensor | None
) -> dict[str, Tensor]:
    """Return the bias of a convolution, or that of the norm after it, which it was folded into."""
    value = torch.zeros(module.out_channels) if bias is None else bias
    if name not in pairs:
        return {} if module.bias is None else {f"{name}.bias": value}
    own = {} if module.bias is None else {f"{name}.bias": torch.zeros_like(value)}
    return {**own, f"{pairs[name]}.bias": value}


def _neutral(name: str, norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    """Return all but the bias of a norm that adds its bias alone."""
    one = torch.ones(norm.num_features)
    return {
        f"{name}.weight": (one + norm.eps).sqrt(),
        f"{name}.running_mean": torch.zeros(norm.num_features),
        f"{name}.running_var": one,
        f"{name}.num_batches_tracked": torch.tensor(0),
    }


def _for_trained(weight: Tensor, trained: InputSpec) -> Tensor:
    """Return the first convolution's weights for a normalised input, of those for bytes in BGR."""
    own = weight.flip(1) if trained.color == "RGB" else weight
    return own * (torch.tensor(trained.std) / trained.scale)[:, None, None]


@torch.no_grad()
def _measure(network: nn.Module, images: Images, trained: InputSpec) -> None:
    """Set the norms' statistics to those of their inputs; the network stays the same."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    sums: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        count = torch.tensor(float(x[:, 0].numel()))
        moments = [x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), count.expand(x.shape[1])]
        sums[norm].append(torch.stack(moments))

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    for image in images:
        network(as_input(image, trained))
    for hook in hooks:
        hook.remove()
    for norm in norms:
        if sums[norm]:
            total, squares, count = torch.stack(sums[norm]).sum(0)
            mean = total / count
            _set_statistics(norm, mean, (squares / count - mean * mean).clamp(min=1e-6))


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Change statistics, scale and shift together, so that what the norm gives stays the same."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - scale * norm.running_mean.double()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(scale * (norm.running_var.double() + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * norm.running_mean.double())


def as_input(image: NDArray[np.uint8], trained: InputSpec) -> Tensor:
    """Return float32 (1,3,H,W) of uint8 (H,W,3) RGB, normalised as the network was trained."""
    ordered = image if trained.color == "RGB" else image[..., ::-1]
    x = torch.from_numpy(ordered.astype(np.float32).transpose(2, 0, 1)[None])
    mean, std = (torch.tensor(v)[:, None, None] for v in (trained.mean, trained.std))
    return (trained.scale * x - mean) / std


def _values(model: onnx.ModelProto) -> dict[str, Tensor]:
    return {
        t.name: torch.from_numpy(np.array(numpy_helper.to_array(t), np.float32))
        for t in model.graph.initializer
    }


def _module_of(node: str) -> str:
    """Return a module's name by that of its node: a list's part repeats the list's name."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[1:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
