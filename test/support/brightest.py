"""A network with a closed-form answer: the brightest channel wins."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCK = 4


def card(**changes: Any) -> dict[str, Any]:
    """Return the manifest of the brightest-channel network, with changes."""
    base = {
        "name": "brightest_channel",
        "classes": ["red", "green", "blue"],
        "palette": [[255, 0, 0], [0, 255, 0], [0, 0, 255]],
        "groups": {"red": "person", "green": "vegetation"},
        "input": {"size": [32, 48], "layout": "NHWC", "color": "RGB", "dtype": "uint8"},
        "output": {"kind": "logits"},
    }
    return {**base, **changes}


def write_model(
    path: Path, manifest: dict[str, Any] | None, *, size: tuple[int, int], wide: int = 0
) -> Path:
    """Write a network whose logit c is the mean of channel c over 4x4 blocks, times 0.1.

    Where the manifest says `labels` it ends in an argmax. With `wide` it convolves to so many
    channels and back first, which takes time and changes nothing. Where the manifest says
    `multiple` height and width are free.
    """
    kernel = np.zeros((3, 3, BLOCK, BLOCK), np.float32)
    for c in range(3):
        kernel[c, c] = 0.1 / BLOCK**2
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["logits"], strides=[BLOCK, BLOCK]),
    ]
    weights = [numpy_helper.from_array(kernel, "kernel")]
    if wide:
        there, back = np.zeros((wide, 3, 3, 3), np.float32), np.zeros((3, wide, 3, 3), np.float32)
        for c in range(3):
            there[c, c, 1, 1] = back[c, c, 1, 1] = 1
        weights += [numpy_helper.from_array(there, "there"), numpy_helper.from_array(back, "back")]
        nodes[2:2] = [
            helper.make_node("Conv", ["planes", "there"], ["many"], pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["many", "back"], ["three"], pads=[1, 1, 1, 1]),
        ]
        nodes[4].input[0] = "three"
    height, width = size
    is_free = "multiple" in (manifest or {}).get("input", {})
    sides = ("height", "width") if is_free else size
    output = helper.make_tensor_value_info(
        "logits",
        TensorProto.FLOAT,
        [1, 3, "rows", "columns"] if is_free else [1, 3, height // BLOCK, width // BLOCK],
    )
    if (manifest or {}).get("output", {}).get("kind") == "labels" and "argmax" in path.name:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0))
        output = helper.make_tensor_value_info(
            "labels", TensorProto.INT64, [1, height // BLOCK, width // BLOCK]
        )
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *sides, 3])],
        [output],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if manifest is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = "seg_perception", json.dumps(manifest)
    onnx.save(model, str(path))
    return path
