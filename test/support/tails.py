"""Small networks as exporters write them: class scores of a quarter of the size, and a tail."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

SIZE, STRIDE, CLASSES = (32, 48), 4, 5
LABELS = {"classes": [f"c{i}" for i in range(CLASSES)], "groups": {}, "output": {"kind": "labels"}}


def node(kind: str, *inputs: str, out: str, **attributes: Any) -> NodeProto:
    """Return one operator with one output."""
    return helper.make_node(kind, list(inputs), [out], **attributes)


def resize(source: str, out: str, **attributes: Any) -> NodeProto:
    """Return a linear Resize by the initializer `scales`."""
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", **attributes}
    return node("Resize", source, "roi", "scales", out=out, **attributes)


def write(
    path: Path,
    nodes: list[NodeProto],
    *,
    opset: int = 17,
    classes: int = CLASSES,
    outputs: tuple[str, ...] = (),
    half: bool = False,
    stride: int = STRIDE,
    **tensors: Any,
) -> Path:
    """Write scores `s` (1,K,8,12), seeded, followed by `nodes`; the last one's output is given.

    `tensors` become initializers, beside `roi`, `scales`, `sizes` of the input and `one` [1]. With
    `half` the weights and `s` are float16.
    """
    kernel = np.random.default_rng(3).normal(0, 0.1, (classes, 3, stride, stride))
    kernel -= 0.9 * kernel.mean((1, 2, 3), keepdims=True)  # so that every class wins somewhere
    tensors = {
        "kernel": kernel.astype(np.float16 if half else np.float32),
        "roi": np.empty(0, np.float32),  # an input that opsets 11 and 12 want
        "scales": np.float32([1, 1, stride, stride]),
        "sizes": np.int64([1, classes, *SIZE]),
        "one": np.int64([1]),
        **tensors,
    }
    x = "half" if half else "x"
    cast = [node("Cast", "x", out="half", to=TensorProto.FLOAT16)] if half else []
    conv = node("Conv", x, "kernel", out="s", strides=[stride, stride])
    nodes = [*cast, conv, *nodes]
    read = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *SIZE])],
        [onnx.ValueInfoProto(name=n) for n in (*outputs, nodes[-1].output[0])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items() if k in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    onnx.save(inferred, str(path))
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime by itself makes of an input, the last output."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": x})[-1]
    return result
