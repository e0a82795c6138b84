"""The doctor finds what is wrong with a machine, a shell, a model file and a running graph."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import doctor_page
import jsonschema
import pytest
from support import graph
from support.graph import Graph
from support.paths import ROOT, SUPPORT

from seg_perception import __version__, cli, weights
from seg_perception.cli.doctor import seconds
from seg_perception.doctor import as_json, cameras, host, middleware, model_files
from seg_perception.doctor import ros_graph as judge
from seg_perception.doctor.as_json import SCHEMA
from seg_perception.doctor.examine import check_graph
from seg_perception.doctor.finding import Finding
from seg_perception.doctor.observation import (
    CameraInfoSeen,
    CameraSeen,
    LinkSeen,
    NodeSeen,
    Observation,
    StatusSeen,
    TransformSeen,
)
from seg_perception.launch_arguments import PROFILE_VARIABLES
from seg_perception.qos import Endpoint

CAMERA = str(SUPPORT / "doctor_camera.py")
FAST, OLD = PROFILE_VARIABLES
OFFER = Endpoint("driver", "sensor_msgs/msg/Image", "best_effort", "volatile")
WELL = CameraSeen(
    topic="/c/image", kind=OFFER.kind, seconds=5.0, publishers=[OFFER], received=51, sent=51,
    span=5.0, encoding="rgb8", width=64, height=48, frame_id="lens", stamp=1000.0, arrived=1000.01,
    info_topic="/c/camera_info", info_publishers=1, info=CameraInfoSeen(50.0, 64, 48, "lens"),
)  # fmt: skip
MB = 2**20


def none_installed(name: str) -> str:
    return ""


# The machine


@pytest.mark.parametrize(
    ("version", "level"), [((3, 9, 1), "error"), ((3, 12, 3), "ok"), ((3, 14, 0), "note")]
)
def test_python_is_compared_with_what_is_tested(version: tuple[int, ...], level: str) -> None:
    assert host.check_python(version).level == level


def test_packages_are_compared_with_the_ranges_of_the_package() -> None:
    installed = {"numpy": "1.20", "pyyaml": "6.0", "torch": "1.0"}
    installed["ros-rclpy"] = "7.1.6"  # Jazzy's wheels, where the extra pins Kilted's
    wanted = ["numpy>=1.26,<3", "pyyaml>=5.4", "numba>=0.59", 'torch>=2.4; extra == "train"',
              'av>=12; extra == "evaluate"',
              'ros-rclpy[fastrtps]==9.1.2; extra == "ros"']  # fmt: skip
    found = list(host.check_packages(wanted, lambda name: installed.get(name, "")))
    assert [(f.level, f.found.split(",")[0]) for f in found] == [
        ("error", "numpy 1.20"),
        ("error", "numba is not installed"),
        ("warning", "torch 1.0"),
        ("ok", "pyyaml 6.0"),
    ]
    assert found[0].do == "pip install 'numpy<3,>=1.26'"


def test_a_package_counts_whichever_distribution_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", gone)  # as with onnxruntime-gpu, or Debian's OpenCV
    import cv2
    import onnxruntime

    assert host.installed_version("onnxruntime") == onnxruntime.__version__
    assert host.installed_version("opencv-python-headless") == cv2.__version__
    assert host.installed_version("numba") == ""


@pytest.mark.parametrize(
    ("limit", "environment", "level"),
    [
        (None, {}, "ok"),
        (None, {"OMP_NUM_THREADS": "2"}, "ok"),
        (None, {"OMP_NUM_THREADS": "64"}, "warning"),
        (None, {"OMP_NUM_THREADS": "many"}, "warning"),
        (1.5, {}, "warning"),
    ],
)
def test_threads_are_compared_with_cores_and_limits(
    limit: float | None, environment: Mapping[str, str], level: str
) -> None:
    assert host.check_threads(4, limit, environment).level == level


@pytest.mark.parametrize(
    ("text", "limit"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("nonsense", None)]
)
def test_the_limit_of_a_container_is_read(tmp_path: Path, text: str, limit: float | None) -> None:
    assert host.cpu_limit(tmp_path / "missing") is None
    (tmp_path / "cpu.max").write_text(text)
    assert host.cpu_limit(tmp_path / "cpu.max") == limit


@pytest.mark.parametrize(("value", "level"), [("1", "ok"), ("0", "note"), ("", "note")])
def test_telemetry_is_named_where_it_is_on(value: str, level: str) -> None:
    found = host.check_telemetry({"ORT_DISABLE_TELEMETRY": value})
    assert found.level == level
    assert ("unset ORT_DISABLE_TELEMETRY" in found.do) == (level == "note")


@pytest.mark.parametrize(("free", "level"), [(63, "error"), (200, "warning"), (4000, "ok")])
def test_a_small_shared_memory_is_told(free: int, level: str) -> None:
    found = host.check_shared_memory(8000 * MB, free * MB)
    assert (found.level, f"{free} of 8000 MB" in found.found) == (level, True)


def test_shared_memory_counts_with_fast_dds_alone() -> None:
    def checks(rmw: str) -> set[str]:
        environment = {"RMW_IMPLEMENTATION": rmw}
        return {f.check for f in host.check(environment, sys.version_info[:3])}

    assert checks("") - checks("rmw_zenoh_cpp") == {"shared memory"}


# What carries the messages


@pytest.mark.parametrize(
    ("environment", "distribution", "level", "said"),
    [
        ({}, "kilted", "warning", "no Fast DDS profile"),
        ({FAST: graph.PROFILE}, "kilted", "ok", "64 MB"),
        ({FAST: graph.PROFILE}, "jazzy", "warning", f"jazzy reads {OLD}"),
        ({OLD: graph.PROFILE}, "jazzy", "ok", "64 MB"),
        ({FAST: "/none.xml"}, "kilted", "error", "/none.xml cannot be read"),
        ({FAST: __file__}, "kilted", "error", "cannot be read: not well-formed"),
    ],
)
def test_the_profile_is_asked_for_by_the_name_that_the_distribution_reads(
    environment: Mapping[str, str], distribution: str, level: str, said: str
) -> None:
    found = middleware.check_profile(environment, distribution)
    assert found.level == level
    assert said in found.found


def test_a_profile_without_large_shared_memory_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own.xml"
    own.write_text("<dds><segment_size>1048576</segment_size></dds>")
    found = middleware.check_profile({FAST: str(own)}, "kilted")
    assert found.level == "warning"
    assert "67108864" in found.do


@pytest.mark.parametrize(
    ("environment", "checks"),
    [
        ({"ROS_DOMAIN_ID": "7"}, {"domain": "ok"}),
        ({"ROS_DOMAIN_ID": "150"}, {"domain": "warning"}),
        ({"ROS_DOMAIN_ID": "300"}, {"domain": "error"}),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, {"domain": "ok", "discovery": "warning"}),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "near"}, {"domain": "ok", "discovery": "warning"}),
        ({"ROS_LOCALHOST_ONLY": "1"}, {"domain": "ok", "discovery": "note"}),
    ],
)
def test_odd_domains_and_ranges_are_told(
    environment: Mapping[str, str], checks: dict[str, str]
) -> None:
    assert {f.check: f.level for f in middleware.check_domain(environment)} == checks


@pytest.mark.parametrize(
    ("environment", "level"),
    [({"ROS_DISTRO": "humble"}, "error"), ({"ROS_DISTRO": "jazzy"}, "ok"), ({}, "note")],
)
def test_distributions_before_jazzy_are_refused(environment: Mapping[str, str], level: str) -> None:
    name = middleware.distribution_of(environment, none_installed)
    assert middleware.check_distribution(name, environment).level == level


def test_small_sockets_matter_most_without_shared_memory() -> None:
    small = 212_992
    assert middleware.check_sockets(small, "shared").level == "note"
    assert middleware.check_sockets(small, "udp").level == "warning"
    assert middleware.check_sockets(small, "tcp").level == "ok"
    assert middleware.check_sockets(32 * MB, "udp").level == "ok"


# Models


def test_a_provider_that_is_not_built_in_is_an_error() -> None:
    assert model_files.check_onnx_runtime("cpu").level == "ok"
    found = model_files.check_onnx_runtime("abacus")
    assert (found.level, "abacus was asked for" in found.found) == ("error", True)


def test_a_provider_is_asked_of_the_models_that_are_named(make_model: Callable[..., Path]) -> None:
    named = str(make_model())
    found = list(model_files.check([named], "tensorrt", none_installed))
    assert {f.found.split(":")[0]: f.level for f in found if f.check == "model"} == {
        "default": "ok", "tiny": "ok", named: "error",
    }  # fmt: skip
    torch = [f.level for f in model_files.check(["none.pt"], "cuda", none_installed)
             if f.check == "onnx runtime"]  # fmt: skip
    assert torch == ["ok"]


def test_models_are_loaded_and_their_hash_is_checked(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.onnx"
    content = bytearray(weights.BUNDLED["tiny"].read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    found = {
        "tiny": model_files.check_model(weights.BUNDLED["tiny"], "tiny", "cpu"),
        "damaged": model_files.check_model(damaged, str(damaged), "cpu"),
        "plain": model_files.check_model(make_model(), "plain", "cpu"),
        "missing": model_files.check_model(tmp_path / "none.onnx", "none", "cpu"),
    }
    assert {name: f.level for name, f in found.items()} == {
        "tiny": "ok", "damaged": "error", "plain": "note", "missing": "error",
    }  # fmt: skip
    assert "sha256" in found["damaged"].found


# One camera, as it was seen


@pytest.mark.parametrize(
    ("changes", "check", "level", "said"),
    [
        ({"publishers": []}, "camera", "error", "nobody publishes /c/image"),
        ({"received": 0}, "camera", "error", "no image in 5 s"),
        ({"received": 0, "kind": "x"}, "camera", "error", "(best effort) is sensor_msgs"),
        ({"received": 1, "sent": 1}, "camera", "error", "1 image in 5 s"),
        ({"received": 20}, "camera", "error", "20 of 51 arrived"),
        ({"received": 40}, "camera", "warning", "40 of 51 arrived"),
        ({"sent": None}, "camera", "ok", "10.0 Hz, 64x48 rgb8"),
        ({"encoding": "16UC1"}, "camera", "ok", "holds depth"),
        ({"unreadable": "encoding 'x'"}, "encoding", "error", "encoding 'x'"),
        ({"frame_id": ""}, "camera", "warning", "empty frame_id"),
        ({"stamp": 0.0}, "stamps", "error", "is stamped 0"),
        ({"arrived": 1003.0}, "stamps", "warning", "3.000 s before it arrives"),
        ({"arrived": 9000.0}, "stamps", "error", "8000.000 s before it arrives"),
        ({"arrived": 9000.0, "simulated": 1000.2}, "stamps", "note", "stamped by /clock"),
        ({"info": None}, "camera_info", "warning", "no message on /c/camera_info"),
        ({"info": CameraInfoSeen(0.0, 64, 48, "lens")}, "camera_info", "error", "K[0] = 0"),
        ({"info": CameraInfoSeen(9.0, 64, 40, "lens")}, "camera_info", "warning", "is of 64x40"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_camera_is_told_with_its_values(
    changes: dict[str, Any], check: str, level: str, said: str
) -> None:
    found = list(cameras.check(changed(WELL, **changes)))
    assert any(f.check == check and f.level == level and said in f.found for f in found), found


def test_a_camera_that_is_well_gives_no_problem() -> None:
    assert {f.level for f in cameras.check(WELL)} == {"ok"}


def changed(seen: CameraSeen, **changes: Any) -> CameraSeen:
    return CameraSeen(**{**seen.__dict__, **changes})


def observed(**changes: Any) -> Observation:
    node = NodeSeen("/s", False, [StatusSeen("s: s", 0, "segmenting", "active")])
    values: dict[str, Any] = {
        "rmw": "rmw_fastrtps_cpp", "seconds": 5.0, "clock_publishers": [], "ticks": 0,
        "has_tf": True, "are_named": False, "cameras": [WELL],
        "transforms": [TransformSeen("base_link", "lens", "")], "nodes": [node], "links": [],
    }  # fmt: skip
    return Observation(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "check", "level", "said"),
    [
        ({"cameras": []}, "cameras", "note", "no topic of images"),
        ({"nodes": []}, "nodes", "note", "neither segmentation_node nor"),
        ({"nodes": [NodeSeen("/s", False, [])]}, "nodes", "error", "said nothing"),
        ({"nodes": [NodeSeen("/s", None, [])]}, "clock", "warning", "did not say"),
        ({"nodes": [NodeSeen("/s", True, [])]}, "clock", "error", "nobody publishes /clock"),
        ({"nodes": [NodeSeen("/s", False, [StatusSeen("s", 0, "inactive", "inactive")])]},
         "nodes", "warning", "inactive"),
        ({"nodes": [NodeSeen("/s", False, [StatusSeen("s", 2, "no model", "unconfigured")])]},
         "nodes", "error", "no model"),
        ({"ticks": 9, "clock_publishers": ["player"]}, "clock", "warning", "player publishes"),
        ({"has_tf": False}, "tf", "note", "tf2_ros is not installed"),
        ({"transforms": [TransformSeen("chassis", "lens", "no such frame")]}, "tf", "warning",
         "chassis -> lens: no such frame"),
        ({"nodes": [NodeSeen("/robot/s", False, [StatusSeen("s: s", 2, "no model", "active")])]},
         "nodes", "error", "robot/s: s: active, no model"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_graph_is_told(
    changes: dict[str, Any], check: str, level: str, said: str
) -> None:
    seen = Observation.from_dict(json.loads(json.dumps(observed(**changes).to_dict())))
    found = list(judge.check(seen))
    assert any(f.check == check and f.level == level and said in f.found for f in found), found


@pytest.mark.parametrize(
    ("heard", "are_named", "level"),
    [
        ("/c/image", False, "warning"),
        ("/c/image/compressed", False, "warning"),  # the same camera
        ("/idle/image", False, "error"),
        ("/c/image", True, "error"),
        ("/nobody", False, "error"),
    ],
)
def test_a_camera_that_no_node_hears_is_no_error_beside_one_that_is_heard(
    heard: str, are_named: bool, level: str
) -> None:
    idle = changed(WELL, topic="/idle/image", received=0)
    link = LinkSeen(heard, [], [OFFER._replace(node="s")])
    seen = observed(cameras=[WELL, idle], links=[link], are_named=are_named)
    assert {f.level for f in judge.check(seen) if "/idle/image" in f.found} == {level}


def test_every_finding_that_is_not_ok_says_what_it_means() -> None:
    assert {f.level for f in judge.check(observed())} == {"ok"}
    everything = [*judge.check(observed(cameras=[], nodes=[])), *middleware.check_domain({})]
    assert all(f.means for f in everything if f.level != "ok")


# Real set-ups, over DDS

RELIABLE = "reliability=reliable"  # a busy machine of CI may lose best-effort images
BROKEN = {
    "good": [RELIABLE],
    "zero_k": [RELIABLE, "focal=0"],
    "odd": [RELIABLE, "encoding=32SC4"],
    "late": [RELIABLE, "late=100"],
    "frameless": [RELIABLE, "frame="],
    "blank": [RELIABLE, "encoding="],
    "hasty": ["reliability=best_effort"],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """Return what the doctor says of one good and six broken cameras and a misled node."""
    with Graph(tmp_path_factory.mktemp("doctor")) as ros, pytest.MonkeyPatch.context() as patch:
        for name, settings in BROKEN.items():
            ros.start(CAMERA, f"name={name}", *settings)
        ros.start_node(
            {"image": "/hasty/image", "camera_info": "/hasty/camera_info"},
            model="tiny", qos_reliability="reliable", use_sim_time=True,
        )  # fmt: skip
        ros.wait_for_status("offers /hasty/image best effort")
        patch.setenv("ROS_DOMAIN_ID", str(ros.domain))
        topics = [f"/{name}/image" for name in BROKEN]
        ros.wait(lambda: all(ros.node.count_publishers(topic) for topic in topics))
        return list(check_graph(topics, 1.5))


def about(found: list[Finding], topic: str) -> dict[str, str]:
    """Return the worst level of each check that names a topic."""
    order = ["ok", "note", "warning", "error"]
    named = [f for f in found if f"/{topic}/" in f.found and f.check != "qos"]
    return {f.check: f.level for f in sorted(named, key=lambda f: order.index(f.level))
            if not f.found.startswith("segmentation_node:")}  # fmt: skip


@pytest.mark.parametrize(
    ("camera", "wrong"),
    [
        ("good", {}),
        ("zero_k", {"camera_info": "error"}),
        ("odd", {"encoding": "error"}),
        ("blank", {"encoding": "error"}),
        ("late", {"stamps": "error"}),
        ("frameless", {"camera": "warning"}),
    ],
)
def test_a_running_camera_is_judged(
    found: list[Finding], camera: str, wrong: dict[str, str]
) -> None:
    well = dict.fromkeys(("camera", "encoding", "stamps", "camera_info"), "ok")
    assert about(found, camera) == {**well, **wrong}, found


def test_a_reliable_subscriber_of_a_best_effort_camera_is_told(found: list[Finding]) -> None:
    problem = next(f for f in found if f.check == "qos" and "/hasty/image" in f.found)
    assert problem.level == "error"
    assert problem.found == (
        "hasty offers /hasty/image best effort, but reliable is wanted by segmentation_node"
    )
    assert "set qos_reliability to auto" in problem.do


def test_use_sim_time_without_a_clock_is_told(found: list[Finding]) -> None:
    assert any(f.check == "clock" and f.level == "error" and "nobody" in f.found for f in found)
    assert any(f.check == "nodes" and "offers /hasty/image" in f.found for f in found)


def test_best_effort_images_that_are_lost_without_the_profile_are_told(
    ros: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros.domain))
    ros.start(CAMERA, "width=3840", "height=2160")
    ros.wait(lambda: ros.node.count_publishers("/camera/image"))
    lost = next(f for f in check_graph(["camera/image"], 2.0) if f.check == "camera")
    if lost.level == "ok":  # how many get through is the machine's matter
        pytest.skip(f"this machine loses none of them: {lost.found}")
    assert "follow profile" in lost.do
    assert "on both ends" in lost.do


# The command


def test_the_page_has_every_set_up_of_its_generator() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert page.startswith(doctor_page.HEAD)
    titles = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert titles == [case.title for case in doctor_page.CASES]
    assert page.count("$ echo $?\n1\n") == len(doctor_page.CASES) - 1


def doctor(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "seg_perception.cli", "doctor", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_a_healthy_set_up_has_no_error_and_speaks_json(ros: Graph) -> None:
    ros.start(CAMERA, RELIABLE)
    ros.start_node({"image": "/camera/image", "camera_info": "/camera/camera_info"}, model="tiny")
    ros.wait_for_status("segmenting")
    done = doctor("--json", "--seconds", "1", ROS_DOMAIN_ID=str(ros.domain))
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["version"] == __version__
    told = document["findings"]
    levels = {f["check"]: f["level"] for f in told}
    checks = ("profile", "model", "onnx runtime", "camera", "stamps", "camera_info", "nodes")
    assert {levels[c] for c in checks} == {"ok"}, told
    # A container of CI may lack shared memory: that is for the doctor to say.
    errors = {f["check"] for f in told if f["level"] == "error"}
    assert errors <= {"shared memory"}
    assert done.returncode == int(bool(errors))


def test_a_base_install_without_ros_and_rich_is_told_in_plain_words(
    make_model: Callable[..., Path],
) -> None:
    script = (
        "import sys\n"
        "for name in ('rclpy', 'rich', 'torch'): sys.modules[name] = None\n"
        "from seg_perception import cli\n"
        "from seg_perception.doctor import host\n"
        "there = host.installed_version\n"
        "host.installed_version = lambda name: '' if name in ('torch', 'rich') else there(name)\n"
        f"sys.exit(cli.main(['doctor', '--model', {str(make_model())!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert "rclpy is not installed for this Python" in done.stdout
    assert "no hash" in done.stdout
    assert "means: only .pt models and training need it" in done.stdout


def test_a_graph_that_cannot_start_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_nobody_cpp")
    (finding,) = check_graph([], 1.0)
    assert finding.level == "error"
    assert finding.means == "no node can start in this shell"


def test_a_time_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert seconds("2.5") == 2.5
    for bad in ("0", "-1", "soon", "nan", "9999"):
        with pytest.raises(argparse.ArgumentTypeError, match="no number of seconds"):
            seconds(bad)
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--seconds", "0"])
    assert "no number of seconds" in capsys.readouterr().err


def test_json_names_no_user_and_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_json.socket, "gethostname", lambda: "jetson-42")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("USER", "ada")
    found = Finding(
        "error", "models", "/home/ada/m.onnx is missing; /home/bob/x too; ada runs it on jetson-42",
        "adamant stays", "look into /opt/ros",
    )  # fmt: skip
    (told,) = json.loads(as_json.to_json([found], {}))["findings"]
    assert told["found"] == "~/m.onnx is missing; /home/*/x too; * runs it on *"
    assert (told["means"], told["do"]) == ("adamant stays", "look into /opt/ros")
