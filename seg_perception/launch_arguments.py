"""How the nodes are started: launch arguments and environment; knows neither ROS nor launch."""

import os
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

# Kinds of machines; config/<profile>.yaml holds what a profile changes, for both nodes.
PROFILES = ("arm", "cpu", "gpu")
# glibc gives the pages of large messages back after each one unless told otherwise.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "2147483648",
    "MALLOC_TOP_PAD_": "67108864",
}

# Where Fast DDS 3 (Kilted and newer) and Fast DDS 2 (Jazzy) look for their profile.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
# Who sets one of these has chosen how large messages travel.
PROFILE_CHOICES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")
OLD_NAME = ("humble", "jazzy")  # distributions with Fast DDS 2
FASTDDS = "rmw_fastrtps_cpp"  # the middleware of who names none

# Parameters that say what the ids of a mask mean.
SHARED = ("model", "label_space")
# What occupancy_node hears of segmentation_node, in the namespace of both.
HEARD = ("label_mask", "confidence", "camera_info", "label_info")


class Argument(NamedTuple):
    """What a launch argument may be, and what it is when it is not given."""

    text: str
    default: str = ""
    choices: tuple[str, ...] = ()

    def declaration(self) -> dict[str, Any]:
        """Return the keyword arguments of launch's DeclareLaunchArgument."""
        return {
            "default_value": self.default,
            "description": self.text,
            "choices": self.choices or None,
        }


def _switch(text: str) -> Argument:
    return Argument(text, "false", ("true", "false"))


# Arguments of robot.launch.py. An empty default leaves the value to params_file, to the profile and
# to parameters.py.
ARGUMENTS = {
    "camera": Argument("namespace of the camera", "/camera"),
    "cameras": Argument("namespaces of several, as in front,left; their names in topics"),
    "image": Argument("topic of the images; {camera} is the namespace", "{camera}/image_raw"),
    "camera_info": Argument("its topic, {camera} as above (empty: next to the images)"),
    "image_transport": Argument(
        "compressed subscribes to <image>/compressed", choices=("", "raw", "compressed")
    ),
    "model": Argument("model file, or the name of a bundled one"),
    "label_space": Argument(
        "ids of the mask: the model's classes, or groups for planners",
        choices=("", "model", "groups"),
    ),
    "profile": Argument("kind of machine", "cpu", PROFILES),
    "occupancy": _switch("map too; params_file or tf tells where the camera stands"),
    "depth": Argument("registered depth for occupancy_node, {camera} as above, if not depth"),
    "composed": _switch("both nodes in one process (with occupancy:=true)"),
    "namespace": Argument("namespace of the nodes"),
    "params_file": Argument("YAML of parameters, of both nodes; arguments that are given win"),
    "use_sim_time": Argument(
        "take the time from /clock (bags played with --clock)", choices=("", "true", "false")
    ),
    "log_level": Argument("of the nodes", "info", ("debug", "info", "warn", "error", "fatal")),
    "rviz": _switch("open rviz2"),
}


class NodeSettings(NamedTuple):
    """Parameters that were given, and remaps, which name the node: a process may hold two."""

    parameters: dict[str, Any]
    remaps: list[tuple[str, str]]


def problem(arguments: Mapping[str, str]) -> str:
    """Return why nothing can be started with these arguments, or an empty string."""
    file = arguments["params_file"]
    if file and not os.path.isfile(file):
        return f"params_file is {file!r}, which is no file: check the path"
    if arguments["composed"] == "true" and arguments["occupancy"] != "true":
        return "composed:=true puts two nodes into one process: set occupancy:=true too"
    names = _names(arguments)
    if len(names) > 1 and "{camera}" not in arguments["image"]:
        image = arguments["image"]
        return f"image is {image!r} for {len(names)} cameras: write {{camera}} where they differ"
    return ""


def nodes_of(arguments: Mapping[str, str]) -> dict[str, NodeSettings]:
    """Return the settings of each node that is wanted, from launch arguments (all strings)."""
    settings = {"segmentation_node": segmentation_settings(arguments)}
    if arguments["occupancy"] == "true":
        settings["occupancy_node"] = occupancy_settings(arguments)
    return settings


def segmentation_settings(arguments: Mapping[str, str]) -> NodeSettings:
    """Return settings of segmentation_node.

    `camera` is the namespace of one camera, `cameras` are those of several, with commas between.
    `image` is the topic of the images, in which {camera} stands for that namespace; camera_info
    is the neighbour of the image's topic where it is not named.
    """
    remaps = []
    for name, camera in _cameras(arguments).items():
        image = topic_of(arguments["image"], camera)
        usual = f"{image.rpartition('/')[0]}/camera_info"
        info = topic_of(arguments["camera_info"], camera) or usual
        remaps += [(f"{name}image", image), (f"{name}camera_info", info)]
    given = ("image_transport", *SHARED)
    return NodeSettings(_parameters(arguments, given), _of_node("segmentation_node", remaps))


def occupancy_settings(arguments: Mapping[str, str]) -> NodeSettings:
    """Return settings of an occupancy_node that maps those masks.

    `depth` names the topic of the images' registered depth; empty leaves it at `depth`.
    """
    remaps = []
    for name, camera in _cameras(arguments).items():
        remaps += [(f"{name}{topic}", f"segmentation_node/{name}{topic}") for topic in HEARD]
        if arguments["depth"]:
            remaps.append((f"{name}depth", topic_of(arguments["depth"], camera)))
    return NodeSettings(_parameters(arguments, SHARED), _of_node("occupancy_node", remaps))


def topic_of(pattern: str, camera: str) -> str:
    """Put a camera's namespace in the place of {camera}."""
    return re.sub("/+", "/", pattern.replace("{camera}", camera))


def _cameras(arguments: Mapping[str, str]) -> dict[str, str]:
    """Return the namespace of each camera by the prefix of its topics in the nodes."""
    names = _names(arguments)
    return {f"{name}/": name for name in names} or {"": arguments["camera"]}


def _names(arguments: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in arguments["cameras"].split(",") if name.strip()]


def _of_node(node: str, remaps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{node}:{name}", topic) for name, topic in remaps]


def _parameters(arguments: Mapping[str, str], names: Collection[str]) -> dict[str, Any]:
    """Return what was given: the rest is left to files of parameters and to defaults."""
    values: dict[str, Any] = {name: arguments[name] for name in names if arguments[name]}
    if _names(arguments):
        values["cameras"] = _names(arguments)
    if arguments["use_sim_time"]:
        values["use_sim_time"] = arguments["use_sim_time"] == "true"
    return values


def missing_environment(fastdds_profile: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what `environment` lacks for large images; what it sets is left alone."""
    wanted = message_environment(fastdds_profile, environment.get("ROS_DISTRO", ""))
    if any(environment.get(name) for name in PROFILE_CHOICES):
        wanted = {name: value for name, value in wanted.items() if name not in PROFILE_VARIABLES}
    return {name: value for name, value in wanted.items() if name not in environment}


def advice(fastdds_profile: str, environment: Mapping[str, str]) -> str:
    """Return what launch cannot do for the camera's own process, or an empty string."""
    missing = missing_environment(fastdds_profile, environment)
    profile = [name for name in PROFILE_VARIABLES if name in missing]
    if not profile or not is_fastdds(environment):
        return ""
    return (
        "Fast DDS: these nodes get a profile with which large images arrive. The camera's driver "
        "needs it too, which this launch file does not start; in its shell: export "
        + " ".join(f"{name}={fastdds_profile}" for name in profile)
    )


def is_fastdds(environment: Mapping[str, str]) -> bool:
    """Return whether the middleware of `environment` is Fast DDS."""
    return "fastrtps" in (environment.get("RMW_IMPLEMENTATION") or FASTDDS)


def message_environment(fastdds_profile: str, distribution: str = "") -> dict[str, str]:
    """Return the environment in which a process exchanges large images without loss.

    Without the name of the ROS distribution the profile is set for all: Fast DDS 3 reads both
    variables, and then logs that it knows the profile already.
    """
    names: tuple[str, ...] = PROFILE_VARIABLES
    if distribution:
        names = names[1:] if distribution in OLD_NAME else names[:1]
    return {**ALLOCATOR, **dict.fromkeys(names, fastdds_profile)}


def private_environment(fastdds_profile: str, domain: int) -> dict[str, str]:
    """Return the whole environment of processes that talk to each other and to nobody else.

    They get a `domain` of their own, on this machine alone, whatever the shell says: a robot nearby
    shall hear neither their images nor their clock.
    """
    return {
        **os.environ,
        **message_environment(fastdds_profile),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
