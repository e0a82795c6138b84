"""Nodes say themselves, within two seconds, whom they cannot hear and which clock is wrong."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from support.graph import NODE, Graph
from support.rig import PLACED, Rig

from seg_perception.clocks import StampWatch, disagreement
from seg_perception.qos import REMEDIES, Endpoint, mismatch

Make = Callable[..., Path]
SECOND = 10**9
SOON = 2.0  # seconds
OLD = "play a bag with --clock and set use_sim_time to true"


def end(
    reliability: str = "reliable", durability: str = "volatile", kind: str = "Image"
) -> Endpoint:
    return Endpoint("camera", f"sensor_msgs/msg/{kind}", reliability, durability)


@pytest.mark.parametrize(
    ("offered", "wanted", "policy", "said"),
    [
        (end("best_effort"), end(), "reliability", "offers /a best effort, but reliable is wanted"),
        (end(), end("reliable", "transient_local"), "durability", "but transient local is wanted"),
        (
            end(kind="CompressedImage"),
            end(),
            "type",
            "offers /a as sensor_msgs/msg/CompressedImage",
        ),
    ],
)
def test_what_is_offered_and_what_is_wanted_are_named(
    offered: Endpoint, wanted: Endpoint, policy: str, said: str
) -> None:
    found = mismatch("/a", offered, wanted)
    assert found is not None
    assert found.policy == policy
    assert said in found.text
    assert REMEDIES[policy]


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (end(), end("best_effort")),
        (end("reliable", "transient_local"), end()),
        (end("unknown", "unknown"), end("reliable", "transient_local")),
    ],
)
def test_what_offers_enough_matches(offered: Endpoint, wanted: Endpoint) -> None:
    assert mismatch("/a", offered, wanted) is None


@pytest.mark.parametrize(
    ("stamp", "clock", "is_simulated", "said"),
    [
        (1000 * SECOND, 0, True, "/clock says nothing"),
        (1000 * SECOND, 2000 * SECOND, False, "1000.000 s and the clock says 2000.000 s"),
        (2000 * SECOND, 1000 * SECOND, False, "1000.000 s earlier: play a bag with --clock"),
        (2000 * SECOND, 1000 * SECOND, True, "play camera and /clock from one bag"),
        (0, 1000 * SECOND, False, "set the stamp in the camera's driver"),
    ],
)
def test_stamp_and_clock_that_disagree_are_both_named(
    stamp: int, clock: int, is_simulated: bool, said: str
) -> None:
    assert said in disagreement(stamp, clock, is_simulated=is_simulated)


@pytest.mark.parametrize("is_simulated", [True, False])
def test_a_slow_camera_is_no_other_clock(is_simulated: bool) -> None:
    assert disagreement(SECOND, 5 * SECOND, is_simulated=is_simulated) == ""


def test_a_disagreement_is_news_once_and_a_problem_while_it_lasts() -> None:
    watch = StampWatch()
    assert watch.first_warning(is_simulated=False) == ""
    watch.on_image(SECOND, 100 * SECOND)
    assert OLD in watch.first_warning(is_simulated=False)
    watch.on_image(2 * SECOND, 101 * SECOND)
    assert watch.first_warning(is_simulated=False) == ""
    assert OLD in watch.problem(is_simulated=False)
    watch.on_image(101 * SECOND, 101 * SECOND)
    assert watch.problem(is_simulated=False) == ""


def seconds_until(ros: Graph, text: str) -> float:
    """Return how long a status that holds `text` takes to come, in seconds."""
    started = time.monotonic()
    ros.wait_for_status(text)
    return time.monotonic() - started


@pytest.mark.alone
def test_a_best_effort_camera_beside_a_good_one_is_told_while_images_come(
    ros: Graph, make_model: Make, halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    good = ros.camera()
    ros.start_node(model=make_model(), qos_reliability="reliable")
    ros.ask(good, ros.image_message(halves), masks)
    ros.camera(reliable=False)
    said = "tester offers /image best effort, but reliable is wanted: set qos_reliability to auto"
    assert seconds_until(ros, said) < SOON
    ros.spin(1.5)
    assert ros.logs().count(said) == 1


def test_camera_info_that_cannot_be_heard_is_told_by_both_nodes(
    ros: Graph, make_model: Make
) -> None:
    said = "tester offers /camera_info best effort"
    ros.camera(CameraInfo, "/camera_info", reliable=False)
    ros.start_node(model=make_model(), qos_reliability="reliable")
    ros.start_node(model=make_model(), qos_reliability="reliable", **PLACED)
    for node in ("segmentation_node", "occupancy_node"):
        ros.wait(
            lambda node=node: any(
                said in s.message for a in ros.diagnostics for s in a.status if node in s.name
            )
        )


@pytest.mark.alone
def test_a_bag_that_plays_without_use_sim_time_is_told_once(
    ros: Graph, make_model: Make, halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    ros.ask(camera, ros.image_message(halves, stamp=1004 * SECOND), masks)
    assert seconds_until(ros, "the image is stamped 1004.000 s and the clock says") < SOON
    for second in (1005, 1006):
        ros.ask(camera, ros.image_message(halves, stamp=second * SECOND), masks)
        ros.spin(0.6)
    assert ros.logs().count(OLD) == 1
    ros.ask(camera, ros.image_message(halves), masks)
    ros.wait_for_status("segmenting")


@pytest.mark.alone
def test_use_sim_time_without_a_clock_is_told_until_it_comes(
    ros: Graph, make_model: Make, halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model(), use_sim_time=True)
    ros.ask(camera, ros.image_message(halves, stamp=1004 * SECOND), masks)
    assert seconds_until(ros, "/clock says nothing") < SOON
    clock, time_of_bag = ros.camera(Clock, "/clock"), Clock()
    time_of_bag.clock.sec = 1004
    ros.wait(clock.get_subscription_count)

    def is_well() -> bool:
        clock.publish(time_of_bag)
        camera.publish(ros.image_message(halves, stamp=1004 * SECOND))
        return ros.status() == "segmenting"

    ros.wait(is_well)


@pytest.mark.alone
def test_occupancy_tells_of_masks_of_another_time(ros: Graph, make_model: Make) -> None:
    rig = Rig(ros)
    ros.start_node(model=make_model(), max_age=0.0, **PLACED)
    rig.wait()
    rig.show(np.ones((240, 320), np.uint8), stamp=1004 * SECOND)
    ros.wait(lambda: OLD in ros.logs(), SOON)
    assert OLD in ros.values()["clock"]
