"""Whatever is wrong with its input, occupancy_node lives, says so, and publishes no wrong map."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, PointCloud2
from support.graph import Graph
from support.rig import CAMERA, LATCHED, NODE, PLACED, Rig, cells, grids
from support.world import DRIVABLE, VEGETATION, Pose2D, World, mounted, pinhole

from seg_perception.labels import GROUPS

HERE = Pose2D(0, 0, 0)
ROAD = World().image(CAMERA, mounted(), HERE)
SECOND = 10**9


class Watch:
    """Everything that a node publishes of its looks."""

    def __init__(self, ros: Graph) -> None:
        self.grids = grids(ros)
        self.outputs = [ros.collect(PointCloud2, f"{NODE}/{n}")
                        for n in ("obstacles", "clearing", "costmap/points")]  # fmt: skip
        self.outputs += [ros.collect(Image, f"{NODE}/costmap/{n}")
                         for n in ("label_mask", "confidence")]  # fmt: skip

    def count(self) -> int:
        return sum(map(len, (*self.grids.values(), *self.outputs)))


def expect(ros: Graph, watch: Watch, reason: str, send: Callable[[], Any]) -> None:
    """Send until a warning with `reason` comes; nothing else may come meanwhile."""
    before = ros.settle(watch.count)
    ros.diagnostics.clear()

    def is_told() -> bool:
        send()
        ros.spin(0.3)
        return any(reason in s.message for a in ros.diagnostics for s in a.status)

    ros.wait(is_told, 15.0)
    assert {s.level for a in ros.diagnostics for s in a.status if reason in s.message} == {b"\x01"}
    assert watch.count() == before, f"{reason}: something was published"


def bad_infos(rig: Rig) -> Iterator[tuple[str, Any]]:
    """Return what a diagnostic says of a CameraInfo, and that CameraInfo."""

    def info(**changes: Any) -> Any:
        message = rig.info(rig.now())
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    yield "K is zero", info(k=[0.0] * 9)
    yield "focal lengths", info(k=[1e6, 0.0, 160.0, 0.0, 1e6, 120.0, 0.0, 0.0, 1.0])
    yield "principal point", info(k=[250.0, 0.0, 9e9, 0.0, 250.0, 120.0, 0.0, 0.0, 1.0])
    yield "finite numbers", info(k=[float("nan")] * 9)
    yield "CameraInfo is of an image of 640x480", rig.info(rig.now(), pinhole())
    yield "'fisheye62'", info(distortion_model="fisheye62", d=[0.1] * 8)


def test_bad_camera_infos_are_told_and_a_good_one_is_answered(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    node = ros.start_node(model=make_model(), **PLACED)
    rig.wait()
    expect(ros, watch, "no CameraInfo of frame 'camera_optical' yet",
           lambda: rig.publish("/label_mask", rig.image(ROAD, rig.now())))  # fmt: skip
    other = rig.info(rig.now(), frame="elsewhere")
    expect(ros, watch, "no CameraInfo of frame 'camera_optical' yet",
           lambda: rig.show(ROAD, info=other))  # fmt: skip
    assert ros.values()["camera_info_frames"] == "elsewhere"
    for reason, info in bad_infos(rig):
        expect(ros, watch, reason, lambda info=info: rig.show(ROAD, info=info))
    assert int(ros.values()["unplaced"]) >= 8
    rig.until(ROAD, watch.grids["cost"])
    ros.wait(lambda: rig.show(ROAD) and ros.status() == "mapping")
    assert node.poll() is None
    assert "Traceback" not in ros.logs()


def test_bad_masks_are_told_and_a_good_one_is_answered(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    node = ros.start_node(model=make_model(), **PLACED)
    rig.until(ROAD, watch.grids["cost"])

    def send(**changes: Any) -> None:
        message = rig.image(ROAD, rig.now())
        for name, value in changes.items():
            setattr(message, name, value)
        rig.publish("/label_mask", message)

    expect(ros, watch, "label_mask is 'rgb8'; send mono8", lambda: send(encoding="rgb8"))
    expect(ros, watch, "truncated", lambda: send(data=[1, 2, 3]))
    expect(ros, watch, "0x0: empty", lambda: send(width=0, height=0))
    expect(ros, watch, "CameraInfo is of an image of 320x240",
           lambda: rig.show(np.ones((100, 100), np.uint8)))  # fmt: skip
    small = np.full((120, 160), 200, np.uint8)
    rig.publish("/confidence", rig.image(small, 1))  # from now on masks wait for theirs
    ros.spin(0.6)
    expect(ros, watch, "confidence is 160x120 but label_mask is 320x240",
           lambda: rig.show(ROAD, confidence=small))  # fmt: skip
    metres = np.ones((120, 160), np.float32)
    rig.publish("/depth", rig.image(metres, 1))
    ros.spin(0.6)
    sure = np.full(ROAD.shape, 200, np.uint8)
    expect(ros, watch, "depth is 160x120 but label_mask is 320x240",
           lambda: rig.show(ROAD, confidence=sure, depth=metres))  # fmt: skip
    expect(ros, watch, "depth is 'mono8'; send 32FC1",
           lambda: rig.show(ROAD, confidence=sure, depth=ROAD))  # fmt: skip
    # Ids that are nothing are unknown, not an error.
    rig.until(np.full(ROAD.shape, 99, np.uint8), watch.grids["drivable"])
    rig.until(ROAD, watch.grids["cost"])
    assert node.poll() is None


def test_a_confidence_that_is_never_sent_delays_by_one_mask(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    ros.camera(Image, "/confidence")
    ros.start_node(model=make_model(), **PLACED)
    rig.until(ROAD, watch.grids["cost"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"camera_pitch": -1.2}, "sees no ground, it looks above the horizon"),
        ({"camera_z": 0.0}, "not above the ground"),
        ({"camera_z": -1.0}, "not above the ground"),
    ],
)
def test_a_camera_that_cannot_see_the_ground_is_told(
    ros: Graph, make_model: Callable[..., Path], changes: dict[str, float], reason: str
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    ros.start_node(model=make_model(), **{**PLACED, **changes})
    rig.wait()
    expect(ros, watch, reason, lambda: rig.show(ROAD))
    assert watch.count() == 0


def test_odometry_that_is_missing_old_or_strange_is_told(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    ros.camera(Odometry, "/odom")
    node = ros.start_node(model=make_model(), max_age=0.0, **PLACED)
    rig.wait()
    expect(ros, watch, "no message on /odom yet", lambda: rig.show(ROAD))
    rig.odometry(HERE, 1000 * SECOND)
    expect(ros, watch, "the newest odom is 2.000 s older",
           lambda: rig.show(ROAD, 1002 * SECOND))  # fmt: skip
    expect(ros, watch, "is 4.000 s older than the oldest odom",
           lambda: rig.show(ROAD, 996 * SECOND))  # fmt: skip
    rig.odometry(HERE, 1001 * SECOND, parent="world")
    expect(ros, watch, "of frame 'world' but odom_frame is 'odom'",
           lambda: rig.show(ROAD, 1001 * SECOND))  # fmt: skip
    rig.odometry(HERE, 1001 * SECOND)
    rig.odometry(HERE, 1004 * SECOND)
    expect(ros, watch, "odom has a gap of 3.000 s",
           lambda: rig.show(ROAD, 1002 * SECOND))  # fmt: skip
    rig.until(ROAD, watch.grids["cost"], stamp=1004 * SECOND + SECOND // 10)
    assert watch.grids["cost"][-1].header.frame_id == "odom"
    # The bag loops: odometry and images jump back, and the map starts again.
    rig.odometry(HERE, 100 * SECOND)
    ros.spin(0.2)
    expect(ros, watch, "the newest odom is 904.100 s older",
           lambda: rig.show(ROAD, 1004 * SECOND + SECOND // 10))  # fmt: skip
    rig.until(ROAD, watch.grids["cost"], stamp=100 * SECOND)
    assert ros.values()["restarts"] == "1"
    assert node.poll() is None


def test_time_that_jumps_back_is_told_and_begins_a_new_map(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    ros.start_node(model=make_model(), max_age=0.0, half_life=1e6, **PLACED)
    rig.until(np.full(ROAD.shape, DRIVABLE, np.uint8), watch.grids["vegetation"],
              stamp=500 * SECOND)  # fmt: skip
    ros.wait(lambda: cells(watch.grids["drivable"][-1]).max() == 100)
    rig.until(np.full(ROAD.shape, VEGETATION, np.uint8), watch.grids["vegetation"],
              stamp=20 * SECOND)  # fmt: skip
    assert ros.wait_for_status("time jumped back: the map began again").level == b"\x01"
    ros.wait(lambda: cells(watch.grids["vegetation"][-1]).max() == 100)
    assert cells(watch.grids["drivable"][-1]).max() == 0
    assert ros.values()["restarts"] == "1"


def test_old_masks_are_skipped_and_silence_is_told(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    watch, rig = Watch(ros), Rig(ros)
    ros.start_node(model=make_model(), **PLACED)
    ros.wait_for_status("no mask on /label_mask for 2 s")
    rig.until(ROAD, watch.grids["cost"])
    expect(ros, watch, "s old, max_age is 1 s",
           lambda: rig.show(ROAD, rig.now() - 60 * SECOND))  # fmt: skip
    assert int(ros.values()["too_old"]) >= 1
    before = ros.settle(watch.count)
    ros.wait_for_status("no mask on /label_mask for 2 s")
    ros.spin(1.0)
    assert watch.count() == before, "nothing is repeated"
    rig.until(ROAD, watch.grids["cost"])


def test_without_masks_the_diagnostic_names_the_topic(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node({"label_mask": "/front/labels"}, model=make_model(), **PLACED)
    assert ros.wait_for_status("nobody publishes /front/labels").level == b"\x01"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "too large": ({"width": 1000.0, "height": 1000.0}, "more than 4000000 cells"),
    "columns": ({"column_low": 2.0, "column_high": 1.0}, "make no sense"),
    "cost": ({"costs.person": 101}, "costs.person"),
    "range": ({"half_life": -1.0}, "half_life"),
    "choice": ({"label_space": "colours"}, "label_space is 'colours'; choose one of"),
    "frames": ({"odom_frame": "base_link"}, "name two frames"),
    "model": ({"model": "/nowhere.onnx"}, "no model file at /nowhere.onnx"),
    "cameras": ({"cameras": ["9th"]}, "'9th'; a name has"),
    "mount": ({"cameras": ["front"], "front.camera_x": "far"}, "front.camera_x"),
}


@pytest.mark.parametrize("name", BAD)
def test_parameters_that_make_no_map_are_an_error_and_can_be_mended(
    ros: Graph, make_model: Callable[..., Path], name: str
) -> None:
    changes, reason = BAD[name]
    node = ros.start_node(**{"model": make_model(), **PLACED, **changes})
    assert ros.wait_for_status(reason).level == b"\x02"
    ros.wait(lambda: ros.state() == "unconfigured")
    assert node.poll() is None
    if name == "too large":
        assert ros.set("width", 10.0).successful
        assert ros.set("height", 10.0).successful
        assert ros.change_state(Transition.TRANSITION_CONFIGURE)
        assert ros.state() == "inactive"


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_tf_that_is_not_installed_is_told(ros: Graph, make_model: Callable[..., Path]) -> None:
    ros.start_node(model=make_model(), **{**PLACED, "pose_source": "tf"})
    assert ros.wait_for_status("tf2_ros is not installed: install").level == b"\x02"
    ros.wait(lambda: ros.state() == "unconfigured")  # the error is told before the way back ends
    ros.wait(lambda: ros.set("pose_source", "auto").successful)
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert "the camera's pose comes from camera_x" in ros.logs()


@pytest.mark.skipif(importlib.util.find_spec("vision_msgs") is None, reason="no vision_msgs")
def test_label_info_that_disagrees_is_refused(ros: Graph, make_model: Callable[..., Path]) -> None:
    from vision_msgs.msg import LabelInfo, VisionClass

    watch, rig = Watch(ros), Rig(ros)
    names = ros.node.create_publisher(LabelInfo, "/label_info", LATCHED)
    names.publish(LabelInfo(class_map=[VisionClass(class_id=1, class_name="lava")]))
    ros.start_node(model=make_model(), **PLACED)
    rig.wait()
    assert ros.wait_for_status("label_info calls id").level == b"\x02"
    rig.show(ROAD)
    ros.spin(1.0)
    assert watch.count() == 0
    agreed = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(GROUPS)]
    names.publish(LabelInfo(class_map=agreed))
    rig.until(ROAD, watch.grids["cost"])
