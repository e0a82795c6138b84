"""The doctor finds this package's nodes by what they are, not by their names."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.graph import Graph
from support.paths import SUPPORT, TESTS

from seg_perception.doctor import identity, probe_nodes
from seg_perception.doctor import ros_graph as judge
from seg_perception.doctor.observation import Observation, TransformSeen

CAMERA = str(SUPPORT / "doctor_camera.py")
LIFECYCLE = ("/a/n/get_state", "lifecycle_msgs/srv/GetState")
ENABLE = ("/a/n/enable", "std_srvs/srv/SetBool")
DIAGNOSTICS = ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
MASK = ("/a/n/front/label_mask", "sensor_msgs/msg/Image")
COST = ("/a/n/grid/cost", "nav_msgs/msg/OccupancyGrid")


@pytest.mark.parametrize(
    ("services", "topics", "kind"),
    [
        ({LIFECYCLE, ENABLE}, {DIAGNOSTICS, MASK}, "segmentation_node"),
        ({LIFECYCLE}, {DIAGNOSTICS, COST}, "occupancy_node"),
        ({LIFECYCLE, ENABLE}, {DIAGNOSTICS}, ""),  # any lifecycle node may be enabled
        ({LIFECYCLE}, {DIAGNOSTICS, MASK}, ""),
        ({ENABLE}, {DIAGNOSTICS, MASK}, ""),
        ({LIFECYCLE, ENABLE}, {MASK}, ""),
    ],
)
def test_a_node_is_known_by_what_only_ours_have(
    services: set[tuple[str, str]], topics: set[tuple[str, str]], kind: str
) -> None:
    assert identity.shown_kind("/a/n", services, topics) == kind


def test_a_node_is_of_the_kind_whose_parameters_it_has() -> None:
    assert identity.told_kind({"segmentation_node": {}, "occupancy_node": {"a": 1}}) == (
        "occupancy_node"
    )
    assert identity.told_kind({"segmentation_node": {}, "occupancy_node": {}}) == ""
    assert identity.told_kind({}) == ""


def test_tf_is_asked_for_the_base_frame_of_the_nodes_that_ask_it() -> None:
    auto = {"pose_source": "auto", "base_frame": "chassis"}
    tf = {"pose_source": "tf", "base_frame": "base_footprint"}
    fixed = {"pose_source": "parameters", "base_frame": "base_link"}
    assert identity.base_frames([auto, tf, fixed, None]) == ["base_footprint", "chassis"]
    assert identity.base_frames([fixed]) == []
    assert identity.base_frames([None]) == []
    assert identity.base_frames([]) == ["base_link"]


RENAMED = {"image": "/camera/image", "camera_info": "/camera/camera_info", "__node": "labeller"}
# The observer in a process whose tf2_ros is the stand-in, with the camera's place in one frame.
WITH_STAND_IN = """
import sys
sys.path.insert(0, {folder!r})
from support import tf_stand_in
from geometry_msgs.msg import TransformStamped
place = TransformStamped(child_frame_id="camera_optical")
place.header.frame_id = "chassis"
tf_stand_in.install(place)
from seg_perception.doctor import probe_graph
sys.argv = ["probe_graph", "1.5"]
probe_graph.main()
"""


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Graph, list[Any]]]:
    """Yield a graph with a camera, two nodes of one name and one mapper, and their processes."""
    with Graph(tmp_path_factory.mktemp("renamed")) as ros:
        ros.start(CAMERA, "reliability=reliable")
        nodes = [
            ros.start_node({**RENAMED, "__ns": "/robot"}, model="tiny"),
            ros.start_node({**RENAMED, "__ns": "/other"}, autostart=False),
            ros.start_node(
                {"__node": "mapper"}, "occupancy_node", autostart=False, base_frame="chassis"
            ),
        ]
        for state, name in (("segmenting", "labeller"), ("unconfigured", "mapper")):
            ros.wait_for_status(state, of=name)
        yield ros, nodes


def test_nodes_of_any_name_are_found_and_told_apart(renamed: tuple[Graph, list[Any]]) -> None:
    ros, _ = renamed
    code = WITH_STAND_IN.format(folder=str(TESTS))
    environment = {**os.environ, "ROS_DOMAIN_ID": str(ros.domain)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    seen = Observation.from_dict(json.loads(done.stdout.splitlines()[-1]))
    assert [(n.name, n.use_sim_time, [s.state for s in n.statuses]) for n in seen.nodes] == [
        ("/mapper", False, ["unconfigured"]),
        ("/other/labeller", False, ["unconfigured"]),
        ("/robot/labeller", False, ["active"]),
    ]
    assert [camera.topic for camera in seen.cameras] == ["/camera/image"]  # and no output of ours
    # base_frame is mapper's own.
    assert seen.transforms == [TransformSeen("chassis", "camera_optical", "")]
    (images,) = (link for link in seen.links if link.topic == "/camera/image")
    assert [end.node for end in images.subscribers] == ["robot/labeller"]
    found = {f.found for f in judge.check(seen)}
    assert "robot/labeller: segmentation: active, segmenting" in found
    assert "/robot/labeller goes by the system clock" in found


def test_silent_nodes_are_asked_all_at_once(
    renamed: tuple[Graph, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ros, nodes = renamed
    monkeypatch.setattr(probe_nodes, "ANSWER_TIMEOUT_S", 1.0)
    waits: list[float] = []

    def spin(seconds: float, done: Callable[[], bool]) -> None:
        waits.append(seconds)
        ros.wait(done, seconds, must=False)

    ros.wait(lambda: len(probe_nodes.candidates(ros.node)) == len(nodes))
    for node in nodes[:2]:
        node.send_signal(signal.SIGSTOP)
    try:
        found = {own.name: own for own in probe_nodes.find(ros.node, spin)}
    finally:
        for node in nodes[:2]:
            node.send_signal(signal.SIGCONT)
    assert waits == [1.0]
    assert found["/robot/labeller"] == ("/robot/labeller", "segmentation_node", None)
    mapper = found["/mapper"].parameters
    assert mapper is not None
    assert (mapper["base_frame"], mapper["use_sim_time"]) == ("chassis", False)
