"""What rviz2 and Foxglove are told to show exists, as the nodes publish it."""

import json
import re
from typing import Any

import pytest
import yaml
from support.paths import ROOT
from support.policy import OCCUPANCY, SEGMENTATION, allowed

CONFIG = ROOT / "config"
# What live nodes are compared with: the policy.
PUBLISHED = allowed(SEGMENTATION, "topics", "publish") | allowed(OCCUPANCY, "topics", "publish")
GRIDS = {topic for topic in PUBLISHED if "/grid/" in topic}
SHOWN = {f"{SEGMENTATION}/overlay", f"{SEGMENTATION}/label_mask", f"{OCCUPANCY}/obstacles", *GRIDS}
LAYOUT = json.loads((CONFIG / "foxglove.json").read_text())
# The kinds of panels and what their settings are called: Foxglove's SDK, module foxglove.layouts.
PANELS = {"3D", "Image", "DiagnosticSummary", "Plot"}


def displays() -> list[dict[str, Any]]:
    text = (CONFIG / "segmentation.rviz").read_text()
    return [d for d in yaml.safe_load(text)["Visualization Manager"]["Displays"] if "Topic" in d]


def leaves(tree: Any) -> list[str]:
    """Return the panels that a tree of halves places."""
    if isinstance(tree, str):
        return [tree]
    assert tree["direction"] in ("row", "column")
    assert 0 < tree["splitPercentage"] < 100
    return [*leaves(tree["first"]), *leaves(tree["second"])]


def foxglove_topics() -> set[str]:
    found: set[str] = set()
    for panel in LAYOUT["configById"].values():
        image = panel.get("imageMode", {})
        found |= {image[key] for key in ("imageTopic", "calibrationTopic") if key in image}
        found |= set(panel.get("topics", {}))
        found |= {path["value"].partition(".")[0] for path in panel.get("paths", [])}
        found |= {panel["topicToRender"]} if "topicToRender" in panel else set()
    return found


def test_rviz_shows_topics_that_the_nodes_publish() -> None:
    topics = [display["Topic"]["Value"] for display in displays()]
    assert len(topics) == len(set(topics))
    assert SHOWN <= set(topics) <= PUBLISHED


def test_rviz_asks_for_what_is_offered() -> None:
    kinds = {"Image": "Volatile", "PointCloud2": "Volatile", "Map": "Transient Local"}
    for display in displays():
        kind = display["Class"].removeprefix("rviz_default_plugins/")
        assert (display["Topic"]["Value"] in GRIDS) == (kind == "Map")
        assert display["Topic"]["Durability Policy"] == kinds[kind]
        assert display["Topic"]["Reliability Policy"] == "Reliable"


def test_foxglove_shows_topics_that_the_nodes_publish() -> None:
    assert SHOWN | {"/diagnostics"} <= foxglove_topics() <= PUBLISHED


def test_foxglove_places_each_panel_once() -> None:
    placed = leaves(LAYOUT["layout"])
    assert sorted(placed) == sorted(LAYOUT["configById"])
    assert {name.partition("!")[0] for name in placed} == PANELS


@pytest.mark.parametrize("node", [SEGMENTATION, OCCUPANCY])
def test_foxglove_plots_ages_that_diagnostics_hold(node: str) -> None:
    paths = [
        p["value"] for p in LAYOUT["configById"]["Plot!age"]["paths"] if node[1:] in p["value"]
    ]
    form = r'/diagnostics\.status\[:\]{name=="(.+)"}\.values\[:\]{key=="(.+)"}\.value'
    names = [re.fullmatch(form, path).groups() for path in paths]
    topic = node[1:].removesuffix("_node")
    assert names == [(f"{node[1:]}: {topic}", f"age_p{share}_ms") for share in (50, 95)]
