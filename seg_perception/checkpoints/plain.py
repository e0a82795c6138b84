"""What the product is compared with: the network as an ordinary export writes it, and Resize."""

import copy
import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seg_perception.checkpoints.export import OPSET
from seg_perception.files import written_whole
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
            input_names=["picture"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, replace(manifest, sha256="").to_json()
    _save(graph, path)


def write_resize_and_argmax(
    path: Path, *, classes: int, coarse: tuple[int, int], size: tuple[int, int]
) -> None:
    """Write the graph logits (1,K,h,w) -> Resize (bilinear) -> ArgMax -> int64 (1,H,W)."""
    sizes = numpy_helper.from_array(np.array([1, classes, *size], np.int64), "sizes")
    graph = helper.make_graph(
        [
            helper.make_node(
                "Resize", ["logits", "", "", "sizes"], ["full"],
                mode="linear", coordinate_transformation_mode="half_pixel",
            ),
            helper.make_node("ArgMax", ["full"], ["labels"], axis=1, keepdims=0),
        ],
        "resize_and_argmax",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes, *coarse])],
        [helper.make_tensor_value_info("labels", TensorProto.INT64, [1, *size])],
        [sizes],
    )  # fmt: skip
    opset = helper.make_opsetid("", OPSET)
    _save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def write_product(path: Path, *, size: int) -> None:
    """Write the graph of one matrix product, size x size by a constant of the same size."""
    constant = numpy_helper.from_array(np.full((size, size), 0.01, np.float32), "constant")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "constant"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
        [constant],
    )
    opset = helper.make_opsetid("", OPSET)
    _save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def count_flops(network: nn.Module, size: tuple[int, int]) -> int:
    """Return the floating-point operations of convolutions and products for one picture."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size))
    return int(counter.get_total_flops())


def _save(graph: onnx.ModelProto, path: Path) -> None:
    with written_whole(path) as beside:
        onnx.save(graph, str(beside))
