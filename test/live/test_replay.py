"""What replay.launch.py starts for a bag, and the player's part of it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import Image
from support.graph import Graph, stop
from support.png_bag import COUNT, PERIOD, START, image_message

from seg_perception.bags.bag import LATCHED, BagWriter, RawMessage, Topic
from seg_perception.errors import DataError, UsageError
from seg_perception.launch_arguments import ARGUMENTS, nodes_of
from seg_perception.live.replay import REPLAY_ARGUMENTS, player_command, robot_arguments

CLIP = Path(str(resources.files("seg_perception") / "clip" / "bag"))
TEXT = "std_msgs/msg/String"


def given(**changes: str) -> dict[str, str]:
    """Return the arguments with their defaults, but for `changes`."""
    return {**{name: argument.default for name, argument in REPLAY_ARGUMENTS.items()}, **changes}


def test_a_bag_tells_what_the_nodes_hear() -> None:
    arguments = robot_arguments(CLIP, given(occupancy="true", model="tiny"))
    assert set(arguments) <= set(ARGUMENTS)
    settings = nodes_of({**{n: a.default for n, a in ARGUMENTS.items()}, **arguments})
    assert dict(settings["segmentation_node"].remaps) == {
        "segmentation_node:image": "/camera/image",
        "segmentation_node:camera_info": "/camera/camera_info",
    }
    assert settings["segmentation_node"].parameters == {
        "image_transport": "compressed",
        "model": "tiny",
        "use_sim_time": True,
    }
    assert settings["occupancy_node"].parameters["use_sim_time"] is True


def test_a_topic_that_is_named_needs_no_look_at_the_bag() -> None:
    nowhere = Path("/nowhere")
    raw = robot_arguments(nowhere, given(image="/a/rgb", camera_info="/b"))
    assert (raw["image"], raw["camera_info"], raw["image_transport"]) == ("/a/rgb", "/b", "raw")
    packed = robot_arguments(nowhere, given(image="/a/rgb/compressed"))
    assert (packed["image"], packed["image_transport"]) == ("/a/rgb", "compressed")
    with pytest.raises(DataError, match="no bag at /nowhere"):
        robot_arguments(nowhere, given())


def test_several_cameras_in_a_bag_are_for_choice(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "two.mcap") as writer:
        for topic in ("/left/image_raw", "/right/image_raw"):
            writer.add_topic(Topic(topic, "sensor_msgs/msg/Image"))
    with pytest.raises(DataError, match=r"2 image topics .*/left/image_raw.* image:=TOPIC"):
        robot_arguments(tmp_path / "two.mcap", given())


def test_topics_are_found_with_rosbags_alone() -> None:
    missing = "av", "jinja2", "matplotlib", "rich"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
        "from pathlib import Path\n"
        "from seg_perception.live.replay import robot_arguments\n"
        f"given = {given()}\n"
        f"print(robot_arguments(Path({str(CLIP)!r}), given)['camera_info'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("/camera/camera_info\n", "")


def test_compressed_images_that_no_node_hears_are_named(tmp_path: Path) -> None:
    odd = image_message(START, np.zeros((8, 8, 3), np.uint8))._replace(topic="/eye")
    with BagWriter(tmp_path / "odd.mcap") as writer:
        writer.write(odd)
    with pytest.raises(UsageError, match="--remap /eye:=/eye/compressed"):
        robot_arguments(tmp_path / "odd.mcap", given())


def test_rosbag2_plays_where_it_is_installed_and_our_player_elsewhere() -> None:
    bag, arguments = Path("/bag"), given(rate="0.5", loop="true", namespace="/robot")
    theirs = player_command(bag, arguments, with_ros2bag=True)
    assert theirs[:4] == ["ros2", "bag", "play", "/bag"]
    assert {"--clock", "--loop", "0.5"} <= set(theirs)
    ours = player_command(bag, arguments, with_ros2bag=False)
    assert ours[0] == sys.executable
    assert ours[-2:] == ["--node", "robot/segmentation_node"]
    assert "--loop" in ours
    assert "--loop" not in player_command(bag, given(), with_ros2bag=False)


def test_the_player_loops_and_keeps_what_its_recorded_publisher_kept(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "images.mcap"
    hello = b"\x00\x01\x00\x00\x03\x00\x00\x00hi\x00"
    with BagWriter(path) as writer:
        writer.add_topic(Topic("/kept", TEXT, qos=(LATCHED,)))
        writer.write(RawMessage("/kept", TEXT, START, hello))
        for i in range(COUNT):
            for topic in ("/camera/image/compressed", "/nobody/hears/this"):
                shot = image_message(START + i * PERIOD, halves[..., ::-1])
                writer.write(shot._replace(topic=topic))
    masks = ros.collect(Image, "/segmentation_node/label_mask", depth=50)
    ros.start_node({"image": "/camera/image"}, model=make_model(), image_transport="compressed")
    command = player_command(path, given(loop="true", image="/camera/image/compressed"),
                             with_ros2bag=False)  # fmt: skip
    player = ros.start(*command[1:])
    ros.wait(lambda: len(masks) > 2 * COUNT)
    ros.wait(lambda: ros.node.get_publishers_info_by_topic("/kept"))  # it is found in its time
    offers = ros.node.get_publishers_info_by_topic("/kept")
    assert [o.qos_profile.durability for o in offers] == [DurabilityPolicy.TRANSIENT_LOCAL]
    stop(player, signal.SIGINT)
