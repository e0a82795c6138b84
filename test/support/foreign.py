"""Networks as others export them, without a manifest, with a closed-form answer.

Score c is the mean of the input's channel c over 4x4 blocks, times 10.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

BLOCK, GAIN = 4, 10.0
TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}
TYPES["int64"] = TensorProto.INT64


def write_network(
    path: Path,
    *,
    size: tuple[int, int] = (32, 48),
    dtype: str = "float32",
    layout: str = "NCHW",
    kind: str = "logits",
    out_layout: str = "NCHW",
    dynamic: bool = False,
    label_rank: int = 4,
    label_dtype: str = "int64",
    extra_nodes: tuple[Any, ...] = (),
    extra_outputs: tuple[Any, ...] = (),
    extra_inputs: tuple[Any, ...] = (),
) -> Path:
    """Write the network; `dynamic` leaves batch, height and width free and outputs shapeless."""
    kernel = np.zeros((3, 3, BLOCK, BLOCK), np.float32)
    for c in range(3):
        kernel[c, c] = GAIN / BLOCK**2
    nodes, x = [], "x"
    if dtype == "uint8":
        nodes.append(helper.make_node("Cast", [x], ["float"], to=TensorProto.FLOAT))
        x = "float"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [x], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    nodes.append(helper.make_node("Conv", [x, "kernel"], ["logits"], strides=[BLOCK, BLOCK]))
    y, out_type = "logits", TensorProto.FLOAT
    if kind == "probabilities":
        nodes.append(helper.make_node("Softmax", ["logits"], ["shares"], axis=1))
        y = "shares"
    if kind == "labels":
        nodes.append(helper.make_node("ArgMax", ["logits"], ["ids"], axis=1, keepdims=1))
        nodes.append(helper.make_node("Cast", ["ids"], ["cast"], to=TYPES[label_dtype]))
        y, out_type = "cast", TYPES[label_dtype]
    if out_layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [y], ["last"], perm=[0, 2, 3, 1]))
        y = "last"
    if label_rank < 4:
        nodes.append(helper.make_node("Squeeze", [y, "axes"], ["less"]))
        y = "less"
    axes = {3: [1 if out_layout == "NCHW" else 3], 2: [0, 1 if out_layout == "NCHW" else 3]}
    free: list[Any] = ["batch", 3, "height", "width"] if dynamic else [1, 3, *size]
    shape = free if layout == "NCHW" else [free[i] for i in (0, 2, 3, 1)]
    graph = helper.make_graph(
        [*nodes, *extra_nodes],
        "foreign",
        [helper.make_tensor_value_info("x", TYPES[dtype], shape), *extra_inputs],
        [helper.make_tensor_value_info(y, out_type, None), *extra_outputs],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array(axes.get(label_rank, []), np.int64), "axes"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def query_network(path: Path, *, entries: int = 5, layout: str = "NCHW") -> Path:
    """Write that network with its scores as masks of queries, `logits` or, NHWC, `last`.

    Its second output `queries` (1,3,entries), the class logits, is a table, query by query times
    the mean score: it follows the image.
    """
    tensors = {"table": query_table(entries), "shape": np.array([1, 3, 1], np.int64)}
    nodes = (
        *(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))
            for name, array in tensors.items()
        ),
        helper.make_node("GlobalAveragePool", ["logits"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "table"], ["queries"]),
    )
    names = ("queries", "mean")
    extra = tuple(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    return write_network(path, out_layout=layout, extra_nodes=nodes, extra_outputs=extra)


def query_table(entries: int) -> np.ndarray:
    """Return (1,3,entries): each query mostly of a class of its own."""
    noise = np.random.default_rng(2).normal(0, 0.5, (1, 3, entries))
    return (4 * np.eye(3, entries) + noise).astype(np.float32)


def write_card(path: Path, **changes: Any) -> Path:
    """Write the card of that network, with changes."""
    content = {
        "name": "foreign",
        "classes": ["red", "green", "blue"],
        "groups": {"red": "person", "green": "vegetation"},
        "input": {"size": [32, 48], "scale": 1 / 255},
        "output": {},
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path
