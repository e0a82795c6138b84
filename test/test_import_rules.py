"""Who may import whom, so that the plan of the house cannot rot."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT, TESTS

ROOT = ROOT / "seg_perception"
MODULES = sorted(ROOT.rglob("*.py"))
ROS = {
    "rclpy", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav_msgs",
    "rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "tf2_ros",
    "vision_msgs", "cv_bridge", "sensor_msgs_py",
}  # fmt: skip
# The processes that are nodes of a ROS graph; nothing else of the package knows ROS.
NODES = (
    "nodes/",
    "live/player_node.py",
    "live/recorder_node.py",
    "doctor/probe",
    "bench/bench_node.py",
)
# A package, and the only places that may import it.
ALLOWED = {
    **dict.fromkeys(ROS, NODES),
    "torch": (
        "models/",
        "checkpoints/",
        "training/",
        "runtimes/torch.py",
        "runtimes/pt_file.py",
        "runtimes/safe_load.py",
        "runtimes/stand_ins.py",
        "bench/plain_export.py",
    ),
    "huggingface_hub": ("checkpoints/hub.py",),
    "safetensors": ("checkpoints/safetensors_file.py",),
    "onnx": ("checkpoints/", "bench/", "quantization/int8.py"),
    "onnxruntime": ("runtimes/onnx.py", "quantization/int8.py"),
    "rosbags": ("bags/bag.py", "bags/bag_types.py"),
    "numba": ("decoding/cells.py",),
    "av": ("bags/video.py", "bags/video_stream.py"),
    "matplotlib": ("reporting/charts.py",),
    "PIL": ("predict.py",),
    "jinja2": ("reporting/pages.py",),
    "seg_perception.nodes": NODES,
    "seg_perception.cli": ("cli/",),
}
# From the ground floor upwards: a room imports what comes before it, and never what comes later.
FLOORS = (
    "errors", "key_values", "files", "interrupts", "labels", "manifest", "images", "compressed",
    "messages", "drawing", "clocks", "monitor", "group_words", "qos", "hold", "cards", "weights",
    "catalogue", "decoding", "models", "runtimes", "input_sizes", "segmenter", "camera_faults",
    "parameters", "occupancy", "launch_arguments", "fastdds", "nodes",
    "bags", "nav2", "offline", "metrics", "reporting", "live", "evaluation",
    "checkpoints", "quantization", "training", "bench", "doctor", "demo", "predict", "cli",
)  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import absolutely"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_import_only_what_they_may(path: Path) -> None:
    here = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        for banned, places in ALLOWED.items():
            if name == banned or name.startswith(banned + "."):
                assert here.startswith(places), f"{here} must not import {name}"


def test_no_import_runs_upwards() -> None:
    upwards = []
    for path in MODULES:
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imports(path):
            there = name.split(".")[1] if name.startswith("seg_perception.") else ""
            if there in FLOORS and here in FLOORS and FLOORS.index(there) > FLOORS.index(here):
                upwards.append(f"{path.relative_to(ROOT)} imports {name}")
    assert upwards == []


def test_every_room_has_its_floor() -> None:
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms - {"__init__"} == set(FLOORS)


def test_tests_share_what_is_in_support() -> None:
    shared = [
        f"{path.relative_to(TESTS)} imports {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in imports(path)
        if name == "conftest" or name.startswith("test_")
    ]
    assert shared == []


def test_the_core_needs_neither_ros_nor_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('rclpy', 'torch', 'onnx', 'rosbags'): sys.modules[name] = None\n"
        "import seg_perception.segmenter, seg_perception.messages, seg_perception.drawing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_segmentation_loads_nothing_of_occupancy() -> None:
    code = (
        "import sys, seg_perception.nodes.segmentation_node\n"
        "print(*sorted(n for n in sys.modules if n.startswith('seg_perception.occupancy')))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
