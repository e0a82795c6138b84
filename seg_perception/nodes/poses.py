"""Where cameras and robot are: from tf, or from parameters and odometry.

The one place that knows whether tf2_ros is installed.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from nav_msgs.msg import Odometry as OdometryMessage
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time

from seg_perception.errors import GeometryError
from seg_perception.messages import stamp_ns
from seg_perception.occupancy.camera import OPTICAL, Pose
from seg_perception.occupancy.mapper import NANO, Pose2D, PoseSource
from seg_perception.occupancy.odometry import Odometry, planar
from seg_perception.occupancy.parameters import ExtrinsicsParameters, OccupancyParameters

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

WAIT = 0.1  # s that an image may wait for its transform
# Odometry may come in bursts; best effort hears every publisher.
ODOMETRY = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)

MISSING = (
    "tf2_ros is not installed: the camera's pose comes from camera_x ... camera_yaw, and the "
    "robot's from odom; install ros-<distro>-tf2-ros for tf"
)


class Poses(PoseSource, Protocol):
    """A pose source that listens."""

    name: str

    def close(self) -> None:
        """Unsubscribe."""
        ...


def open_poses(
    node: Node, parameters: OccupancyParameters, mounts: Mapping[str, ExtrinsicsParameters]
) -> Poses:
    """Return the source that `pose_source` names; `mounts` are the parameters of each camera."""
    source, frames = parameters.pose_source, (parameters.base_frame, parameters.odom_frame)
    if source == "tf" and tf2_ros is None:
        raise GeometryError(
            "pose_source is tf but tf2_ros is not installed: install ros-<distro>-tf2-ros, or set "
            "pose_source to parameters"
        )
    if source == "parameters" or tf2_ros is None:
        return ParameterPoses(node, {n: mount(m) for n, m in mounts.items()}, *frames)
    return TfPoses(node, *frames)


def mount(parameters: ExtrinsicsParameters) -> Pose:
    """Return the optical frame's pose in base; the parameters place the camera's body."""
    p = parameters
    body = Pose.from_rpy(
        p.camera_x, p.camera_y, p.camera_z, p.camera_roll, p.camera_pitch, p.camera_yaw
    )
    return body.compose(OPTICAL)


class ParameterPoses:
    """Cameras stand where the parameters say, the robot where `odom` says, if somebody does."""

    name = "parameters"

    def __init__(
        self, node: Node, mounts: Mapping[str, Pose], base_frame: str, odom_frame: str
    ) -> None:
        """Listen to `odom`."""
        self._node, self._mounts = node, dict(mounts)
        self._frames = (odom_frame, base_frame)
        self._odometry, self._error = Odometry(), ""
        self._topic = node.resolve_topic_name("odom")
        self._subscription = node.create_subscription(
            OdometryMessage, "odom", self.on_odometry, ODOMETRY
        )

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        """Return where the parameters put a camera."""
        return self._mounts[name]

    def robot(self, stamp: int) -> Pose2D | None:
        """Return the odometry at `stamp` (ns); None when nobody ever published any."""
        if self._error:
            raise GeometryError(self._error)
        if not self._odometry.is_empty:
            return self._odometry.at(stamp)
        if self._node.count_publishers(self._topic):
            raise GeometryError(f"no message on {self._topic} yet, though it has a publisher: wait")
        return None

    def on_odometry(self, message: Any) -> None:
        """Remember where the base is; what is wrong with a message is told by `robot`."""
        position, turn = message.pose.pose.position, message.pose.pose.orientation
        try:
            self._check_frames(str(message.header.frame_id), str(message.child_frame_id))
            pose = Pose.from_quaternion(
                (position.x, position.y, position.z), (turn.x, turn.y, turn.z, turn.w)
            )
            self._odometry.add(stamp_ns(message.header), planar(pose))
            self._error = ""
        except GeometryError as error:
            self._error = f"{self._topic}: {error}"

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _check_frames(self, *given: str) -> None:
        for name, frame, wanted in zip(
            ("odom_frame", "base_frame"), given, self._frames, strict=True
        ):
            if frame and frame != wanted:
                raise GeometryError(f"it is of frame {frame!r} but {name} is {wanted!r}: set it")


class TfPoses:
    """Cameras and robot stand where tf says, at the image's own stamp."""

    name = "tf"

    def __init__(self, node: Node, base_frame: str, odom_frame: str) -> None:
        """Listen to /tf and /tf_static; a jump back of the node's clock clears what was heard."""
        self._node, self._base, self._odom = node, base_frame, odom_frame
        self.buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self.buffer, node)

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        """Return the pose of `frame`; waits a little for a transform that is on its way."""
        if not frame:
            raise GeometryError(
                "the masks name no frame: set frame_id in the camera's driver, or camera_frame"
            )
        return self._lookup(self._base, frame, stamp)

    def robot(self, stamp: int) -> Pose2D | None:
        """Return where the base is in odom; None where tf has no such frame."""
        try:  # a frame that is not there is not worth waiting for
            self.buffer.lookup_transform(self._odom, self._base, Time(nanoseconds=stamp))
        except tf2_ros.LookupException:
            return None
        except tf2_ros.TransformException:
            pass
        return planar(self._lookup(self._odom, self._base, stamp))

    def close(self) -> None:
        """Unsubscribe."""
        self._listener.unregister()
        if hasattr(self.buffer, "srv"):
            self._node.destroy_service(self.buffer.srv)
        # The clock would go on to call a buffer that is no more.
        self.buffer.jump_handle.unregister()

    def _lookup(self, parent: str, child: str, stamp: int) -> Pose:
        """Return the pose of `child` in `parent` at `stamp` (ns)."""
        if not stamp:  # to tf a time of 0 is the newest, whenever that was
            raise GeometryError("the image's stamp is 0: set it in the camera's driver")
        try:
            found = self.buffer.lookup_transform(
                parent, child, Time(nanoseconds=stamp), Duration(seconds=WAIT)
            )
        except tf2_ros.ExtrapolationException as error:
            raise GeometryError(self._gap(parent, child, stamp)) from error
        except tf2_ros.TransformException as error:
            raise GeometryError(
                f"tf does not say where {child!r} is in {parent!r} ({error}): publish it, or set "
                "pose_source to parameters"
            ) from error
        move, turn = found.transform.translation, found.transform.rotation
        return Pose.from_quaternion((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))

    def _gap(self, parent: str, child: str, stamp: int) -> str:
        """Say by how much tf is too old or too new."""
        what = f"tf does not say where {child!r} was in {parent!r} at the image's stamp"
        try:
            newest = self.buffer.get_latest_common_time(parent, child).nanoseconds
        except tf2_ros.TransformException:
            return f"{what}: are both published?"
        behind = (stamp - newest) * NANO
        if behind > 0:
            return (
                f"{what}: its newest transform is {behind:.3f} s older, and {WAIT:g} s of waiting "
                "brought none; is it still published, and do both use one clock?"
            )
        return (
            f"{what}, {-behind:.3f} s before its newest transform: the image is older than what "
            "tf has heard; is it late, or has time jumped?"
        )
