"""Models with a closed-form answer, images with known labels, and tests that run alone."""

import fcntl
import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import seg_perception  # noqa: F401  before any test imports onnxruntime: it switches telemetry off

BLOCK = 4


def is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests marked `alone` last: they wait for all others that run."""
    items.sort(key=is_alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no other worker of pytest-xdist run a test while one marked `alone` runs.

    All share a lock on this file, and `alone` holds it alone. The wait is not part of the timeout.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_alone(item) else fcntl.LOCK_SH)
        return (yield)


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
    channels and back first, which takes time and changes nothing.
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
    output = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, [1, 3, height // BLOCK, width // BLOCK]
    )
    if (manifest or {}).get("output", {}).get("kind") == "labels" and "argmax" in path.name:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0))
        output = helper.make_tensor_value_info(
            "labels", TensorProto.INT64, [1, height // BLOCK, width // BLOCK]
        )
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])],
        [output],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if manifest is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = "seg_perception", json.dumps(manifest)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of brightest-channel models; keyword arguments change the manifest."""

    def make(
        name: str = "model.onnx", *, manifest: bool = True, wide: int = 0, **changes: Any
    ) -> Path:
        content = card(**changes)
        size = tuple(content["input"]["size"])
        return write_model(tmp_path / name, content if manifest else None, size=size, wide=wide)

    return make


@pytest.fixture
def halves() -> np.ndarray:
    """Return an RGB image (32,48,3): its left half red, its right half blue."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24, 0] = 250
    image[:, 24:, 2] = 250
    return image


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[Any]:
    """Return a ROS graph of its own for one test."""
    from support.graph import Graph

    with Graph(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """Return the folder of all reference goldens, named by SEG_PERCEPTION_REFERENCE."""
    folder = os.environ.get("SEG_PERCEPTION_REFERENCE")
    if not folder:
        pytest.skip("SEG_PERCEPTION_REFERENCE does not name the folder with all goldens")
    return Path(folder)
