"""A message reaches its work in a few functions, and these read from top to bottom."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import Image
from support.graph import NO_LIMITS, NODE, Graph
from support.rig import CAMERA, PLACED, Rig, grids
from support.world import Pose2D, World, mounted

from seg_perception.nodes.lifecycle_node import PerceptionLifecycleNode
from seg_perception.nodes.occupancy_node import OccupancyNode
from seg_perception.nodes.segmentation_node import SegmentationNode

TO_THE_WORK = 4  # functions from the middleware's callback to the one that does the work
TO_THE_KERNEL = 8  # functions of the worker's thread, the kernel included
MESSAGES = 8
HERE = Pose2D(0, 0, 0)


def traced(
    ros: Graph, tmp_path: Path, kind: str, parameters: dict[str, Any], drive: Callable[[], None]
) -> tuple[list[list[str]], list[list[str]]]:
    """Run a node; return its stacks where a message goes to the worker, and in the worker."""
    out = tmp_path / "trace.json"
    settings = [f"{n}:={str(v).lower() if isinstance(v, bool) else v}" for n, v in
                {"diagnostics_period": 0.2, **parameters}.items()]  # fmt: skip
    arguments = [word for setting in settings for word in ("-p", setting)]
    ros.name = f"/{kind}"
    node = ros.start("-m", "support.traced_node", kind, str(out), "--ros-args", *arguments)
    drive()
    node.terminate()
    assert node.wait(30) == 0
    found = json.loads(out.read_text("utf-8"))
    return found["handed_over"], found["work"]


def check(handed_over: list[list[str]], work: list[list[str]]) -> None:
    callbacks = [s for s in handed_over if s[-1] in ("worker.serve", "worker.notify")]
    processing = [s for s in work if s[-1].endswith("_node._process")]
    assert callbacks, handed_over
    assert processing, work
    way = max(callbacks, key=len) + max(processing, key=len)
    assert len(way) <= TO_THE_WORK, way
    deepest = max(work, key=len)
    assert len(deepest) <= TO_THE_KERNEL, deepest


def kernels(work: list[list[str]]) -> set[str]:
    """Return the names of the kernels that were called."""
    return {s[-1].removeprefix("kernel ") for s in work if s[-1].startswith("kernel ")}


def test_an_image_takes_a_short_way_to_its_kernels(ros: Graph, tmp_path: Path) -> None:
    outputs = ("confidence", "overlay", "class_grid")
    others = [ros.collect(Image, f"{NODE}/{name}") for name in outputs]
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)

    def drive() -> None:
        ros.ask(camera, ros.image_message(image), masks)
        ros.wait(lambda: all(others) or ros.ask(camera, ros.image_message(image), masks))
        for _ in range(MESSAGES):
            ros.ask(camera, ros.image_message(image), masks)

    handed_over, work = traced(ros, tmp_path, "segmentation_node", NO_LIMITS, drive)
    check(handed_over, work)
    assert {"write_labels", "write_confidence", "_reduce"} <= kernels(work)


def test_a_label_image_takes_a_short_way_to_its_kernels(ros: Graph, tmp_path: Path) -> None:
    maps = grids(ros)["cost"]
    rig = Rig(ros)
    labels = World().image(CAMERA, mounted(), HERE)

    def drive() -> None:
        for number in range(MESSAGES):
            depth = np.full(labels.shape, 4, np.float32) if number % 2 else None
            rig.until(labels, maps, confidence=labels, depth=depth)

    parameters = {name: value for name, value in PLACED.items() if name != "executable"}
    handed_over, work = traced(ros, tmp_path, "occupancy_node", parameters, drive)
    check(handed_over, work)
    assert {"_follow", "merge", "share", "choose"} <= kernels(work)
    assert any(s[-1] == "validity.measured" for s in work)  # depth was seen, too


@pytest.mark.parametrize("node", [SegmentationNode, OccupancyNode])
def test_a_node_overrides_only_what_its_base_leaves_open(node: type) -> None:
    base = vars(PerceptionLifecycleNode)
    abstract = {n for n, m in base.items() if getattr(m, "__isabstractmethod__", False)}
    overridden = {n for n, m in vars(node).items() if inspect.isfunction(m) and n in base}
    assert abstract | {"__init__"} == overridden


def test_occupancy_reads_a_manifest_without_a_runtime() -> None:
    code = (
        "import sys\n"
        "sys.modules['onnxruntime'] = sys.modules['torch'] = None\n"
        "import rclpy\n"
        "from seg_perception.nodes.occupancy_node import OccupancyNode\n"
        "rclpy.init(args=['--ros-args', '-p', 'autostart:=false', '-p', 'camera_z:=1.0'])\n"
        "node = OccupancyNode()\n"
        "print(node.trigger_configure().name)\n"
        "node.end()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["SUCCESS"], done.stderr
