"""Nothing of ours talks to anyone but ROS, and nothing is written that nobody asked for."""

import importlib.metadata
import ipaddress
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version
from support.graph import Graph
from support.paths import ROOT

SEGMENTS = """
import sys, time
import numpy as np
from seg_perception.segmenter import Segmenter
segmenter = Segmenter.load("tiny")
end, image = time.monotonic() + float(sys.argv[1]), np.zeros((360, 480, 3), np.uint8)
for n in range(50):
    segmenter(image)
    time.sleep(max(0.0, (end - time.monotonic()) / (50 - n)))
"""
BARE = SEGMENTS.replace("import sys, time", "import sys, time\nimport onnxruntime")
# ONNX Runtime sends nothing from where one of these says that a build server runs it.
BUILD_SERVERS = (
    "CI", "TF_BUILD", "GITHUB_ACTIONS", "APPVEYOR", "TRAVIS", "CIRCLECI", "JENKINS_URL",
    "CODEBUILD_BUILD_ID", "BUILD_ID", "TEAMCITY_VERSION", "JB_SPACE_API_URL",
)  # fmt: skip
DDS_PORTS = range(7400, 65536)
HAS_TELEMETRY = Version(importlib.metadata.version("onnxruntime")) >= Version("1.29")
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: sudo apt install strace"
)


def environment(home: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a process whose HOME and temporary folder are below `home`."""
    homes = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    names = (*homes, *BUILD_SERVERS, "ORT_DISABLE_TELEMETRY")
    kept = {k: v for k, v in os.environ.items() if k not in names}
    (home / "tmp").mkdir(parents=True)
    return {**kept, "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1", **changes}  # fmt: skip


def files_after(home: Path, code: str, seconds: float, **changes: str) -> list[str]:
    """Run `code` in an empty HOME; return the files that it left there."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(seconds)], cwd=home.parent, timeout=120,
        env=environment(home, **changes), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sorted(str(p.relative_to(home.parent)) for p in home.parent.rglob("*") if p.is_file())


def addresses(trace: Path) -> Iterator[tuple[str, int]]:
    """Yield each address and port that a traced process named in a call that sends or connects."""
    calls = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(")
    where = re.compile(
        r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([0-9a-fA-F.:]+)"'
    )
    for line in trace.read_text(errors="replace").splitlines():
        if calls.search(line):
            yield from ((address, int(port)) for port, address in where.findall(line))


def is_allowed(address: str, port: int) -> bool:
    """Return whether an address is loopback, or DDS on this machine or by multicast."""
    place = ipaddress.ip_address(address)
    return place.is_loopback or (port in DDS_PORTS and (place.is_multicast or place.is_private))


@pytest.mark.parametrize(
    "seconds", [5, pytest.param(40, marks=[pytest.mark.heavy, pytest.mark.timeout(200)])]
)
def test_a_process_that_segments_leaves_no_file(seconds: float, tmp_path: Path) -> None:
    assert files_after(tmp_path / "home", SEGMENTS, seconds) == []


@needs_strace
@pytest.mark.parametrize(
    "seconds", [5, pytest.param(40, marks=[pytest.mark.heavy, pytest.mark.timeout(200)])]
)
def test_a_process_that_segments_opens_no_socket(seconds: float, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-e", "trace=network", "-o", str(trace), sys.executable, "-c", SEGMENTS,
         str(seconds)], env=environment(tmp_path / "home"), check=True, timeout=150,
    )  # fmt: skip
    said = trace.read_text(errors="replace")
    assert "exited with 0" in said  # strace saw the whole run
    assert "socket(" not in said


@needs_strace
@pytest.mark.parametrize(
    "seconds", [5, pytest.param(40, marks=[pytest.mark.heavy, pytest.mark.timeout(200)])]
)
def test_a_node_talks_to_dds_alone(seconds: float, ros: Graph, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    here = [word for name in BUILD_SERVERS for word in ("-u", name)]
    ros.wrapper = ["env", *here, "strace", "-f", "-e", "trace=network", "-o", str(trace)]
    ros.start_node(model="tiny")
    ros.wait_for_status("nobody publishes /image")
    ros.spin(seconds)
    seen = set(addresses(trace))
    assert seen  # DDS at least
    assert {place for place in seen if not is_allowed(*place)} == set()


@pytest.mark.skipif(not HAS_TELEMETRY, reason="this ONNX Runtime has no telemetry")
def test_who_allows_telemetry_keeps_his_choice_and_the_check_sees_it(tmp_path: Path) -> None:
    left = files_after(tmp_path / "home", SEGMENTS, 5, ORT_DISABLE_TELEMETRY="0")
    assert any("deviceid" in name for name in left)


@pytest.mark.skipif(not HAS_TELEMETRY, reason="this ONNX Runtime has no telemetry")
@needs_strace
@pytest.mark.heavy
def test_the_trace_sees_the_look_up_of_onnx_runtime_by_itself(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-e", "trace=network", "-o", str(trace), sys.executable, "-c", BARE, "15"],
        env=environment(tmp_path / "home"), check=True, timeout=100,
    )  # fmt: skip
    assert [place for place in addresses(trace) if not is_allowed(*place)]


def test_every_script_imports_us_before_onnx_runtime() -> None:
    """Importing seg_perception sets the switch; conftest.py does so for all tests."""
    assert os.environ["ORT_DISABLE_TELEMETRY"]
    for folder in ("benchmarks", "tools", "launch"):
        for script in (ROOT / folder).glob("*.py"):
            assert "import onnxruntime" not in script.read_text(), script
