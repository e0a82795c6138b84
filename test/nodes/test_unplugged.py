"""One of three cameras goes away and comes back; the other two notice nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, PointCloud2
from support import graph
from support.graph import Graph
from support.rig import CAMERA, NODE, PLACED, Rig, grids
from support.world import Pose2D, World, mounted

from seg_perception.messages import stamp_ns

Make = Callable[..., Path]
NAMES = ["front", "left", "rear"]
ROAD = World().image(CAMERA, mounted(), Pose2D(0, 0, 0))


def counts(ros: Graph, name: str) -> dict[str, int]:
    """Return what a camera's status counts."""
    values = ros.values(f": {name}")
    return {key: int(values[key]) for key in ("received", "published", "dropped", "failed")}


def test_segmentation_goes_on_with_two_cameras_and_hears_the_third_again(
    ros: Graph, make_model: Make, halves: np.ndarray
) -> None:
    masks = {n: ros.collect(Image, f"{graph.NODE}/{n}/label_mask") for n in NAMES}
    cameras = {n: ros.camera(topic=f"/{n}/image") for n in NAMES}
    ros.start_node(model=make_model(), cameras=NAMES)
    for name in NAMES:
        ros.ask(cameras[name], ros.image_message(halves), masks[name])

    def answer(*names: str) -> None:
        """Send an image to each camera; every one is answered."""
        for name in names:
            message = ros.image_message(halves)
            cameras[name].publish(message)
            ros.wait(lambda m=message, n=name: any(a.header == m.header for a in masks[n]))

    def tell(reason: str) -> None:
        """Go on with two cameras until the third's status gives a reason; theirs give none."""
        ros.diagnostics.clear()

        def is_told() -> bool:
            answer("front", "rear")
            return any(reason in s.message for a in ros.diagnostics for s in a.status)

        ros.wait(is_told)
        others = [s for s in ros.diagnostics[-1].status if ": left" not in s.name]
        assert {s.message for s in others} == {"segmenting"}

    before = {name: counts(ros, name) for name in ("front", "rear")}
    tell("no image on /left/image for 2 s")  # the cable
    ros.node.destroy_publisher(cameras["left"])
    tell("nobody publishes /left/image")  # then the driver
    cameras["left"] = ros.camera(topic="/left/image", reliable=False)
    ros.ask(cameras["left"], ros.image_message(halves), masks["left"])
    ros.wait_for_status("segmenting", of=": left")
    for name, was in before.items():
        now = counts(ros, name)
        assert now["received"] > was["received"]
        assert (now["dropped"], now["failed"]) == (was["dropped"], 0)
        assert now["received"] == now["published"]


def test_occupancy_maps_what_two_cameras_see_and_hears_the_third_again(
    ros: Graph, make_model: Make
) -> None:
    answers, rig = grids(ros, "cost"), Rig(ros, *NAMES)
    clouds = {n: ros.collect(PointCloud2, f"{NODE}/{n}/obstacles") for n in NAMES}
    start = {k: v for k, v in PLACED.items() if not k.startswith("camera_")}
    places = {f"{n}.{k}": v for n in NAMES for k, v in PLACED.items() if k.startswith("camera_")}
    # On a busy machine a mask may be a second old, which is not judged here.
    ros.start_node(model=make_model(), cameras=NAMES, max_age=0.0, **start, **places)
    for name in NAMES:
        rig.until(ROAD, clouds[name], name=name)
        rig.until(ROAD, answers["cost"], name=name)
    # A latched grid holds the newest alone: what `until` showed too often is through first.
    count = -1
    while count != len(answers["cost"]):
        count = len(answers["cost"])
        ros.spin(1.0)

    def show(*names: str) -> None:
        """Show each camera the road; every look comes out in the grid."""
        for name in names:
            stamp = rig.show(ROAD, name=name)
            ros.wait(lambda s=stamp: any(stamp_ns(m.header) == s for m in answers["cost"]))

    def tell(reason: str) -> Any:
        ros.diagnostics.clear()

        def is_told() -> bool:
            show("front", "rear")
            return any(reason in s.message for a in ros.diagnostics for s in a.status)

        ros.wait(is_told)
        others = [s for s in ros.diagnostics[-1].status if ": left" not in s.name]
        assert {s.message for s in others} == {"mapping"}

    before = {name: counts(ros, name) for name in ("front", "rear")}
    tell("no mask on /left/label_mask for 2 s")
    rig.unplug("left")
    silent = len(clouds["left"])
    tell("nobody publishes /left/label_mask")
    assert len(clouds["left"]) == silent, "nothing is repeated"
    rig.plug("left")
    rig.until(ROAD, clouds["left"], name="left")
    ros.wait_for_status("mapping", of=": left")
    for name, was in before.items():
        now = counts(ros, name)
        assert (now["dropped"], now["failed"]) == (was["dropped"], 0)
        assert now["received"] == now["published"]
