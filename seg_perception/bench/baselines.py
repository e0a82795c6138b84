"""Graphs of one step that the product is compared with; written without torch, for any board."""

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

from seg_perception.checkpoints.graphs import OPSET
from seg_perception.files import atomic_write


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


def _save(graph: ModelProto, path: Path) -> None:
    with atomic_write(path) as temporary:
        save(graph, str(temporary))
