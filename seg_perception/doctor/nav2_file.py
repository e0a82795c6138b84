"""A parameters file of Nav2, read as ROS reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from seg_perception.doctor import nav2
from seg_perception.doctor.finding import Finding, error
from seg_perception.errors import DataError
from seg_perception.nav2.parameters import Parameters, is_costmap, read_nodes


def check_file(path: Path) -> Iterator[Finding]:
    """Judge every costmap and collision monitor of a file; what cannot be read is an error."""
    try:
        nodes = read_nodes(path)
    except DataError as problem:
        yield error(
            "nav2", str(problem), "Nav2 does not start with it",
            "correct the file; YAML knows no tabs",
        )  # fmt: skip
        return
    yield from _refused_by_ros(path.read_text("utf-8"))
    judges = {
        name: judge for name, values in nodes.items() if (judge := _judge(name, values)) is not None
    }
    if not judges:
        yield error(
            "nav2", f"{path} holds no costmap and no collision monitor",
            "there is nothing to check", "give the parameters file that Nav2 is started with",
        )  # fmt: skip
    for name, judge in judges.items():
        yield from map(nav2.titled, judge(name, nodes[name]))


def _judge(name: str, values: Parameters) -> Any:
    if is_costmap(name, values):
        return nav2.check_costmap
    return nav2.check_monitor if name.endswith("collision_monitor") else None


def _refused_by_ros(text: str) -> list[Finding]:
    """Return what YAML allows and the parser of ROS does not."""
    return [
        error(
            "nav2", f"line {token.start_mark.line + 1} has the anchor or alias {token.value!r}",
            "the parser of ROS knows none: no node starts with this file", "write it out",
        )
        for token in yaml.scan(text)
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken)
    ]  # fmt: skip
