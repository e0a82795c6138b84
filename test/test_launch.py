"""Launch arguments become the parameters and remaps that the node knows."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_perception.launch_arguments import PROFILES, occupancy_settings, segmentation_settings
from seg_perception.parameters import OccupancyParameters, SegmentationParameters, specs

ROOT = Path(__file__).parent.parent
BOTH = ["segmentation_node", "occupancy_node"]
DEFAULTS = {
    "camera": "/camera",
    "image": "",
    "image_transport": "raw",
    "model": "",
    "label_space": "",
    "use_sim_time": "false",
    "depth": "",
}


def settings(
    environment: dict[str, str] | None = None, of: Any = segmentation_settings, **changes: str
):
    return of({**DEFAULTS, **changes}, fastdds_profile="/p.xml", environment=environment or {})


def test_a_camera_names_its_topics() -> None:
    assert settings(camera="/front/").remaps == [
        ("image", "/front/image_raw"),
        ("camera_info", "/front/camera_info"),
    ]
    assert settings(image="/a/b/rgb").remaps == [
        ("image", "/a/b/rgb"),
        ("camera_info", "/a/b/camera_info"),
    ]


def test_only_what_was_given_overrides_the_defaults() -> None:
    plain = settings().parameters
    assert "model" not in plain
    assert plain["use_sim_time"] is False
    given = settings(model="/m.onnx", use_sim_time="true").parameters
    assert (given["model"], given["use_sim_time"]) == ("/m.onnx", True)


@pytest.mark.parametrize(
    "given", [{}, {"model": "/m.onnx"}, {"label_space": "groups", "use_sim_time": "true"}]
)
def test_occupancy_reads_the_masks_as_they_are_made(given: dict[str, str]) -> None:
    masks = settings(**given).parameters
    mapped = settings(of=occupancy_settings, **given)
    assert set(mapped.parameters) <= {*specs(OccupancyParameters), "use_sim_time"}
    for name in ("model", "label_space", "use_sim_time"):
        assert mapped.parameters.get(name) == masks.get(name)
    assert mapped.environment == settings().environment


def test_occupancy_hears_its_neighbour_in_any_namespace() -> None:
    heard = {n: f"segmentation_node/{n}"
             for n in ("label_mask", "confidence", "camera_info", "label_info")}  # fmt: skip
    assert dict(settings(of=occupancy_settings).remaps) == heard
    with_depth = settings(of=occupancy_settings, depth="/camera/aligned_depth/image").remaps
    assert dict(with_depth) == {**heard, "depth": "/camera/aligned_depth/image"}


def test_the_users_environment_wins() -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        assert settings().environment[name] == "/p.xml"
    assert "MALLOC_TOP_PAD_" in settings().environment
    jazzy, kilted = (settings({"ROS_DISTRO": name}).environment for name in ("jazzy", "kilted"))
    assert jazzy["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/p.xml"
    assert kilted["FASTDDS_DEFAULT_PROFILES_FILE"] == "/p.xml"
    assert not {"FASTDDS_DEFAULT_PROFILES_FILE"} & set(jazzy)
    assert not {"FASTRTPS_DEFAULT_PROFILES_FILE"} & set(kilted)
    mine = settings({"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"}).environment
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in mine


def test_every_profile_has_a_file_of_values_that_the_node_takes() -> None:
    known = specs(SegmentationParameters)
    for profile in PROFILES:
        values = parameters_of(ROOT / "config" / f"{profile}.yaml")
        assert values
        assert not [spec for name, v in values.items() if (spec := known[name].complaint(name, v))]


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


@pytest.mark.parametrize("occupancy", ["false", "true"])
def test_the_launch_file_is_sound_python_and_describes_itself(
    occupancy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "launch" / "robot.launch.py"
    ast.parse(path.read_text())
    if not (importlib.util.find_spec("launch") and importlib.util.find_spec("launch_ros")):
        pytest.skip("launch and launch_ros are not installed (they come with ROS, not from PyPI)")
    from launch import LaunchContext
    from launch.launch_description_sources import get_launch_description_from_python_launch_file
    from launch_ros.actions import Node

    # The package's share folder, where it is not installed as colcon does.
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "seg_perception"
    marker.parent.mkdir(parents=True)
    marker.touch()
    (tmp_path / "share" / "seg_perception").mkdir()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    description = get_launch_description_from_python_launch_file(str(path))
    context = LaunchContext()
    names = [a.name for a in description.get_launch_arguments()]
    assert {"camera", "model", "profile", "occupancy", "depth", "params_file"} <= set(names)
    context.launch_configurations["occupancy"] = occupancy
    made = [node for entity in description.entities for node in entity.visit(context) or ()]
    assert all(isinstance(node, Node) for node in made)
    started = [node.node_executable for node in made]
    assert started == (BOTH if occupancy == "true" else BOTH[:1])


def test_the_fast_dds_profile_has_a_large_segment() -> None:
    text = (ROOT / "config" / "fastdds.xml").read_text()
    assert "<segment_size>67108864</segment_size>" in text
