"""What seg-perception doctor does with its options."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from seg_perception.doctor import graph, host, middleware, models
from seg_perception.doctor.finding import Finding, error, warning
from seg_perception.doctor.observation import Observation
from seg_perception.doctor.printing import print_findings, to_json

PATIENCE = 30.0  # seconds beyond those of listening in which the observer must end


def run(options: argparse.Namespace) -> int:
    """Print every finding; 0 when none is an error, 1 otherwise."""
    findings = list(examine(options))
    print(to_json(findings)) if options.json else print_findings(findings)
    return int(any(f.level == "error" for f in findings))


def examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Look at machine, middleware, models and graph, in this order."""
    yield from host.check(os.environ, sys.version_info[:3])
    yield from middleware.check(os.environ, host.installed_version)
    yield from models.check(options.model, options.provider, host.installed_version)
    yield from check_graph(options.topic, options.seconds)


def check_graph(topics: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Let a process of its own look at the graph, in this shell's environment, and judge it."""
    if importlib.util.find_spec("rclpy") is None:
        yield (error if topics else warning)(
            "graph",
            "rclpy is not installed for this Python",
            "nodes do not run here, and the graph was not looked at; evaluate, label and map work",
            "source /opt/ros/<distro>/setup.bash, or pip install '.[ros]' in its source",
        )
        return
    command = [sys.executable, "-m", "seg_perception.nodes.doctor_graph", str(seconds), *topics]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, said = process.communicate(timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, said = process.communicate()
    if process.returncode:
        yield error(
            "graph",
            (said.strip().splitlines() or ["the observer ended without a word"])[-1],
            "no node can start in this shell",
            "repair what it names: RMW_IMPLEMENTATION, ROS_DOMAIN_ID, the ROS of this Python",
        )
        return
    yield from graph.check(Observation.from_dict(json.loads(out.splitlines()[-1])))
