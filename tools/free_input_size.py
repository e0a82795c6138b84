"""Write a bundled model file that runs at one size again, so that it runs at others, too.

    python tools/free_input_size.py OLD.onnx --size 512x640 -o NEW.onnx

Its checkpoint is not needed: the convolutions hold all weights, and their order is the network's.
The network is built from the architecture that the manifest names, compared with OLD at OLD's size,
and exported as any other.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from seg_perception.checkpoints.export import compare, export_onnx
from seg_perception.cli.arguments import size as size_option
from seg_perception.errors import ModelError
from seg_perception.manifest import InputSpec, Manifest
from seg_perception.models import create_model
from seg_perception.models.folding import fold_norms
from seg_perception.models.layers import simplified
from seg_perception.runtimes.onnx import OnnxRuntime


def main() -> int:
    """Convert one file and print how far it is from the old one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("--size", type=size_option, required=True, help="HEIGHTxWIDTH")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    old = OnnxRuntime(options.old)
    network, trained = rebuild(options.old, old.manifest)
    parity = compare(network, old, trained, images=8)
    if parity.is_broken():
        raise ModelError(f"the network differs from {options.old}: {parity.text()}")
    print(f"the network against {options.old}: {parity.text()}")
    manifest = replace(old.manifest, input=replace(trained, size=options.size))
    exported = export_onnx(network, manifest, options.out)
    print(f"{options.out} against the network: {exported.parity.text()}")
    return 0


def rebuild(path: Path, manifest: Manifest) -> tuple[nn.Module, InputSpec]:
    """Return the network of a bundled file, and how its input was normalised."""
    graph = onnx.load(str(path)).graph
    given = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    given |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t)
        for n in graph.node
        if n.op_type == "Constant"
    }
    mean = next(given[n.input[1]] for n in graph.node if n.op_type == "Sub")
    trained = InputSpec(manifest.input.size, color="BGR", mean=tuple(map(float, mean.ravel())))
    network = create_model(manifest.architecture, dataset=manifest.dataset)
    network = simplified(network)
    fold_norms(network, (1, 3, *trained.size))
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    for conv, node in zip(_in_order(network, trained.size), nodes, strict=True):
        weight, bias = (torch.from_numpy(given[name].copy()) for name in node.input[1:])
        if weight.shape != conv.weight.shape:
            raise ModelError(f"{path} is no {manifest.architecture} of {manifest.dataset}")
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return network, trained


@torch.no_grad()
def _in_order(network: nn.Module, size: tuple[int, int]) -> list[nn.Conv2d]:
    """Return the convolutions in the order in which they run."""
    seen: list[nn.Conv2d] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], __: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen.append(module)

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return seen


if __name__ == "__main__":
    sys.exit(main())
