"""The launch files, really launched: nodes and player as processes, heard over DDS.

launch and launch_ros come with ROS and are not on PyPI; their sources on PYTHONPATH do as well.
"""

import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image
from support.graph import Graph, stop
from support.paths import ROOT
from support.png_bag import COUNT, PERIOD, START

from seg_perception.messages import stamp_ns

NODES = ("segmentation_node", "occupancy_node", "perception_node")
NEEDED = ("launch_ros", "osrf_pycommon", "composition_interfaces")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)}: not installed (they come with ROS, not from PyPI)"
)
SCRIPT = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [given.split(":=", 1) for given in sys.argv[2:]]
service = LaunchService(noninteractive=True)
included = IncludeLaunchDescription(source, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""
Launch = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def launch(ros: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launch]:
    """Give a starter of launch files, from a package as colcon installs it."""
    prefix = tmp_path / "prefix"
    share, binaries = prefix / "share" / "seg_perception", prefix / "lib" / "seg_perception"
    marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / "seg_perception"
    for folder in (share, binaries, marker.parent):
        folder.mkdir(parents=True)
    marker.touch()
    for name in ("launch", "config"):
        (share / name).symlink_to(ROOT / name)
    for name in NODES:
        module = f"from seg_perception.nodes.{name} import main"
        (binaries / name).write_text(f"#!{sys.executable}\n{module}\nmain()\n")
        (binaries / name).chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "ros_log"))

    started: list[subprocess.Popen[bytes]] = []

    def start(file: str, **arguments: object) -> "subprocess.Popen[bytes]":
        given = [f"{name}:={value}" for name, value in arguments.items()]
        started.append(ros.start("-c", SCRIPT, str(ROOT / "launch" / file), *given))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:  # a launch that is killed leaves its nodes behind
            stop(process, signal.SIGINT)


def log(folder: Path) -> str:
    """Return all that the launch and its processes said."""
    return (folder / "process0.log").read_text()


def pids(folder: Path) -> list[int]:
    """Return the process ids that launch told of, the newest last."""
    return [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", log(folder))]


def parameter(ros: Graph, node: str, name: str) -> object:
    request = GetParameters.Request(names=[name])
    value = ros.call(GetParameters, f"{node}/get_parameters", request).values[0]
    return value.string_value or value.integer_value


def test_several_cameras_a_namespace_and_one_process_work_and_come_back(
    clean_memory: None,
    ros: Graph,
    launch: Launch,
    make_model: Callable[..., Path],
    halves: np.ndarray,
    tmp_path: Path,
) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(
        "/**:\n  ros__parameters: {threads: 3, diagnostics_period: 0.2, front.camera_z: 1.2}\n"
        "/robot/segmentation_node:\n  ros__parameters: {label_space: model, grid_rows: 7}\n"
    )
    model = make_model()
    process = launch(
        "robot.launch.py", cameras="front,left", namespace="/robot", occupancy="true",
        composed="true", model=model, label_space="groups", params_file=file,
    )  # fmt: skip
    masks = ros.collect(Image, "/robot/segmentation_node/left/label_mask")
    camera = ros.camera(topic="/robot/left/image_raw", reliable=False)
    ros.name = "/robot/segmentation_node"
    mask = ros.ask(camera, ros.image_message(halves), masks)
    # What is given wins over params_file, which wins over the profile.
    assert set(np.unique(np.frombuffer(mask.data, np.uint8))) == {4, 0}
    assert parameter(ros, ros.name, "threads") == 3
    assert parameter(ros, ros.name, "grid_rows") == 7
    assert parameter(ros, "/robot/occupancy_node", "label_space") == "groups"

    first = pids(tmp_path)
    subprocess.run(["kill", "-KILL", str(first[-1])], check=True)
    ros.wait(lambda: len(pids(tmp_path)) == len(first) + 1)
    masks.clear()
    ros.ask(camera, ros.image_message(halves), masks)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "Traceback" not in log(tmp_path)


def test_who_names_no_model_file_is_told_and_the_nodes_stay(
    ros: Graph, launch: Launch, tmp_path: Path
) -> None:
    launch("robot.launch.py", model="nowhere.onnx", occupancy="true")
    for node in NODES[:2]:
        said = f"[{node}]: cannot configure: no model file at nowhere.onnx; give a path"
        ros.wait(lambda said=said: said in log(tmp_path))
    ros.wait(lambda: ros.state() == "unconfigured")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rviz": "true"}, "rviz2 is not installed: sudo apt install"),
        ({"params_file": "/nowhere.yaml"}, "'/nowhere.yaml', which is no file"),
        ({"profile": "tpu"}, '"tpu" is not valid. Valid options are'),
    ],
)
def test_what_cannot_be_started_is_told_before_a_node_runs(
    launch: Launch, tmp_path: Path, arguments: dict[str, str], said: str
) -> None:
    assert launch("robot.launch.py", **arguments).wait(20) == 1
    assert said in log(tmp_path)
    assert pids(tmp_path) == []


def test_a_bag_is_played_through_the_nodes_on_its_own_clock(
    ros: Graph, launch: Launch, make_model: Callable[..., Path], bag: Path, tmp_path: Path
) -> None:
    masks = ros.collect(Image, "/segmentation_node/label_mask", depth=50)
    process = launch("replay.launch.py", bag=bag, model=make_model(), rate=0.25)
    ros.wait(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert "Traceback" not in log(tmp_path)
    stamps = [stamp_ns(mask.header) for mask in masks]
    # Newest wins, and the first may come before this side is known: a busy machine loses some.
    assert len(stamps) >= 2
    assert stamps == sorted(set(stamps) & {START + i * PERIOD for i in range(COUNT)})
