"""Where cameras and robot were while a bag was recorded: from arguments, its tf, its odometry."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from seg_perception.bags.bag import BagReader
from seg_perception.errors import DataError
from seg_perception.messages import stamp_ns
from seg_perception.occupancy.camera import OPTICAL, Pose
from seg_perception.occupancy.mapper import Pose2D
from seg_perception.occupancy.odometry import planar
from seg_perception.occupancy.transforms import TransformTree
from seg_perception.offline.placement import Placement

TRANSFORMS = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"
BASES = ("base_footprint", "base_link")  # the first of these that there is lies on the ground
ODOM = "odom"


class _Robot(NamedTuple):
    """The robot's way: `base` in `odom` by the transforms of `source`."""

    tree: TransformTree
    odom: str
    base: str
    source: str


class BagPoses:
    """A pose source from a recording: by tf2's rules, or by what the user gave.

    `sources` says where camera and robot come from, `warnings` what is doubtful in the recording.
    """

    def __init__(self, reader: BagReader, placement: Placement, camera_frame: str) -> None:
        """Read the bag's transforms, and its odometry where tf does not say where the robot is.

        Raises DataError where nothing says where the camera is.
        """
        self._tree = _read_transforms(reader)
        self._mount = Pose.from_rpy(*placement.mount) if placement.mount else None
        self._camera_frame = camera_frame
        self._base = self._chosen("--base-frame", placement.base_frame, BASES)
        odom = self._chosen("--odom-frame", placement.odom_frame, (ODOM,))
        self._check_camera()
        if odom and self._base and self._tree.is_connected(odom, self._base):
            self._robot: _Robot | None = _Robot(self._tree, odom, self._base, "tf")
        else:
            self._robot = _read_odometry(reader)

    @property
    def sources(self) -> str:
        """One line on where camera and robot come from."""
        camera = f"{self._camera_frame} in {self._base}, from tf"
        robot = "stands still: neither tf nor odometry says where it is"
        if self._robot is not None:
            robot = f"{self._robot.base} in {self._robot.odom}, from {self._robot.source}"
        return f"camera: {camera if self._mount is None else 'from the arguments'}; robot: {robot}"

    @property
    def warnings(self) -> list[str]:
        """What is doubtful in the recording's transforms."""
        refused = self._tree.refused
        invalid = f"{refused} transforms of tf are invalid and not used, as in tf2"
        return self._tree.conflicts() + ([invalid] if refused else [])

    def camera(self, name: str, frame: str, stamp: int) -> Pose:
        """Return the pose of the optical `frame` in base at `stamp` (ns)."""
        if self._mount is not None:
            return self._mount.compose(OPTICAL)
        assert self._base is not None
        return self._tree.lookup(self._base, frame, stamp)

    def robot(self, stamp: int) -> Pose2D | None:
        """Return where the base was in odom at `stamp` (ns), None where the bag does not say."""
        robot = self._robot
        return None if robot is None else planar(robot.tree.lookup(robot.odom, robot.base, stamp))

    def fixed_extrinsics(self, stamp: int) -> Pose:
        """Return the mount of a camera that is fixed to base; DataError where it moves."""
        if self._mount is not None:
            return self._mount
        assert self._base is not None
        if not self._tree.is_fixed(self._base, self._camera_frame):
            raise DataError(
                f"{self._camera_frame!r} moves in {self._base!r}, and this measure takes a fixed "
                "camera; give --camera-z and its other figures"
            )
        return self._tree.lookup(self._base, self._camera_frame, stamp).compose(OPTICAL.inverse())

    def _chosen(self, option: str, frame: str | None, names: Sequence[str]) -> str | None:
        """Return the frame that the user named, else the one that goes by a usual name."""
        frames = self._tree.frames
        if frame and frame.removeprefix("/") not in frames:
            raise DataError(
                f"{option} {frame}: no such frame in the bag's tf; there are {_listed(frames)}"
            )
        return frame.removeprefix("/") if frame else _find(frames, names)

    def _check_camera(self) -> None:
        """Raise DataError where nothing says where the camera is."""
        if self._mount is not None:
            return
        frames, remedy = self._tree.frames, "give --camera-z and its other figures"
        if not frames:
            raise DataError(f"the bag has no tf: {remedy}, or record /tf and /tf_static")
        if self._camera_frame.removeprefix("/") not in frames:
            raise DataError(
                f"the images are of frame {self._camera_frame!r}, and the bag's tf has "
                f"{_listed(frames)}: {remedy}, or record the camera's transform (/tf_static)"
            )
        if self._base is None:
            raise DataError(
                f"the bag's tf has no {' or '.join(BASES)}, but {_listed(frames)}: name the "
                "robot's frame on the ground with --base-frame"
            )
        if not self._tree.is_connected(self._base, self._camera_frame):
            raise DataError(
                f"the bag's tf does not connect {self._camera_frame!r} to {self._base!r}: "
                f"{remedy}, or record all of /tf and /tf_static"
            )


def _read_transforms(reader: BagReader) -> TransformTree:
    """Return all transforms of /tf and /tf_static, or of the one robot that has such topics."""
    topics = _of_type(reader.topics, TRANSFORMS)
    plain = [topic for topic in topics if topic in ("/tf", "/tf_static")]
    if not plain and len({topic.rpartition("/")[0] for topic in topics}) > 1:
        raise DataError(f"the bag has tf of several robots ({', '.join(topics)}): split it")
    tree = TransformTree()
    for topic in plain or topics:
        for message in reader.messages([topic]):
            for step in message.transforms:
                is_static = topic.endswith("tf_static")
                _add(tree, step.header, step.child_frame_id, step.transform, is_static=is_static)
    return tree


def _read_odometry(reader: BagReader) -> _Robot | None:
    """Return the robot's way by /odom, or by the first other Odometry topic, if there is one."""
    topics = _of_type(reader.topics, ODOMETRY)
    if not topics:
        return None
    topic = "/odom" if "/odom" in topics else topics[0]
    tree, robot = TransformTree(), None
    for message in reader.messages([topic]):
        header, child = message.header, str(message.child_frame_id) or BASES[-1]
        header.frame_id = str(header.frame_id) or ODOM
        _add(tree, header, child, _Placed(message.pose.pose), is_static=False)
        robot = robot or _Robot(tree, header.frame_id, child, topic)
    return robot


class _Placed:
    """A Pose message by the names of a Transform message."""

    def __init__(self, pose: Any) -> None:
        self.translation, self.rotation = pose.position, pose.orientation


def _add(tree: TransformTree, header: Any, child: Any, moved: Any, *, is_static: bool) -> None:
    t, r = moved.translation, moved.rotation
    tree.add(
        str(header.frame_id), str(child), stamp_ns(header), (t.x, t.y, t.z), (r.x, r.y, r.z, r.w),
        is_static=is_static,
    )  # fmt: skip


def _of_type(topics: Mapping[str, str], kind: str) -> list[str]:
    return sorted(topic for topic, known in topics.items() if known == kind)


def _find(frames: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the first of the names that is a frame, or the only frame that ends with it."""
    for name in names:
        found = [f for f in frames if f == name] or [f for f in frames if f.endswith(f"/{name}")]
        if len(found) == 1:
            return found[0]
    return None


def _listed(frames: Iterable[str], most: int = 12) -> str:
    names = sorted(frames)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
