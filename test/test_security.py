"""The SROS 2 policy names what a live node does."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from graph import NODE, Graph

from seg_perception.nodes.label_info import LabelInfo

POLICY = Path(__file__).parent.parent / "config" / "sros2_policy.xml"
# With another transport, with simulated time, where vision_msgs is installed.
AT_TIMES = {"/camera/image_raw/compressed", "/clock"}
LABEL_INFO = set() if LabelInfo is None else {f"{NODE}/label_info"}


def allowed(what: str, action: str) -> set[str]:
    """Return the names that the policy allows, with ~ written out."""
    lists = ElementTree.parse(POLICY).iterfind(f".//profile/{what}[@{action}='ALLOW']")
    return {(name.text or "").replace("~", NODE, 1) for names in lists for name in names}


def test_the_policy_allows_what_the_node_does_and_nothing_else(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node(
        {"image": "/camera/image_raw", "camera_info": "/camera/camera_info"}, model=make_model()
    )
    ros.wait_for_status("nobody publishes")
    node = ros.node

    def names(of: Callable[[str, str], list[tuple[str, list[str]]]]) -> set[str]:
        return {topic for topic, _ in of(NODE.removeprefix("/"), "/")}

    said = allowed("topics", "publish") - {f"{NODE}/label_info"} | LABEL_INFO
    ros.wait(lambda: names(node.get_publisher_names_and_types_by_node) == said)
    heard = allowed("topics", "subscribe") - AT_TIMES
    assert names(node.get_subscriber_names_and_types_by_node) == heard
    answered = allowed("services", "reply")
    assert names(node.get_service_names_and_types_by_node) == answered
    assert names(node.get_client_names_and_types_by_node) == set()
