"""Poses come from tf, or from parameters and odometry; what is not known is told with numbers."""

import gc
import importlib.util
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.parameter import Parameter
from rclpy.time import Time
from support import bounds, tf_stand_in

from seg_perception.errors import GeometryError
from seg_perception.nodes import poses
from seg_perception.nodes.poses import ParameterPoses, TfPoses, mount, open_poses
from seg_perception.occupancy.camera import OPTICAL, Pose
from seg_perception.occupancy.parameters import ExtrinsicsParameters, OccupancyParameters

SECOND = 10**9


@pytest.fixture
def node() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=99)
    made = rclpy.create_node("poses", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture(params=["stand-in", "real"])
def tf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, node: Any) -> TfPoses:
    """Return poses from tf2_ros itself where it is installed, and from its stand-in."""
    if request.param == "stand-in":
        monkeypatch.setattr(poses, "tf2_ros", tf_stand_in)
    elif importlib.util.find_spec("tf2_ros") is None:
        pytest.skip("tf2_ros is not installed")
    return TfPoses(node, "base_link", "odom")


def transform(parent: str, child: str, seconds: float, x: float, yaw: float) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = Time(nanoseconds=int(seconds * SECOND)).to_msg()
    message.transform.translation.x = x
    message.transform.translation.z = 1.5
    message.transform.rotation.z = math.sin(yaw / 2)
    message.transform.rotation.w = math.cos(yaw / 2)
    return message


def test_tf_gives_camera_and_robot_at_the_stamp(tf: TfPoses) -> None:
    tf.buffer.set_transform_static(transform("base_link", "camera", 0, 0.3, 0.0), "test")
    for seconds in (10.0, 11.0):
        tf.buffer.set_transform(transform("odom", "base_link", seconds, seconds, 0.2), "test")
    pose = tf.camera("", "camera", 11 * SECOND)
    np.testing.assert_allclose(pose.apply([0, 0, 1]), [0.3, 0, 2.5])
    assert tf.robot(11 * SECOND) == pytest.approx((11.0, 0.0, 0.2))
    assert tf.robot(10 * SECOND) == pytest.approx((10.0, 0.0, 0.2))


@pytest.mark.alone
def test_without_an_odom_frame_in_tf_there_is_no_odometry(tf: TfPoses) -> None:
    tf.buffer.set_transform_static(transform("base_link", "camera", 0, 0.3, 0.0), "test")
    started = time.monotonic()
    assert tf.robot(11 * SECOND) is None
    assert time.monotonic() - started < 0.05, "nothing to wait for"


def test_a_transform_on_its_way_is_awaited(tf: TfPoses) -> None:
    tf.buffer.set_transform(transform("odom", "base_link", 10.0, 1.0, 0.0), "test")
    late = transform("odom", "base_link", 10.1, 2.0, 0.0)
    timer = threading.Timer(0.04, tf.buffer.set_transform, (late, "test"))
    timer.start()
    assert tf.robot(int(10.1 * SECOND)) == pytest.approx((2.0, 0.0, 0.0))
    timer.join()


@pytest.mark.alone  # it tells a wait from none by the time
@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        (12.5, r"newest transform is 2\.500 s older"),
        (7.0, r"3\.000 s before its newest transform"),
    ],
)
def test_the_gap_to_what_tf_knows_is_told(tf: TfPoses, stamp: float, reason: str) -> None:
    tf.buffer.set_transform(transform("odom", "base_link", 9.0, 1.0, 0.0), "test")
    tf.buffer.set_transform(transform("odom", "base_link", 10.0, 1.0, 0.0), "test")
    started = time.monotonic()
    with pytest.raises(GeometryError, match=reason):
        tf.robot(int(stamp * SECOND))
    assert time.monotonic() - started < 1.0


def test_frames_that_are_missing_or_apart_are_named(tf: TfPoses) -> None:
    with pytest.raises(GeometryError, match="where 'camera' is in 'base_link' .* does not exist"):
        tf.camera("", "camera", SECOND)
    tf.buffer.set_transform(transform("map", "camera", 1.0, 0.0, 0.0), "test")
    tf.buffer.set_transform(transform("odom", "base_link", 1.0, 0.0, 0.0), "test")
    with pytest.raises(GeometryError, match="'camera' is in 'base_link' .*not part of the same"):
        tf.camera("", "camera", SECOND)
    with pytest.raises(GeometryError, match="name no frame"):
        tf.camera("", "", SECOND)
    with pytest.raises(GeometryError, match="stamp is 0"):
        tf.camera("", "camera", 0)


def test_tf_is_left_as_it_was_found(tf: TfPoses, node: Any) -> None:
    if not [s for s in node.subscriptions if s.topic_name.startswith("/tf")]:
        pytest.skip("the stand-in of tf2_ros subscribes to nothing")
    tf.close()
    assert not [s for s in node.subscriptions if s.topic_name.startswith("/tf")]
    assert not [s for s in node.services if "tf2_frames" in s.srv_name]


def test_a_buffer_that_is_closed_is_not_called_when_time_jumps(tf: TfPoses, node: Any) -> None:
    tf.buffer.set_transform_static(transform("base_link", "camera", 0.0, 1.0, 0.0), "test")
    tf.buffer.set_transform(transform("odom", "base_link", 1.0, 2.0, 0.0), "test")
    assert tf.robot(SECOND) is not None
    node.set_parameters([Parameter("use_sim_time", value=True)])
    # A change of clocks clears what moves; what is static stays, as in tf2.
    with pytest.raises(GeometryError, match="does not say where 'base_link' was in 'odom'"):
        tf.robot(SECOND)
    assert tf.camera("", "camera", SECOND).translation[0] == 1.0
    tf.close()
    for _ in range(20):  # rclpy refuses a handle that takes the place of one it still holds
        again = TfPoses(node, "base_link", "odom")
        again.close()
        del again
        gc.collect()
    again = TfPoses(node, "base_link", "odom")
    again.close()
    again.buffer.set_transform_static(transform("base_link", "camera", 0.0, 1.0, 0.0), "test")
    node.set_parameters([Parameter("use_sim_time", value=False)])
    assert again.camera("", "camera", SECOND).translation[0] == 1.0


def test_the_source_is_chosen_by_what_is_installed(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(source: str) -> str:
        return open_poses(node, OccupancyParameters(pose_source=source), {}).name

    monkeypatch.setattr(poses, "tf2_ros", tf_stand_in)
    assert [opened(s) for s in ("auto", "tf", "parameters")] == ["tf", "tf", "parameters"]
    monkeypatch.setattr(poses, "tf2_ros", None)
    assert [opened(s) for s in ("auto", "parameters")] == ["parameters", "parameters"]
    with pytest.raises(GeometryError, match="tf2_ros is not installed: install"):
        opened("tf")


def test_positive_pitch_looks_down_and_yaw_to_the_left() -> None:
    front = mount(ExtrinsicsParameters(camera_x=0.2, camera_z=1.5, camera_pitch=math.pi / 4))
    rounding = bounds.of_poses(2, reach=2.0)
    bounds.check(front.apply([0, 0, math.sqrt(2)]), [1.2, 0, 0.5], rounding)
    left = mount(ExtrinsicsParameters(camera_y=0.3, camera_z=1.0, camera_yaw=math.pi / 2))
    bounds.check(left.apply([0, 0, 1]), [0, 1.3, 1], rounding)
    bounds.check(left.apply([1, 0, 0]), [1, 0.3, 1], rounding)


def odometry(seconds: float, x: float, yaw: float, **frames: str) -> Odometry:
    message = Odometry(child_frame_id=frames.get("child", "base_link"))
    message.header.frame_id = frames.get("parent", "odom")
    message.header.stamp = Time(nanoseconds=int(seconds * SECOND)).to_msg()
    message.pose.pose.position.x = x
    message.pose.pose.orientation.z = math.sin(yaw / 2)
    message.pose.pose.orientation.w = math.cos(yaw / 2)
    return message


def test_odometry_is_used_where_it_is_published(node: Any) -> None:
    source = ParameterPoses(node, {"": OPTICAL}, "base_link", "odom")
    assert source.camera("", "any", SECOND) == OPTICAL
    assert source.robot(SECOND) is None
    publisher = node.create_publisher(Odometry, "odom", 1)
    deadline = time.monotonic() + 10
    while not node.count_publishers("/odom") and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(GeometryError, match="no message on /odom yet"):
        source.robot(SECOND)
    source.on_odometry(odometry(1.0, 4.0, 0.0))
    source.on_odometry(odometry(1.5, 5.0, 0.5))
    assert source.robot(int(1.25 * SECOND)) == pytest.approx((4.5, 0.0, 0.25))
    node.destroy_publisher(publisher)
    with pytest.raises(GeometryError, match=r"newest odom is 1\.500 s older"):
        source.robot(3 * SECOND)
    source.close()
    assert not [s for s in node.subscriptions if s.topic_name == "/odom"]


def test_odometry_of_other_frames_or_without_a_turn_is_refused(node: Any) -> None:
    source = ParameterPoses(node, {}, "base_link", "odom")
    source.on_odometry(odometry(1.0, 0.0, 0.0, parent="world"))
    with pytest.raises(GeometryError, match="/odom: it is of frame 'world' but odom_frame is"):
        source.robot(SECOND)
    source.on_odometry(odometry(1.0, 0.0, 0.0, child="trailer"))
    with pytest.raises(GeometryError, match="'trailer' but base_frame is 'base_link'"):
        source.robot(SECOND)
    broken = odometry(1.0, 0.0, 0.0)
    broken.pose.pose.orientation.w = 0.0
    source.on_odometry(broken)
    with pytest.raises(GeometryError, match="quaternion"):
        source.robot(SECOND)
    source.on_odometry(odometry(1.0, 2.0, 0.0, child=""))
    assert source.robot(SECOND) == pytest.approx((2.0, 0.0, 0.0))


def test_a_pose_that_is_no_number_is_refused() -> None:
    with pytest.raises(GeometryError, match="finite"):
        mount(ExtrinsicsParameters(camera_x=math.nan))
    assert isinstance(mount(ExtrinsicsParameters()), Pose)
