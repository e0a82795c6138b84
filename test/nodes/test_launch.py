"""Launch arguments become the parameters and remaps that the node knows."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.paths import ROOT

from seg_perception.launch_arguments import (
    ARGUMENTS,
    PROFILES,
    Argument,
    advice,
    missing_environment,
    nodes_of,
    problem,
)
from seg_perception.occupancy.parameters import OccupancyParameters
from seg_perception.parameters import SegmentationParameters, specs

BOTH = ["segmentation_node", "occupancy_node"]
FASTDDS = "FASTDDS_DEFAULT_PROFILES_FILE"
FASTRTPS = "FASTRTPS_DEFAULT_PROFILES_FILE"


def given(**changes: str) -> dict[str, str]:
    """Return the arguments with their defaults, but for `changes`."""
    return {**{name: argument.default for name, argument in ARGUMENTS.items()}, **changes}


def remaps(node: str = "segmentation_node", **changes: str) -> dict[str, str]:
    """Return the remaps of a node, without its name."""
    found = nodes_of(given(occupancy="true", **changes))[node].remaps
    assert all(name.startswith(f"{node}:") for name, _ in found)
    return {name.removeprefix(f"{node}:"): topic for name, topic in found}


def test_an_argument_that_may_be_anything_declares_no_choices() -> None:
    free, switch = Argument("any topic", "/image"), ARGUMENTS["rviz"]
    assert free.declaration() == {
        "default_value": "/image",
        "description": "any topic",
        "choices": None,
    }
    assert switch.declaration()["choices"] == ("true", "false")


@pytest.mark.parametrize(
    ("arguments", "topics"),
    [
        ({"camera": "/front/"}, ("/front/image_raw", "/front/camera_info")),
        ({"image": "/a/b/rgb"}, ("/a/b/rgb", "/a/b/camera_info")),
        ({"image": "/a/{camera}/rgb", "camera_info": "/k"}, ("/a/camera/rgb", "/k")),
    ],
)
def test_a_camera_names_its_topics(arguments: dict[str, str], topics: tuple[str, str]) -> None:
    assert remaps(**arguments) == dict(zip(("image", "camera_info"), topics, strict=True))


def test_several_cameras_name_theirs() -> None:
    assert remaps(cameras="front, left", image="{camera}/rgb") == {
        "front/image": "front/rgb",
        "front/camera_info": "front/camera_info",
        "left/image": "left/rgb",
        "left/camera_info": "left/camera_info",
    }
    mapped = remaps("occupancy_node", cameras="front,left", depth="{camera}/depth")
    assert mapped["left/label_mask"] == "segmentation_node/left/label_mask"
    assert mapped["front/depth"] == "front/depth"
    for node in nodes_of(given(occupancy="true", cameras="front,left")).values():
        assert node.parameters["cameras"] == ["front", "left"]


def test_only_what_was_given_overrides_files_and_defaults() -> None:
    assert nodes_of(given())["segmentation_node"].parameters == {}
    some = nodes_of(given(model="/m.onnx", use_sim_time="true", image_transport="compressed"))
    assert some["segmentation_node"].parameters == {
        "model": "/m.onnx",
        "use_sim_time": True,
        "image_transport": "compressed",
    }


@pytest.mark.parametrize(
    "arguments", [{}, {"model": "/m.onnx"}, {"label_space": "groups", "use_sim_time": "true"}]
)
def test_occupancy_reads_the_masks_as_they_are_made(arguments: dict[str, str]) -> None:
    nodes = nodes_of(given(occupancy="true", **arguments))
    masks, mapped = (nodes[name].parameters for name in BOTH)
    assert set(mapped) <= {*specs(OccupancyParameters), "use_sim_time"}
    for name in ("model", "label_space", "use_sim_time"):
        assert mapped.get(name) == masks.get(name)


def test_occupancy_hears_its_neighbour_in_any_namespace() -> None:
    heard = {n: f"segmentation_node/{n}"
             for n in ("label_mask", "confidence", "camera_info", "label_info")}  # fmt: skip
    assert remaps("occupancy_node") == heard
    depth = "/camera/aligned_depth/image"
    assert remaps("occupancy_node", depth=depth) == {**heard, "depth": depth}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"params_file": "/nowhere.yaml"}, "'/nowhere.yaml', which is no file"),
        ({"composed": "true"}, "set occupancy:=true too"),
        ({"cameras": "a,b", "image": "/rgb"}, "'/rgb' for 2 cameras: write {camera}"),
    ],
)
def test_arguments_that_start_nothing_good_are_named(arguments: dict[str, str], what: str) -> None:
    assert what in problem(given(**arguments))
    assert problem(given()) == ""


def test_the_users_environment_wins() -> None:
    either = missing_environment("/p.xml", {})
    assert either[FASTDDS] == either[FASTRTPS] == "/p.xml"
    assert "MALLOC_TOP_PAD_" in either
    jazzy, kilted = (missing_environment("/p.xml", {"ROS_DISTRO": d}) for d in ("jazzy", "kilted"))
    assert jazzy[FASTRTPS] == kilted[FASTDDS] == "/p.xml"
    assert FASTDDS not in jazzy
    assert FASTRTPS not in kilted
    assert FASTDDS not in missing_environment("/p.xml", {FASTDDS: "/mine.xml"})


def test_who_can_set_the_profile_of_the_camera_is_told_to() -> None:
    assert f"export {FASTDDS}=/p.xml" in advice("/p.xml", {"ROS_DISTRO": "kilted"})
    assert advice("/p.xml", {"ROS_DISTRO": "kilted", FASTDDS: "/mine.xml"}) == ""
    assert advice("/p.xml", {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}) == ""


def test_every_profile_has_a_file_of_values_that_the_node_takes() -> None:
    known = specs(SegmentationParameters)
    for profile in PROFILES:
        values = parameters_of(ROOT / "config" / f"{profile}.yaml")
        assert values
        assert not [spec for name, v in values.items() if (spec := known[name].problem(name, v))]


def test_an_arm_board_starts_with_the_tiny_model_on_half_of_its_cores() -> None:
    assert parameters_of(ROOT / "config" / "arm.yaml") == {"model": "tiny", "threads": 2}


def test_config_files_name_real_parameters() -> None:
    known = {*specs(SegmentationParameters), "use_sim_time", "image_transport"}
    for path in (ROOT / "config").glob("*.yaml"):
        if path.name == "nav2_costmap.yaml":  # test_nav2_config.py knows what Nav2 declares
            continue
        assert set(parameters_of(path)) <= known


def parameters_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["/**"]["ros__parameters"]


def test_the_fast_dds_profile_has_a_large_segment() -> None:
    text = (ROOT / "config" / "fastdds.xml").read_text()
    assert "<segment_size>67108864</segment_size>" in text
