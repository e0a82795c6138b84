"""doctor --nav2 and --yaml: each trap of docs/nav2.md by name, in a file and in running nodes."""

import copy
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sensor_msgs.msg import PointCloud2
from support.graph import Graph
from support.nav2_config import CONFIG, LOADED, without_package
from support.paths import SUPPORT

from seg_perception import cli
from seg_perception.doctor.finding import Finding
from seg_perception.doctor.nav2_file import check_file

STAND_IN = str(SUPPORT / "nav2_parameters.py")
LOCAL = "/local_costmap/local_costmap"
Change = Callable[[dict[str, Any]], object]


def local(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["local_costmap"]["local_costmap"]["ros__parameters"]
    return found


def obstacles(values: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(local(values)["perceived_obstacles"], "obstacles")


def clearing(values: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(local(values)["perceived_obstacles"], "clearing")


def camera(values: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(local(values)["semantic_layer"], "camera")


def monitor(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["collision_monitor"]["ros__parameters"]
    return found


def written(path: Path, change: Change = lambda values: None) -> Path:
    """Write our configuration with a change."""
    values = copy.deepcopy(LOADED)
    change(values)
    path.write_text(yaml.safe_dump(values))
    return path


def bad(findings: list[Finding]) -> list[str]:
    return [f"{f.level}: {f.found}" for f in findings if f.level in ("warning", "error")]


def test_our_own_configuration_springs_no_trap(tmp_path: Path) -> None:
    assert bad(list(check_file(CONFIG))) == []
    other = written(tmp_path / "static.yaml", lambda v: local(v).update(without_package()))
    assert bad(list(check_file(other))) == []


WRONG: list[tuple[Change, str]] = [
    (lambda v: obstacles(v).pop("max_obstacle_height"),
     "error: .*perceived_obstacles.obstacles.max_obstacle_height is 0"),
    (lambda v: obstacles(v).pop("data_type"), "error: .*obstacles.data_type is 'LaserScan'"),
    (lambda v: obstacles(v).pop("expected_update_rate"),
     "warning: .*obstacles.expected_update_rate is 0 s"),
    (lambda v: obstacles(v).pop("obstacle_max_range"),
     "warning: .*obstacles.obstacle_max_range is 2.5 m"),
    (lambda v: obstacles(v).update(clearing=True),
     "error: .*obstacles has marking True and clearing True"),
    (lambda v: clearing(v).update(marking=True),
     "error: .*clearing has marking True and clearing True"),
    (lambda v: clearing(v).pop("sensor_frame"), "warning: .*clearing has no sensor_frame"),
    (lambda v: local(v)["perceived_obstacles"].update(observation_sources="obstacles"),
     "warning: .*perceived_obstacles has no source that clears"),
    (lambda v: local(v)["perceived_obstacles"].update(max_obstacle_height=0.0),
     "error: .*perceived_obstacles.max_obstacle_height is 0"),
    (lambda v: camera(v)["class_types"].remove("nowhere"), "error: .*has no type for sky"),
    (lambda v: camera(v)["class_types"].append("unknown"),
     "error: .*'unknown', which has no classes"),
    (lambda v: camera(v)["rough"].update(classes=["grass"]), "error: .*no type for vegetation"),
    (lambda v: camera(v)["rough"]["classes"].append("grass"), "warning: .*lists grass"),
    (lambda v: camera(v)["rough"]["classes"].append("person"),
     "warning: .*person in several types"),
    (lambda v: local(v)["semantic_layer"].pop("use_approximate_time_sync"),
     "warning: .*use_approximate_time_sync is true"),
    (lambda v: local(v).update(plugins=["semantic_layer", "inflation_layer"]),
     "error: .*perceived_obstacles is configured and not in plugins"),
    (lambda v: local(v)["plugins"].append("voxel_layer"),
     "error: .*plugins names 'voxel_layer', and there is no voxel_layer.plugin"),
    (lambda v: local(v).update(plugins=["inflation_layer"]),
     "error: .*no layer reads occupancy_node"),
    (lambda v: local(v).update(without_package(), trinary_costmap=True),
     "error: .*trinary_costmap is true"),
    (lambda v: local(v).update(
        without_package(), plugins=["perceived_obstacles", "perceived_ground", "inflation_layer"]),
     "warning: .*perceived_ground comes after perceived_obstacles"),
    (lambda v: monitor(v)["perceived"].update(source_timeout=0.0),
     "error: collision_monitor: perceived.source_timeout is 0"),
    (lambda v: monitor(v)["perceived"].pop("type"), "error: .*perceived.type is 'scan'"),
    (lambda v: monitor(v).update(observation_sources=["scan"]),
     "warning: collision_monitor: no source reads ~/obstacles"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), WRONG, ids=[text[:60] for _, text in WRONG])
def test_each_trap_is_named_with_its_line(change: Change, text: str, tmp_path: Path) -> None:
    found = list(check_file(written(tmp_path / "nav2.yaml", change)))
    assert any(re.match(text, line) for line in bad(found)), bad(found)
    assert all(f.means and f.do for f in found if f.level in ("warning", "error"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: .*No such file"),
        ("a:\n\tb: 1\n", "cannot be read: .*found character '\\\\t'"),
        ("a: [1, 2", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("local_costmap: &here {x: 1}\nother: *here\n", "line 1 has the anchor or alias 'here'"),
        ("controller_server: {ros__parameters: {x: 1}}", "holds no costmap and no collision"),
        ("[1, 2]", "holds no costmap"),
        ("", "holds no costmap"),
    ],
)
def test_files_that_ros_does_not_read_are_named(
    content: str | bytes | None, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "nav2.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = list(check_file(path))
    assert found[0].level == "error"
    assert re.search(text, found[0].found)


def test_the_command_reads_a_file_without_a_robot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--yaml", str(CONFIG)]) == 0
    wrong = written(tmp_path / "wrong.yaml", WRONG[0][0])
    assert cli.main(["doctor", "--yaml", str(wrong), "--json"]) == 1
    said = capsys.readouterr().out
    assert '"check": "nav2"' in said
    assert "drops every point" in said


# Running nodes


def ask(ros: Graph, capsys: pytest.CaptureFixture[str], *more: str) -> list[Finding]:
    """Run doctor --nav2 in the domain of the graph, for two seconds."""
    os.environ["ROS_DOMAIN_ID"] = str(ros.domain)
    cli.main(["doctor", "--nav2", *more, "--seconds", "2", "--json"])
    return [Finding(**f) for f in json.loads(capsys.readouterr().out)["findings"]]


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take ROS_DOMAIN_ID back after the test."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")


def start(ros: Graph, path: Path, *more: str) -> None:
    ros.start(STAND_IN, str(path), LOCAL, *more)
    ros.wait(lambda: "ready" in ros.logs())


@pytest.mark.usefixtures("domain")
def test_a_running_costmap_is_judged_by_what_it_answers(
    ros: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(values: dict[str, Any]) -> None:
        local(values).update(plugins=["perceived_obstacles", "inflation_layer"])
        obstacles(values).update(max_obstacle_height=0.0)

    start(ros, written(tmp_path / "nav2.yaml", change))
    clouds = [ros.camera(PointCloud2, f"/occupancy_node/{n}") for n in ("obstacles", "clearing")]
    timer = ros.node.create_timer(0.5, lambda: [c.publish(PointCloud2()) for c in clouds])
    stop = threading.Event()
    spinner = threading.Thread(target=lambda: [ros.spin(0.1) for _ in iter(stop.is_set, True)])
    spinner.start()
    try:
        found = ask(ros, capsys, LOCAL)
    finally:
        stop.set()
        spinner.join()
        ros.node.destroy_timer(timer)
    lines = bad(found)
    assert any("max_obstacle_height is 0" in line for line in lines), lines
    assert any("comes at 2.0 Hz, and expected_update_rate is 0.5 s" in line or
               "expected_update_rate is 0.5 s" in line for line in lines), lines  # fmt: skip
    incompatible_publishers = [line for line in lines if "nobody publishes it" in line]
    assert any("/occupancy_node/costmap/label_mask" in line for line in incompatible_publishers)
    assert not any("/occupancy_node/obstacles," in line for line in incompatible_publishers)


@pytest.mark.usefixtures("domain")
def test_a_costmap_that_is_absent_or_not_active_is_named(
    ros: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(ros, capsys, "/no/costmap")
    assert bad(found) == ["error: /no/costmap does not answer"]
    start(ros, written(tmp_path / "nav2.yaml"), "inactive")
    lines = bad(ask(ros, capsys))
    assert any("local_costmap: it is inactive" in line for line in lines), lines
    assert not any("global_costmap does not answer" in line for line in lines)
