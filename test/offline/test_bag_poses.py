"""Camera and robot of a bag: from its tf, its odometry, or arguments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import bounds
from support.driven_clip import CLIP, odometry
from support.driven_clip import PLACED as PLACED_BY_ARGUMENTS
from support.graph import Graph
from support.rig import CAMERA, PLACED, Rig, cells, grids
from support.transforms import camera_transform
from support.world import Box, Pose2D, World, mounted

from seg_perception import cli
from seg_perception.bags.bag import (
    BagReader,
    BagWriter,
    RawMessage,
    message_class,
    serialize,
)
from seg_perception.errors import DataError
from seg_perception.messages import stamp_ns
from seg_perception.occupancy.camera import Camera, Pose
from seg_perception.occupancy.mapper import LabelFrame, Mapper
from seg_perception.occupancy.settings import Settings
from seg_perception.offline.bag_poses import BagPoses
from seg_perception.offline.placement import Placement

S = 10**9
TF = "tf2_msgs/msg/TFMessage"
STILL = (0.0, 0.0, 0.0, 1.0)
Step = tuple[str, str, Sequence[float], Sequence[float]]  # parent, child, x y z, quaternion


def transforms(topic: str, stamp: int, *steps: Step) -> RawMessage:
    """Return a recorded TFMessage."""
    kinds = {
        name.rpartition("/")[2]: message_class(name)
        for name in (TF, "std_msgs/msg/Header", "builtin_interfaces/msg/Time",
                     *(f"geometry_msgs/msg/{n}" for n in
                       ("TransformStamped", "Transform", "Vector3", "Quaternion")))
    }  # fmt: skip
    made = [
        kinds["TransformStamped"](
            kinds["Header"](kinds["Time"](*divmod(stamp, S)), parent),
            child,
            kinds["Transform"](kinds["Vector3"](*place), kinds["Quaternion"](*turn)),
        )
        for parent, child, place, turn in steps
    ]
    return RawMessage(topic, TF, stamp, serialize(kinds["TFMessage"](made), TF))


def mount_step(parent: str = "base_link", child: str = "camera_optical") -> Step:
    """Return the camera 1.2 m up, looking 0.3 rad down."""
    moved = camera_transform().transform
    t, r = moved.translation, moved.rotation
    return parent, child, (t.x, t.y, t.z), (r.x, r.y, r.z, r.w)


def drive_step(x: float, parent: str = "odom", child: str = "base_link") -> Step:
    return parent, child, (x, 0.0, 0.0), STILL


def open_poses(
    path: Path, records: Sequence[RawMessage], frame: str = "camera_optical", **said: Any
) -> BagPoses:
    with BagWriter(path / "b.mcap") as bag:
        for record in records:
            bag.write(record)
    with BagReader(path / "b.mcap") as reader:
        return BagPoses(reader, Placement(**said), frame)


def test_camera_and_robot_come_from_tf(tmp_path: Path) -> None:
    records = [transforms("/tf", n * S, drive_step(float(n))) for n in (1, 2)]
    late = transforms("/tf_static", 2 * S, mount_step())
    poses = open_poses(tmp_path, [*records, late])
    rotation = poses.camera("", "camera_optical", S).rotation
    bounds.check(rotation, mounted().rotation, bounds.of_poses())
    assert poses.robot(S + S // 2) == pytest.approx((1.5, 0.0, 0.0))
    assert poses.sources == (
        "camera: camera_optical in base_link, from tf; robot: base_link in odom, from tf"
    )
    assert poses.warnings == []
    bounds.check(poses.fixed_extrinsics(S).translation, [0, 0, 1.2], bounds.of_poses())


def test_the_frame_on_the_ground_is_preferred_and_arguments_win(tmp_path: Path) -> None:
    records = [
        transforms("/tf", S, drive_step(3.0, "odom", "base_footprint")),
        transforms("/tf_static", S, ("base_footprint", "base_link", (0, 0, 0.1), STILL),
                   mount_step()),
    ]  # fmt: skip
    poses = open_poses(tmp_path, records)
    assert poses.camera("", "camera_optical", S).translation[2] == pytest.approx(1.3)
    assert poses.robot(S) == pytest.approx((3.0, 0.0, 0.0))
    lower = open_poses(tmp_path, records, base_frame="base_link")
    assert lower.camera("", "camera_optical", S).translation[2] == pytest.approx(1.2)
    given = open_poses(tmp_path, records, mount=(0.0, 0.0, 2.0, 0.0, 0.0, 0.0))
    assert given.camera("", "camera_optical", S).translation[2] == 2.0
    assert given.sources == ("camera: from the arguments; robot: base_footprint in odom, from tf")
    with pytest.raises(DataError, match="--odom-frame world: no such frame in the bag's tf; there"):
        open_poses(tmp_path, records, odom_frame="world")


def test_odometry_is_read_where_tf_has_none(tmp_path: Path) -> None:
    static = transforms("/tf_static", S, mount_step())
    poses = open_poses(tmp_path, [static, odometry(S, 1.0), odometry(2 * S, 2.0)])
    assert poses.robot(S + S // 4) == pytest.approx((1.25, 0.0, 0.0))
    assert poses.sources.endswith("robot: base_link in odom, from /odom")
    still = open_poses(tmp_path, [static])
    assert still.robot(S) is None
    assert still.sources.endswith("robot: stands still: neither tf nor odometry says where it is")


def test_one_robots_own_topics_are_read_and_several_are_refused(tmp_path: Path) -> None:
    own = [transforms("/r1/tf_static", S, mount_step("r1/base_link", "r1/camera_optical")),
           transforms("/r1/tf", S, drive_step(1.0, "r1/odom", "r1/base_link"))]  # fmt: skip
    poses = open_poses(tmp_path, own, "r1/camera_optical")
    assert poses.sources == (
        "camera: r1/camera_optical in r1/base_link, from tf; "
        "robot: r1/base_link in r1/odom, from tf"
    )
    with pytest.raises(DataError, match=r"tf of several robots \(/r1/tf, /r1/tf_static, /r2/tf\)"):
        open_poses(tmp_path, [*own, transforms("/r2/tf", S, drive_step(1.0))])


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([odometry(S, 0.0)], "the bag has no tf: give --camera-z .* or record /tf and /tf_static"),
        ([transforms("/tf", S, drive_step(0.0))],
         "images are of frame 'camera_optical', and the bag's tf has base_link, odom: give"),
        ([transforms("/tf_static", S, mount_step("robot"))],
         "no base_footprint or base_link, but camera_optical, robot: name .* --base-frame"),
        ([transforms("/tf_static", S, mount_step("mast"), drive_step(0.0))],
         "does not connect 'camera_optical' to 'base_link': give --camera-z"),
    ],
)  # fmt: skip
def test_what_the_tree_lacks_is_named(records: list[RawMessage], text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        open_poses(tmp_path, records)


def test_doubtful_transforms_are_reported(tmp_path: Path) -> None:
    records = [
        transforms("/tf_static", S, mount_step(), ("base_link", "bad", (0, 0, 0), (0, 0, 0, 0))),
        transforms("/tf", S, drive_step(0.0), drive_step(0.0, "map")),
    ]
    assert open_poses(tmp_path, records).warnings == [
        "base_link has 2 parents (map, odom): the newest transform before an image counts",
        "1 transforms of tf are invalid and not used, as in tf2",
    ]


def test_a_camera_that_moves_on_its_robot_has_no_fixed_mount(tmp_path: Path) -> None:
    records = [transforms("/tf", n * S, mount_step()) for n in (1, 2)]
    poses = open_poses(tmp_path, records)
    assert poses.camera("", "camera_optical", S).translation[2] == pytest.approx(1.2)
    with pytest.raises(DataError, match="'camera_optical' moves in 'base_link'.*--camera-z"):
        poses.fixed_extrinsics(S)


def test_map_needs_no_argument_where_the_bag_has_tf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same map as by arguments, and by odometry that says what tf says."""
    mount = Pose.from_rpy(0.0, 0.0, 1.4, 0.0, 0.05, 0.0)
    body = ("base_link", "camera", (0.0, 0.0, 1.4), (0.0, np.sin(0.025), 0.0, np.cos(0.025)))
    optical = ("camera", "camera_optical", (0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5))
    assert mount.translation[2] == body[2][2]
    drawn = {}
    for name in ("tf", "arguments"):
        path = tmp_path / f"{name}.mcap"
        with BagReader(CLIP) as clip, BagWriter(path) as bag:
            records = list(clip.raw())[:12]
            for record in records:
                x = (record.time_ns - records[0].time_ns) / S
                if name == "tf":
                    bag.write(transforms("/tf", record.time_ns, drive_step(x)))
                else:
                    bag.write(odometry(record.time_ns, x))
                bag.write(record)
            if name == "tf":
                bag.write(transforms("/tf_static", record.time_ns, body, optical))
        model, camera, grid = (PLACED_BY_ARGUMENTS[i : i + n] for i, n in ((0, 2), (2, 4), (6, 2)))
        place = [*model, *grid] if name == "tf" else [*model, *camera, *grid]
        assert cli.main(["map", str(path), *place, "--out", str(tmp_path / name)]) == 0
        said = capsys.readouterr()
        assert "6 images" in said.out
        assert said.err == ""
        assert "robot: base_link in odom, from " + ("tf" if name == "tf" else "/odom") in said.out
        drawn[name] = (tmp_path / name / "map.png").read_bytes()
    assert drawn["tf"] == drawn["arguments"]


def test_half_a_place_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["map", str(CLIP), "--camera-pitch", "0.1", "--out", str(tmp_path)]) == 2
    assert "--camera-pitch says half of where the camera is" in capsys.readouterr().err
    assert cli.main(["map", str(CLIP), "--out", str(tmp_path / "out")]) == 1
    assert "the bag has no tf: give --camera-z" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bags_tf_gives_the_map_of_the_node(ros: Graph, make_model: Any, tmp_path: Path) -> None:
    """The node by parameters and odometry, the bag by tf."""
    world, rig, answers = World((Box(6.0, -1.0, 6.6, 0.0, 1.0),)), Rig(ros), grids(ros)
    ros.start_node(model=make_model(), max_age=0.0, **PLACED)
    start = rig.now()
    looks, records = [], [transforms("/tf_static", start, mount_step())]
    for i in range(6):
        stamp, place = start + i * S // 10, Pose2D(0.2 * i, 0.0, 0.0)
        seen = world.image(CAMERA, mounted(), place)
        looks.append((seen, stamp))
        records.append(transforms("/tf", stamp, drive_step(place.x)))

        def is_mapped(seen: np.ndarray = seen, stamp: int = stamp, place: Pose2D = place) -> bool:
            rig.odometry(place, stamp)
            rig.show(seen, stamp)
            ros.wait(lambda: is_of(answers["cost"], stamp), 10.0, must=False)  # lost, not late
            return is_of(answers["cost"], stamp)

        ros.wait(is_mapped)
    assert ros.values()["published"] == "6"  # none was counted twice
    poses = open_poses(tmp_path, records)
    mapper = Mapper(Settings(), poses)
    camera = Camera.from_info(rig.info(start), looks[0][0].shape)
    for seen, stamp in looks:
        mapper.update(LabelFrame(seen, None, camera, "", "camera_optical", stamp))
    ours, nodes = mapper.costs(), cells(answers["cost"][-1])
    assert (nodes >= 0).sum() > 1000
    assert (ours == nodes).all()


def is_of(heard: list[Any], stamp: int) -> bool:
    return bool(heard) and stamp_ns(heard[-1].header) == stamp
