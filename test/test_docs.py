"""Every page can be followed: its links lead somewhere, and its commands exist."""

import argparse
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.paths import ROOT

from seg_perception.cli import build_parser
from seg_perception.occupancy.parameters import ExtrinsicsParameters, OccupancyParameters
from seg_perception.parameters import SegmentationParameters, specs

PAGES = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "benchmarks", "seg_perception") for path in
      (ROOT / folder).rglob("*.md")),
]  # fmt: skip
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")
ELSEWHERE = ("http://", "https://", "mailto:")
NODES = {"segmentation_node": SegmentationParameters, "occupancy_node": OccupancyParameters}
COMMAND = ("ros2", "run", "seg_perception")


def anchors(page: Path) -> set[str]:
    """Return what may stand behind #, as GitHub names headings."""
    text = FENCE.sub("", page.read_text("utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(known == slug or known.startswith(f"{slug}-") for known in found)
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for link in (x for x in LINK.findall(text) if not x.startswith(ELSEWHERE)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.relative_to(ROOT)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.relative_to(ROOT)}: no {link}"


def commands(page: Path) -> Iterator[list[str]]:
    """Return the words of each line of each block of code; \\ continues a line."""
    for block in BLOCK.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a line of Python or of output, with a single apostrophe
                continue
            if words:
                yield words


def test_every_option_that_a_page_gives_to_seg_perception_exists() -> None:
    count = 0
    for page in PAGES:
        for words in commands(page):
            if words[:4] == [*COMMAND, "seg-perception"]:
                words = words[3:]
            if words[0] == "seg-perception" and "[--json]" not in words:
                check_options(words[1:], f"{page.name}: {' '.join(words)}")
                count += 1
    assert count


def check_options(words: list[str], where: str) -> None:
    parser = build_parser()
    while subparsers := [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]:
        choices = subparsers[0].choices
        if not words or words[0] not in choices:
            assert words == [] or words[0].startswith("-"), where
            break
        parser, words = choices[words[0]], words[1:]
    for word in (w.partition("=")[0] for w in words if re.match("--?[a-z]", w)):
        assert word in parser._option_string_actions, f"{where}: no {word}"


def test_every_argument_that_a_page_gives_to_a_launch_file_exists() -> None:
    count = 0
    for page in PAGES:
        for words in commands(page):
            if words[:3] != ["ros2", "launch", "seg_perception"]:
                continue
            launch_file = ROOT / "launch" / words[3]
            source = launch_file.read_text("utf-8")
            source += (ROOT / "seg_perception" / "launch_arguments.py").read_text("utf-8")
            for argument in (w.partition(":=")[0] for w in words[4:] if ":=" in w):
                assert f'"{argument}"' in source, f"{page.name}: {' '.join(words)}"
                count += 1
    assert count


def test_every_parameter_that_a_page_gives_to_a_node_exists() -> None:
    count = 0
    for page in PAGES:
        for words in commands(page):
            if words[:3] != list(COMMAND) or words[3] not in NODES:
                continue
            known = {*specs(NODES[words[3]]), "use_sim_time"}
            for flag, word in pairwise(words):
                if flag == "-p":
                    assert word.partition(":=")[0] in known, f"{page.name}: {' '.join(words)}"
                    count += 1
    assert count


def test_every_parameter_in_yaml_that_a_page_shows_exists() -> None:
    known = {"use_sim_time"}.union(*(specs(parameters) for parameters in NODES.values()))
    count = 0
    for page in PAGES:
        for text in (b for b in BLOCK.findall(page.read_text("utf-8")) if "ros__parameters" in b):
            (given,) = yaml.safe_load(text).values()
            for name in flat(given["ros__parameters"]):
                mounted = name.partition(".")[2] in specs(ExtrinsicsParameters)
                assert name in known or mounted, f"{page.name}: {name}"
                count += 1
    assert count


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Return the names of nested parameters, with dots."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name
