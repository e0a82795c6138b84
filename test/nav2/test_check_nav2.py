"""tools/check_nav2.py passes a costmap that is right, and finds what is wrong with others."""

import subprocess
import sys
from importlib import resources

import pytest
from support.graph import Graph
from support.nav2_config import CONFIG
from support.paths import ROOT, SUPPORT

TOOL = str(ROOT / "tools" / "check_nav2.py")
COSTMAP = str(SUPPORT / "costmap_stand_in.py")
CLIP = str(resources.files("seg_perception") / "clip" / "bag")

# It judges how fast a costmap is.
pytestmark = [pytest.mark.alone, pytest.mark.timeout(200)]


def check(ros: Graph, *options: str, fault: str = "") -> "subprocess.CompletedProcess[str]":
    costmap = f"{sys.executable} {COSTMAP} {{params}}" + (f" --fault {fault}" if fault else "")
    return subprocess.run(
        [sys.executable, TOOL, "--play", CLIP, "--params", str(CONFIG), "--costmap-command",
         costmap, "--camera", "0", "0", "1.4", "0", "0.05", "0", *options],
        env=ros.environment, capture_output=True, text=True,
        timeout=150,
    )  # fmt: skip


def test_a_right_costmap_passes_in_both_orders(ros: Graph) -> None:
    done = check(ros, "--seconds", "6", "--times", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert len(lines) == 7, done.stdout
    assert "WRONG" not in done.stdout


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("mute", "stale inf s after segmentation_node died"),
        pytest.param(
            "blind", "cells of ~/obstacles that are lethal; 100% or more", marks=pytest.mark.heavy
        ),
        pytest.param(
            "mortal", "our nodes first: the costmap lived in 0 of 1 starts", marks=pytest.mark.heavy
        ),
    ],
)
def test_a_costmap_with_a_fault_does_not(ros: Graph, fault: str, line: str) -> None:
    done = check(ros, "--seconds", "6", "--times", "1" if fault == "mortal" else "0", fault=fault)
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = [said for said in done.stdout.splitlines() if said.startswith("WRONG")]
    assert any(line in said for said in wrong), done.stdout


def test_a_costmap_that_the_file_lacks_is_named(ros: Graph) -> None:
    done = check(ros, "--costmap", "/nowhere")
    assert done.returncode == 2
    assert "has no costmap nowhere; it has local_costmap/local_costmap" in done.stderr
