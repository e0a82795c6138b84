"""What replay.launch.py starts for a bag; knows neither ROS nor launch."""

import sys
from collections.abc import Mapping
from pathlib import Path

from seg_perception.errors import UsageError
from seg_perception.launch_arguments import ARGUMENTS, Argument

# Arguments of robot.launch.py that a bag decides, or that make no sense for one.
_DECIDED = ("camera", "cameras", "image", "camera_info", "image_transport", "use_sim_time")
REPLAY_ARGUMENTS = {
    "rate": Argument("times the recorded pace", "1.0"),
    "loop": Argument("start again at the end", "false", ("true", "false")),
    "image": Argument("topic of the images (empty: the only one that the bag has)"),
    "camera_info": Argument("its topic (empty: next to the images)"),
    **{name: argument for name, argument in ARGUMENTS.items() if name not in _DECIDED},
}
COMPRESSED = "/compressed"
START = 5  # seconds for the node to load its model, where the player cannot wait for it


def robot_arguments(bag: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments of robot.launch.py that hear a bag.

    Reads the bag only where `image` is not given. Raises DataError for a bag that cannot be read or
    has no one image topic, UsageError where rosbags is missing or the topic's name is unusual.
    """
    image, info = given["image"], given["camera_info"]
    is_compressed = image.endswith(COMPRESSED)
    if not image:
        image, kind, found = _find(bag)
        is_compressed, info = kind.endswith("CompressedImage"), info or found
    if is_compressed and not image.endswith(COMPRESSED):
        raise UsageError(
            f"{image} holds compressed images, which nodes hear on <image>{COMPRESSED}: play the "
            f"bag with --remap {image}:={image}{COMPRESSED} and start robot.launch.py"
        )
    forwarded = {name: given[name] for name in ARGUMENTS if name not in _DECIDED}
    return {
        **forwarded,
        "image": image.removesuffix(COMPRESSED),
        "camera_info": info,
        "image_transport": "compressed" if is_compressed else "raw",
        "use_sim_time": "true",
    }


def player_command(bag: Path, given: Mapping[str, str], *, with_ros2bag: bool) -> list[str]:
    """Return the command that plays a bag with /clock: ros2 bag play, or our own player."""
    loop = ["--loop"] if given["loop"] == "true" else []
    options = [str(bag), "--rate", given["rate"], *loop]
    if with_ros2bag:
        return ["ros2", "bag", "play", *options, "--clock", "100", "--delay", str(START)]
    # A bag may hold other cameras, which nobody hears.
    heard = ["--heard", given["image"]] if given["image"] else []
    node = f"{given['namespace']}/segmentation_node".strip("/")
    player = [sys.executable, "-m", "seg_perception.live.player_node"]
    return [*player, *options, *heard, "--node", node]


def _find(bag: Path) -> tuple[str, str, str]:
    """Return the only image topic of a bag, its type, and its CameraInfo topic or nothing."""
    try:
        from seg_perception.bags.bag import BagReader
        from seg_perception.bags.bag_topics import choose_image_topic, find_camera_info
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed, without which the bag's topics are not known: name "
            "them (image:=/camera/image_raw), or pip install --break-system-packages rosbags"
        ) from error
    with BagReader(bag, mend=True) as reader:
        known = reader.topics
    image = choose_image_topic(known, option="image:=TOPIC")
    return image, known[image], find_camera_info(known, image) or ""
