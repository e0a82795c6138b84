"""Write docs/reference/ from the code: make docs. A test compares the pages with what this writes.

The pages are the same under every Python: argparse's own help is not.
"""

import argparse
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from interface import NODES, Interface, Topic

import seg_perception
from seg_perception import errors
from seg_perception.cli import build_parser
from seg_perception.doctor.as_json import SCHEMA
from seg_perception.occupancy.parameters import ExtrinsicsParameters, OccupancyParameters
from seg_perception.parameters import Change, SegmentationParameters, Spec, name_of

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
WRITTEN = "Written by `make docs` from {source}; do not edit."
CHANGES = {
    Change.ALWAYS: "at any time",
    Change.UNCONFIGURED: "unconfigured",
    Change.START: "at start (read-only)",
}
TYPES = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string array"}


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    return {
        "parameters.md": "\n".join(_parameters()) + "\n",
        "topics.md": "\n".join(_topics()) + "\n",
        "cli.md": "\n".join(_commands()) + "\n",
        "python.md": "\n".join(_python()) + "\n",
        "doctor.schema.json": json.dumps(SCHEMA, indent=2) + "\n",
    }


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a Markdown table; | is escaped in its cells, and < where it would begin a tag."""
    lines = [list(head), *map(list, rows)]
    cells = [[_escaped(cell) for cell in line] for line in lines]
    cells.insert(1, ["---"] * len(cells[0]))
    return [f"| {' | '.join(line)} |" for line in cells]


def _escaped(cell: str) -> str:
    """Leave code in backticks as it is, but for |."""
    text = re.sub(r"(`[^`]*`)|<", lambda found: found[1] or r"\<", cell)
    return text.replace("|", r"\|")


# Python


def _python() -> Iterator[str]:
    yield "# In Python, without ROS\n"
    yield WRITTEN.format(source="the docstrings of seg_perception") + "\n"
    yield (
        "```python\n"
        "import cv2\n"
        "from seg_perception import Segmenter\n\n"
        'segmenter = Segmenter.load("default")\n'
        'labels, confidence, timing = segmenter(cv2.imread("street.jpg"), "bgr8")\n'
        "```\n"
    )
    yield "`from seg_perception import ...` imports what it names when it is first used.\n"
    for name in seg_perception.__all__:
        kind = getattr(seg_perception, name)
        yield f"## {name}\n"
        yield _docstring(kind) + "\n"
        for member, value in vars(kind).items():
            is_public = not member.startswith("_") or member == "__call__"
            if is_public and inspect.getdoc(value) and name == "Segmenter":
                yield f"### {_signature(member, value)}\n"
                yield _docstring(value) + "\n"
    yield "## Errors\n"
    yield "Each message names the value and the next step; all are SegPerceptionErrors.\n"
    found = [e for e in vars(errors).values() if inspect.isclass(e)]
    yield from table(
        ("error", "of"),
        ([f"`seg_perception.errors.{e.__name__}`", _docstring(e)] for e in found[1:]),
    )


def _signature(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"segmenter.{name}"
    function = member.__func__ if isinstance(member, classmethod) else member
    parameters = list(inspect.signature(function).parameters.values())[1:]
    shown = [str(p).partition(":")[0] + (f"={p.default!r}" if p.default is not p.empty else "")
             for p in parameters]  # fmt: skip
    first = next((n for n, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if first is not None:
        shown.insert(first, "*")
    owner = "Segmenter." if isinstance(member, classmethod) else "segmenter."
    called = "segmenter" if name == "__call__" else owner + name
    return f"{called}({', '.join(shown)})"


def _docstring(member: Any) -> str:
    return inspect.cleandoc(inspect.getdoc(member) or "")


# Parameters


def _parameters() -> Iterator[str]:
    yield "# Parameters\n"
    yield WRITTEN.format(source="parameters.py and occupancy/parameters.py") + "\n"
    yield (
        "Give them in a YAML file (`params_file:=robot.yaml` of robot.launch.py) or with `-p "
        "name:=value` behind `--ros-args`. The last column tells when one may be set: "
        "`unconfigured` is before `ros2 lifecycle set NODE configure`, or after `deactivate` and "
        "`cleanup`. A value out of range is refused with the reason; given at start, it keeps the "
        "node unconfigured, and `/diagnostics` tells why. `use_sim_time` is ROS's own.\n"
    )
    mounts = {f.name for f in fields(ExtrinsicsParameters)}
    yield "## segmentation_node\n"
    yield from _parameter_table(fields(SegmentationParameters))
    yield "\n## occupancy_node\n"
    yield from _parameter_table(f for f in fields(OccupancyParameters) if f.name not in mounts)
    yield "\n## Where a camera stands: occupancy_node\n"
    yield (
        "With names in `cameras` each camera has these under its own name, as in "
        "`front.camera_x`. They count where poses come from parameters; `camera_frame` always "
        "does. The camera's body (x forward, y left, z up) stands in `base_frame` turned by "
        "R = Rz(yaw) Ry(pitch) Rx(roll).\n"
    )
    yield from _parameter_table(fields(ExtrinsicsParameters))


def _parameter_table(entries: Iterable["Field[Any]"]) -> list[str]:
    head = "parameter", "type", "default", "range", "meaning", "may be set"
    return table(head, map(_parameter_row, entries))


def _parameter_row(entry: "Field[Any]") -> tuple[str, ...]:
    spec: Spec = entry.metadata["spec"]
    kind = TYPES[type(entry.default)]
    when = CHANGES[spec.change]
    return f"`{name_of(entry)}`", kind, show(entry.default), _range(spec), spec.text, when


def show(value: Any) -> str:
    """Return a parameter's value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _range(spec: Spec) -> str:
    if spec.choices:
        return ", ".join(spec.choices)
    if spec.low is None or spec.high is None:
        return ""
    return f"{spec.low:g} to {spec.high:g}"


# Topics


def _topics() -> Iterator[str]:
    yield "# Topics and services\n"
    yield WRITTEN.format(source="tools/interface.py, which tests compare with live nodes") + "\n"
    yield (
        "`~` is the node's name, as in `/segmentation_node/label_mask`. With names in `cameras`, "
        "what is marked * stands below each camera's name: `front/image`, `~/front/label_mask`. "
        "Every output has the stamp of the image it came from. Inputs keep the newest message "
        "alone; `qos_reliability: auto` is reliable while every publisher offers that, and best "
        "effort otherwise. vision_msgs is `ros-$ROS_DISTRO-vision-msgs`.\n"
    )
    for name, interface in NODES.items():
        yield f"## {name}\n"
        yield from _interface(interface)
    yield "Both nodes also have the topics and services of every ROS 2 node and lifecycle node."


def _interface(interface: Interface) -> Iterator[str]:
    head = "type", "quality of service", "meaning", "there"
    yield from table(("input", *head), map(_topic_row, interface.inputs))
    yield ""
    yield from table(("output", *head), map(_topic_row, interface.outputs))
    yield ""
    if interface.services:
        rows = ((f"`{name}`", kind, text) for name, kind, text in interface.services)
        yield from table(("service", "type", "meaning"), rows)
        yield ""


def _topic_row(topic: Topic) -> tuple[str, ...]:
    name = f"`{topic.name}`" + " *" * topic.per_camera
    return name, topic.kind.replace("/msg/", "/"), topic.qos, topic.text, topic.when or "always"


# Commands


def _commands() -> Iterator[str]:
    yield "# seg-perception\n"
    yield WRITTEN.format(source="seg_perception/cli.py") + "\n"
    yield (
        "In a colcon workspace every command is `ros2 run seg_perception seg-perception "
        "COMMAND`. Exit status: 0 good; 1 a verdict or an input that failed; 2 wrong usage; 130 "
        "after Ctrl-C.\n"
    )
    yield from _parser_pages(build_parser(), "seg-perception")


def _parser_pages(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    """Yield a section for each command below a parser."""
    for choices in (a for a in parser._actions if isinstance(a, argparse._SubParsersAction)):
        helps = {a.dest: a.help or "" for a in choices._choices_actions}
        for word, command in choices.choices.items():
            full = f"{name} {word}"
            yield f"## {full}\n"
            yield _sentence(helps[word]) + "\n"
            rows = [_option_row(a) for a in command._actions if _is_shown(a)]
            if rows:
                yield from table(("argument", "default", "meaning"), rows)
                yield ""
            yield from _parser_pages(command, full)


def _is_shown(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)


def _option_row(action: argparse.Action) -> tuple[str, str, str]:
    value = "" if action.nargs == 0 else _placeholder(action)
    names = ", ".join(action.option_strings)
    name = f"`{f'{names} {value}'.strip()}`"
    text = (action.help or "") % {**vars(action), "prog": "seg-perception"}
    return name, _default(action), _sentence(text) if text else ""


def _placeholder(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    return f"{name} ..." if action.nargs in ("*", "+") else str(name)


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    if action.default is None or action.default is False or action.default == []:
        return ""
    return str(action.default)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "."


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page, content in pages().items():
        (FOLDER / page).write_text(content, "utf-8")
