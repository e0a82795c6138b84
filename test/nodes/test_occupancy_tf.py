"""occupancy_node with tf: poses come from the tree at the image's stamp."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sensor_msgs.msg import PointCloud2
from support import bounds
from support.graph import Graph
from support.paths import TESTS
from support.rig import CAMERA, NODE, Rig, best, grids, places
from support.transforms import PLACE, camera_transform, robot_transform
from support.world import World, mounted

from seg_perception.messages import stamp_ns

SEEN = World().image(CAMERA, mounted(), PLACE)
HAS_TF = importlib.util.find_spec("tf2_ros") is not None
# The node in a process whose tf2_ros is the stand-in, with the camera's and the robot's place.
WITH_STAND_IN = """
import sys
sys.path.insert(0, {folder!r})
from support import tf_stand_in
from support.transforms import camera_transform, robot_transform
moving = [robot_transform(stamp * 10**9) for stamp in (10, 20)]
tf_stand_in.install(camera_transform(), moving)
from seg_perception.nodes import occupancy_node
occupancy_node.main()
"""


def check_map(ros: Graph, answers: dict[str, list[Any]]) -> None:
    """The world lies where the tree says."""
    ros.wait(lambda: all(answers.values()))
    assert answers["cost"][-1].header.frame_id == "odom"
    found, (x, y) = best(answers), places(answers["cost"][-1])
    pure = (found >= 0) & World().is_one_group(x, y, 0.1)  # no border runs through the cell
    assert pure.sum() > 1000
    assert (found[pure] == World().ground(x, y)[pure]).all()


def test_a_look_is_placed_by_tf(ros: Graph, make_model: Callable[..., Path]) -> None:
    answers, rig = grids(ros), Rig(ros)
    obstacles = ros.collect(PointCloud2, f"{NODE}/obstacles")
    code = WITH_STAND_IN.format(folder=str(TESTS))
    options = {"model": make_model(), "label_space": "groups", "max_age": "0.0",
               "max_range": "6.0", "diagnostics_period": "0.2"}  # fmt: skip
    ros.start(
        "-c", code, "--ros-args", *(a for n, v in options.items() for a in ("-p", f"{n}:={v}"))
    )
    rig.until(SEEN, obstacles, stamp=20 * 10**9)
    check_map(ros, answers)
    assert ros.values()["pose_source"] == "tf"
    rig.show(SEEN, 23 * 10**9)
    assert "its newest transform is 3.000 s older" in ros.wait_for_status("in 'odom'").message
    rig.show(SEEN, 19 * 10**9, frame="elsewhere")
    ros.wait_for_status("where 'elsewhere' is in 'base_link'")
    # Looks were shown until one was answered; more than one may have been.
    assert {stamp_ns(cloud.header) for cloud in obstacles} == {20 * 10**9}


@pytest.mark.skipif(not HAS_TF, reason="tf2_ros is not installed")
def test_a_look_is_placed_by_the_real_tf(ros: Graph, make_model: Callable[..., Path]) -> None:
    from tf2_msgs.msg import TFMessage
    from tf2_ros import StaticTransformBroadcaster

    answers, rig = grids(ros), Rig(ros)
    obstacles = ros.collect(PointCloud2, f"{NODE}/obstacles")
    StaticTransformBroadcaster(ros.node).sendTransform(camera_transform())
    moving = ros.camera(TFMessage, "/tf")
    ros.start_node(executable="occupancy_node", model=make_model(), label_space="groups",
                   max_range=6.0)  # fmt: skip

    def answered() -> bool:
        moving.publish(TFMessage(transforms=[robot_transform(rig.now())]))
        rig.show(SEEN)
        moving.publish(TFMessage(transforms=[robot_transform(rig.now())]))
        ros.spin(0.3)
        return bool(obstacles) and answers["cost"][-1].header.frame_id == "odom"

    ros.wait(answered)
    check_map(ros, answers)


def test_the_transform_is_the_mount_of_the_parameters() -> None:
    from seg_perception.occupancy.camera import Pose

    message = camera_transform().transform
    turn = message.rotation
    pose = Pose.from_quaternion((0.0, 0.0, message.translation.z), (turn.x, turn.y, turn.z, turn.w))
    bounds.check(pose.rotation, mounted().rotation, bounds.of_poses(2))
