"""The doctor knows what FASTDDS_BUILTIN_TRANSPORTS does to images, and when nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import graph
from support.graph import Graph
from support.paths import SUPPORT

from seg_perception.doctor import middleware, transports
from seg_perception.doctor.examine import check_graph
from seg_perception.launch_arguments import PROFILE_VARIABLES

CAMERA = str(SUPPORT / "doctor_camera.py")
FAST = PROFILE_VARIABLES[0]
MB = 2**20


@pytest.mark.parametrize(
    ("value", "level", "said"),
    [
        ("LARGE_DATA", "note", "whose size is not named"),
        ("LARGE_DATAv6?tcp_negotiation_timeout=50", "note", "whose size is not named"),
        ("LARGE_DATA?sockets_size=32MIB", "note", "64 MB of shared memory"),
        ("LARGE_DATA?max_msg_size=1MB&sockets_size=1MB", "warning", "1 MB of shared memory"),
        ("LARGE_DATA?non_blocking=true", "note", "TCP drops them"),
        ("LARGE_DATA?max_msg_size=2MB&sockets_size=1MB", "error", "2000000 bytes do not fit"),
        ("LARGE_DATA?max_msg_size=7MB&sockets_size=14MB", "error", "sockets of 4194304"),
        ("LARGE_DATA?max_msg_size=7MB", "error", "sockets of 4194304"),
        ("LARGE_DATA?colour=red", "warning", "which Fast DDS does not understand"),
        ("LARGE", "warning", "which Fast DDS does not understand"),
        ("UDPv4", "warning", "no Fast DDS profile in this shell, and FASTDDS_BUILTIN_TRANSPORTS="),
    ],
)
def test_large_data_is_judged_by_its_options_and_the_kernels_buffers(
    value: str, level: str, said: str
) -> None:
    found = middleware.check_profile({transports.VARIABLE: value}, "kilted", 4 * MB)
    assert (found.level, said in " ".join(found)) == (level, True), found


def test_large_data_is_told_to_be_of_no_effect_where_others_choose_the_transports() -> None:
    large = {transports.VARIABLE: "LARGE_DATA"}
    for local in ({transports.RANGE: "LOCALHOST"}, {"ROS_LOCALHOST_ONLY": "1"}):
        found = middleware.check_profile({**large, **local}, "kilted")
        ((name, value),) = local.items()
        assert found.level == "warning"
        assert f"LARGE_DATA has no effect with {name}={value}" in found.found
    found = middleware.check_profile({**large, FAST: graph.PROFILE}, "kilted")
    assert found.level == "note"
    assert "64 MB of shared memory; FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA has no" in found.found


def test_a_profile_that_leaves_the_transports_alone_lets_large_data_count(tmp_path: Path) -> None:
    own = tmp_path / "own.xml"
    own.write_text("<dds><domain_id>3</domain_id></dds>")
    environment = {FAST: str(own), transports.VARIABLE: "LARGE_DATA"}
    assert "whose size is not named" in middleware.check_profile(environment, "kilted").means
    assert middleware.carrier_of(environment, "kilted") == "tcp"


@pytest.mark.parametrize(
    ("environment", "carrier"),
    [
        ({}, "shared"),
        ({transports.VARIABLE: "LARGE_DATA"}, "tcp"),
        ({transports.VARIABLE: "UDPv4"}, "udp"),
        ({transports.VARIABLE: "SHM"}, "shared"),
        ({transports.VARIABLE: "LARGE_DATA", transports.RANGE: "LOCALHOST"}, "shared"),
        ({transports.VARIABLE: "LARGE_DATA", FAST: graph.PROFILE}, "shared"),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "udp"),
    ],
)
def test_what_carries_images_follows_from_the_shell(
    environment: Mapping[str, str], carrier: str
) -> None:
    assert middleware.carrier_of(environment, "kilted") == carrier


def test_large_data_lets_large_best_effort_images_arrive(
    ros: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros.domain))
    monkeypatch.setenv(transports.VARIABLE, "LARGE_DATA?sockets_size=32MIB")
    monkeypatch.setenv(transports.RANGE, "SUBNET")  # where ROS lets the variable count
    name = f"camera_{os.getpid()}"  # for other computers may hear it
    ros.start(CAMERA, f"name={name}", "width=1920", "height=1080")
    came = next(f for f in check_graph([f"{name}/image"], 2.0) if f.check == "camera")
    assert came.level in ("ok", "warning"), came  # a busy machine may lose some
    told = middleware.check_profile(os.environ, "kilted")
    assert (told.level, "64 MB of shared memory" in told.found) == ("note", True), told
