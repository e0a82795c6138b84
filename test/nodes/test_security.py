"""The SROS 2 policy names what live nodes do."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from rclpy.node import NodeNameNonExistentError
from support.graph import Graph
from support.policy import OCCUPANCY, POLICY, SEGMENTATION, allowed

from seg_perception.launch_arguments import HEARD
from seg_perception.nodes.label_info import LabelInfo

# As robot.launch.py gives them.
REMAPS = {
    SEGMENTATION: {"image": "/camera/image_raw", "camera_info": "/camera/camera_info"},
    OCCUPANCY: {name: f"{SEGMENTATION}/{name}" for name in HEARD},
}
# With another transport, with simulated time, where tf2_ros tells poses.
AT_TIMES = {"/camera/image_raw/compressed", "/clock", "/tf", "/tf_static", "/tf2_frames"}
if LabelInfo is None:
    AT_TIMES |= {f"{SEGMENTATION}/label_info", f"{OCCUPANCY}/costmap/label_info"}
PARAMETERS = {SEGMENTATION: {}, OCCUPANCY: {"pose_source": "parameters"}}


@pytest.mark.parametrize("name", REMAPS)
def test_the_policy_allows_what_the_node_does_and_nothing_else(
    ros: Graph, make_model: Callable[..., Path], name: str
) -> None:
    ros.start_node(REMAPS[name], executable=name[1:], model=make_model(), **PARAMETERS[name])
    ros.wait_for_status("nobody publishes")
    node = ros.node

    def names(of: Callable[[str, str], list[tuple[str, list[str]]]]) -> set[str]:
        try:
            return {topic for topic, _ in of(name[1:], "/")}
        except NodeNameNonExistentError:  # its topics are discovered before its name
            return set()

    # Discovery brings one entity after the other.
    said = allowed(name, "topics", "publish") - AT_TIMES
    ros.wait(lambda: names(node.get_publisher_names_and_types_by_node) == said)
    heard = allowed(name, "topics", "subscribe") - AT_TIMES
    ros.wait(lambda: names(node.get_subscriber_names_and_types_by_node) == heard)
    answered = allowed(name, "services", "reply") - AT_TIMES
    ros.wait(lambda: names(node.get_service_names_and_types_by_node) == answered)
    assert names(node.get_client_names_and_types_by_node) == set()


def test_an_enclave_has_no_profile_but_its_nodes() -> None:
    enclaves = ElementTree.parse(POLICY).findall(".//enclave")
    found = [(e.get("path"), [p.get("node") for p in e.iter("profile")]) for e in enclaves]
    assert found == [(name, [name[1:]]) for name in REMAPS]
