"""seg-perception map: a bag in, the map from above out."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support import bounds, world
from support.driven_clip import PLACED, short_clip
from support.world import OBSTACLE, Box, Pose2D, World, mounted, pinhole

from seg_perception import cli
from seg_perception.bags.bag_topics import CAMERA_INFO
from seg_perception.errors import DataError
from seg_perception.labels import GROUP_COLOURS
from seg_perception.occupancy.mapper import LabelFrame, Mapper
from seg_perception.occupancy.settings import Settings
from seg_perception.offline.bag_poses import ODOMETRY
from seg_perception.offline.birdseye import NEVER_SEEN, View, draw_map
from seg_perception.offline.map_bag import find_topics

IMAGE = "sensor_msgs/msg/Image"


@pytest.mark.parametrize("with_odometry", [False, True])
def test_a_bag_is_mapped(
    with_odometry: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = short_clip(tmp_path / "b.mcap", with_odometry=with_odometry)
    out = tmp_path / "out"
    assert cli.main(["map", str(bag), *PLACED, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "12 images" in said.out
    assert said.err == ""
    assert sorted(p.name for p in out.iterdir()) == ["map.mp4", "map.png"]
    image = cv2.imread(str(out / "map.png"))
    assert image.shape[0] == 360
    assert image.shape[1] > 480 + 200
    seen = image[:, 480:].reshape(-1, 3)
    road = np.array(GROUP_COLOURS[1][::-1])
    assert (seen == road).all(1).mean() > 0.02
    with av.open(str(out / "map.mp4")) as video:
        assert video.streams.video[0].frames == 12


def test_what_a_bag_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = short_clip(tmp_path / "b.mcap", with_info=False)
    assert cli.main(["map", str(bag), *PLACED, "--out", str(tmp_path / "out")]) == 1
    assert "record camera_info with the images" in capsys.readouterr().err
    assert cli.main(["map", str(tmp_path / "no"), *PLACED, "--out", str(tmp_path / "out")]) == 1
    assert "no bag at" in capsys.readouterr().err


def test_a_camera_that_sees_no_ground_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = short_clip(tmp_path / "b.mcap")
    up = ["--model", "tiny", "--camera-z", "1.4", "--camera-pitch", "-1.2"]
    assert cli.main(["map", str(bag), *up, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "no image of /camera/image/compressed could be mapped" in said
    assert "above the horizon" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_topics_are_found_or_named() -> None:
    known = {"/a/image": IMAGE, "/a/camera_info": CAMERA_INFO, "/odom": ODOMETRY}
    assert find_topics(known) == ("/a/image", "/a/camera_info")
    both = {**known, "/b/image": IMAGE, "/b/camera_info": CAMERA_INFO}
    with pytest.raises(DataError, match=r"2 image topics \(/a/image, /b/image\).*--image-topic"):
        find_topics(both)
    assert find_topics(both, "/b/image") == ("/b/image", "/b/camera_info")
    with pytest.raises(DataError, match="/c is no image topic"):
        find_topics(both, "/c")
    with pytest.raises(DataError, match="no image topic: it has no topics at all"):
        find_topics({})


def test_the_map_is_drawn_with_the_heading_upwards() -> None:
    poses = world.Poses(mounted(), Pose2D(5.0, -3.0, np.pi / 2))
    camera, box = pinhole(), Box(4.4, 0.0, 5.6, 1.0, 1.0)
    mapper = Mapper(Settings(), poses)
    seen = World((box,)).image(camera, poses.mount, poses.where)
    mapper.update(LabelFrame(seen, None, camera, "", "camera_optical", 1_000_000_000))
    view = View(ahead=6.0, behind=1.0, side=3.5, height=280)
    image = draw_map(mapper, poses.where, view)
    assert image.shape == (280, 280, 3)
    rows, columns = np.nonzero((image == GROUP_COLOURS[OBSTACLE][::-1]).all(2))
    straight = rows[np.abs(columns - 140) < 10]
    distance = 6.0 - (straight.max() + 0.5) / view.scale
    # The box begins 3 m ahead, in a row of pixels; its cell, of 0.1 m, and the map's pixel before.
    row = bounds.of_row(3.0, 1.2, camera.fx)
    assert -0.1 < distance - 3.0 <= row + 1 / view.scale
    assert (image[-20:, :60] == NEVER_SEEN).all()
