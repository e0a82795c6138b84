"""Who may import whom, so that the plan of the house cannot rot."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "seg_perception"
MODULES = sorted(ROOT.rglob("*.py"))
ROS = {
    "rclpy", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav_msgs",
    "rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "tf2_ros",
    "vision_msgs", "cv_bridge", "sensor_msgs_py",
}  # fmt: skip
# A package, and the only places that may import it.
ALLOWED = {
    **dict.fromkeys(ROS, ("nodes/",)),
    "torch": ("models/", "checkpoints/", "training/", "runtimes/torch.py"),
    "onnx": ("checkpoints/",),
    "onnxruntime": ("runtimes/onnx.py", "checkpoints/int8.py"),
    "rosbags": ("evaluation/bags.py",),
    "numba": ("decoding/cells.py",),
    "av": ("evaluation/video.py",),
    "matplotlib": ("evaluation/charts.py",),
    "jinja2": ("evaluation/report.py",),
    "seg_perception.nodes": ("nodes/",),
    "seg_perception.cli": (),
}


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


def test_the_core_needs_neither_ros_nor_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('rclpy', 'torch', 'onnx', 'rosbags'): sys.modules[name] = None\n"
        "import seg_perception.segmenter, seg_perception.messages, seg_perception.drawing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
