"""How the nodes are started: launch arguments and environment; knows neither ROS nor launch."""

import os
from collections.abc import Mapping
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
OLD_NAME = ("humble", "jazzy")  # distributions with Fast DDS 2


# Parameters that say what the ids of a mask mean.
SHARED = ("model", "label_space")
# What occupancy_node hears of segmentation_node, in the namespace of both.
HEARD = ("label_mask", "confidence", "camera_info", "label_info")


class NodeSettings(NamedTuple):
    """Parameters, remaps and environment of a node."""

    parameters: dict[str, Any]
    remaps: list[tuple[str, str]]
    environment: dict[str, str]


def segmentation_settings(
    arguments: Mapping[str, str], *, fastdds_profile: str, environment: Mapping[str, str]
) -> NodeSettings:
    """Turn launch arguments (all strings) into settings of segmentation_node.

    `camera` is the namespace of a camera: its pictures are `<camera>/image_raw` unless `image`
    names another topic; camera_info is the neighbour of the picture's topic. What `environment`
    already sets is left alone.
    """
    image = arguments["image"] or f"{arguments['camera'].rstrip('/')}/image_raw"
    info = f"{image.rpartition('/')[0]}/camera_info"
    parameters: dict[str, Any] = {
        "image_transport": arguments["image_transport"],
        **_common_parameters(arguments),
    }
    remaps = [("image", image), ("camera_info", info)]
    return NodeSettings(parameters, remaps, _missing(fastdds_profile, environment))


def occupancy_settings(
    arguments: Mapping[str, str], *, fastdds_profile: str, environment: Mapping[str, str]
) -> NodeSettings:
    """Turn the same arguments into settings of an occupancy_node that maps those masks.

    `depth` names the topic of the pictures' registered depth; empty leaves it at `depth`.
    """
    remaps = [(name, f"segmentation_node/{name}") for name in HEARD]
    if arguments["depth"]:
        remaps.append(("depth", arguments["depth"]))
    return NodeSettings(
        _common_parameters(arguments), remaps, _missing(fastdds_profile, environment)
    )


def _common_parameters(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return what both nodes are told alike."""
    return {
        "use_sim_time": arguments["use_sim_time"] == "true",
        **{name: arguments[name] for name in SHARED if arguments[name]},
    }


def _missing(fastdds_profile: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what `environment` lacks for large pictures."""
    wanted = message_environment(fastdds_profile, environment.get("ROS_DISTRO", ""))
    return {name: value for name, value in wanted.items() if name not in environment}


def message_environment(fastdds_profile: str, distribution: str = "") -> dict[str, str]:
    """Return the environment in which a process exchanges large pictures without loss.

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
    shall hear neither their pictures nor their clock.
    """
    return {
        **os.environ,
        **message_environment(fastdds_profile),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
