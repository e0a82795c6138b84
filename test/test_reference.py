"""docs/reference/ is what the code says, and what live nodes do."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from interface import BEST_EFFORT, LATCHED, NEWEST, NODES, RELIABLE, WITH_VISION_MSGS, Topic
from make_reference import FOLDER, pages
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from support.graph import Graph

from seg_perception.nodes.label_info import LabelInfo

# As the nodes are started below.
HOLDS = {
    "",
    "`image_transport` raw",
    "unless the model gives labels alone",
    "poses from parameters",
    *([WITH_VISION_MSGS] if LabelInfo is not None else []),
}
EVERY_NODE = {"/parameter_events", "/rosout"}
# By what the node does (says, hears, answers) and its name: type and quality of service.
Ends = dict[tuple[str, str], tuple[str, str]]


def test_the_pages_are_what_make_docs_writes() -> None:
    written = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert written == pages(), "run make docs, and commit docs/reference/"


def test_no_option_of_the_command_line_goes_without_a_word() -> None:
    rows = [line for line in pages()["cli.md"].splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("cameras", [[], ["front", "left"]], ids=["one_camera", "two_cameras"])
@pytest.mark.parametrize("name", NODES)
def test_live_nodes_hear_and_say_what_the_page_lists(
    ros: Graph, make_model: Callable[..., Path], name: str, cameras: list[str]
) -> None:
    parameters: dict[str, Any] = {"model": make_model()}
    if cameras:
        parameters["cameras"] = cameras
    if name == "occupancy_node":
        parameters["pose_source"] = "parameters"
    ros.start_node(executable=name, **parameters)
    ros.wait_for_status("nobody publishes")
    interface = NODES[name]
    listed = {
        **expected("says", interface.outputs, name, cameras),
        **expected("hears", interface.inputs, name, cameras),
        **{
            ("answers", s.replace("~", f"/{name}")): (kind, "") for s, kind, _ in interface.services
        },
    }
    # Discovery comes bit by bit.
    ros.wait(lambda: live(ros.node, name, listed) == listed, 10.0, must=False)
    assert live(ros.node, name, listed) == listed


def live(node: Node, name: str, listed: Ends) -> Ends:
    """Return what a running node says and hears, and which services it answers of those listed."""
    if name not in node.get_node_names():
        return {}
    said = node.get_publisher_names_and_types_by_node(name, "/")
    heard = node.get_subscriber_names_and_types_by_node(name, "/")
    answered = node.get_service_names_and_types_by_node(name, "/")
    theirs = EVERY_NODE | {f"/{name}/transition_event"}
    found: Ends = {}
    for topic, types in (entry for entry in said if entry[0] not in theirs):
        found["says", topic] = only(types), qos(node.get_publishers_info_by_topic(topic), name)
    for topic, types in heard:
        found["hears", topic] = only(types), qos(node.get_subscriptions_info_by_topic(topic), name)
    for service, types in answered:
        if ("answers", service) in listed:
            found["answers", service] = only(types), ""
    return found


def expected(how: str, topics: Iterable[Topic], name: str, cameras: list[str]) -> Ends:
    """Return type and quality of service of each topic that must be there."""
    found: Ends = {}
    for topic in (t for t in topics if t.when in HOLDS):
        own = f"/{name}/" if topic.name.startswith("~/") else "/"
        last = topic.name.removeprefix("~").removeprefix("/")
        policy = RELIABLE if topic.qos == NEWEST else topic.qos  # while nobody publishes
        for camera in cameras if topic.per_camera and cameras else [""]:
            below = f"{camera}/" if camera else ""
            found[how, f"{own}{below}{last}"] = topic.kind, policy
    return found


def only(types: list[str]) -> str:
    (kind,) = types
    return kind


def qos(ends: list[TopicEndpointInfo], name: str) -> str:
    """Return the quality of service of one node's ends, in the page's words."""
    said = set()
    for policies in (end.qos_profile for end in ends if end.node_name == name):
        reliability = policies.reliability.name.lower().replace("_", " ")
        is_latched = policies.durability is DurabilityPolicy.TRANSIENT_LOCAL
        said.add(f"{reliability}, transient local" if is_latched else reliability)
    return " and ".join(sorted(said))


def test_the_words_of_the_page_are_those_of_its_test() -> None:
    words = {t.qos for i in NODES.values() for t in (*i.inputs, *i.outputs)}
    assert words == {NEWEST, RELIABLE, BEST_EFFORT, LATCHED}
