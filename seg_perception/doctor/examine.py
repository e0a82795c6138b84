"""Everything that the doctor examines, in its order."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from seg_perception.doctor import host, middleware, model_files, nav2_file, nav2_graph, ros_graph
from seg_perception.doctor.finding import Finding, error, warning
from seg_perception.doctor.observation import Observation

OBSERVER_GRACE_S = 30.0  # seconds beyond those of listening in which the observer must end


def examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Look at machine, middleware, models and graph, in this order; or at Nav2."""
    if options.yaml is not None:
        yield from nav2_file.check_file(options.yaml)
        return
    if options.nav2 is not None:
        yield from check_nav2(options.nav2, options.seconds)
        return
    yield from host.check(os.environ, sys.version_info[:3])
    yield from middleware.check(os.environ, host.installed_version)
    yield from model_files.check(options.model, options.provider, host.installed_version)
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
    seen = _observe("seg_perception.doctor.probe_graph", seconds, topics)
    if isinstance(seen, Finding):
        yield seen
    else:
        yield from ros_graph.check(Observation.from_dict(seen))


def check_nav2(names: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Let a process of its own ask Nav2's nodes, and judge their answers."""
    asked = [f"/{name.lstrip('/')}" for name in names] or nav2_graph.DEFAULT_NODES
    seen = _observe("seg_perception.doctor.probe_nav2", seconds, asked)
    if isinstance(seen, Finding):
        yield seen
    else:
        nodes = [nav2_graph.Nav2Node.from_dict(values) for values in seen]
        yield from nav2_graph.check(nodes, are_named=bool(names))


def _observe(module: str, seconds: float, arguments: Sequence[str]) -> Any:
    """Return what a process of ours prints as JSON, or the finding that it failed."""
    command = [sys.executable, "-m", module, str(seconds), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, said = process.communicate(timeout=seconds * (1 + len(arguments)) + OBSERVER_GRACE_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, said = process.communicate()
    if process.returncode:
        return error(
            "graph",
            (said.strip().splitlines() or ["the observer ended without a word"])[-1],
            "no node can start in this shell",
            "repair what it names: RMW_IMPLEMENTATION, ROS_DOMAIN_ID, the ROS of this Python",
        )
    return json.loads(out.splitlines()[-1])
