"""A transition that fails is told, leaves nothing open, and may be tried again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from support.graph import Graph
from support.rig import PLACED

# Fast DDS refuses two messages on one topic of a process; nodes subscribe when they activate.
CLASH = "incompatible type"
NODES = {
    "segmentation_node": ("/image", {}),
    "occupancy_node": ("/label_mask", PLACED),
}


@pytest.mark.parametrize("node", NODES)
def test_an_activation_that_fails_is_told_and_leaves_nothing_open(
    ros: Graph, make_model: Callable[..., Path], node: str
) -> None:
    topic, parameters = NODES[node]
    process = ros.start_node(
        {"camera_info": topic}, **{"executable": node, "model": make_model(), **parameters}
    )
    for _ in range(2):  # by itself, then as it is told
        status = ros.wait_for_status(CLASH)
        assert status.level == b"\x02"
        ros.wait(lambda: ros.state() == "unconfigured")
        ros.wait(lambda: not ros.node.count_subscribers(topic))
        ros.wait(lambda: not ros.node.count_publishers(f"/{node}/camera_info"))
        assert ros.change_state(Transition.TRANSITION_CONFIGURE)
        ros.wait_for_status("inactive")
        assert not ros.change_state(Transition.TRANSITION_ACTIVATE)
    ros.wait_for_status(CLASH)
    assert ros.logs().count("cannot activate") == 3
    assert process.poll() is None


def test_an_activation_that_failed_can_be_mended(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node({"camera_info": "/image"}, model=make_model())
    ros.wait_for_status(CLASH)
    ros.wait(lambda: ros.state() == "unconfigured")
    assert ros.set("image_transport", "compressed").successful
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    ros.wait_for_status("nobody publishes /image/compressed")
    assert ros.values()["last_error"] == ""
