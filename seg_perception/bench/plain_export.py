"""What the product is compared with: the network as an ordinary export writes it."""

import copy
import io
import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seg_perception.checkpoints.graphs import OPSET
from seg_perception.files import atomic_write
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.models.layers import Form, written_as


def export_plain(
    network: nn.Module,
    manifest: Manifest,
    path: Path,
) -> None:
    """Write `network` as torch's exporter does: float32 (1,3,H,W) in, logits out.

    Nothing is rewritten or folded but BatchNorm, which the exporter folds by itself.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), written_as(Form.PLAIN):
        warnings.simplefilter("ignore")  # the tracing exporter says that it is the older one
        torch.onnx.export(
            copy.deepcopy(network).eval(),
            (torch.zeros(manifest.input.shape),),
            buffer,  # type: ignore[arg-type]  # takes a file object, says the documentation
            input_names=["image"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, replace(manifest, sha256="").to_json()
    with atomic_write(path) as temporary:
        onnx.save(graph, str(temporary))


def count_flops(network: nn.Module, size: tuple[int, int]) -> int:
    """Return the floating-point operations of convolutions and products for one image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size))
    return int(counter.get_total_flops())
