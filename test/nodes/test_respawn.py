"""A node that is killed and started again: whoever listens goes on, and late ones are served."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from support import graph, rig
from support.drive import OCCUPANCY, SEGMENTATION, Drive
from support.graph import Graph
from support.rig import LATCHED, PLACED, grids
from support.with_vision_msgs import start_with_names

from seg_perception.labels import GROUPS
from seg_perception.messages import stamp_ns

Make = Callable[..., Path]
SLOW = {"wide": 96, "input": {"size": [384, 512], "layout": "NHWC", "dtype": "uint8"}}
IMAGE = np.full((128, 192, 3), 20, np.uint8)
SILENT = "no mask on /segmentation_node/label_mask for 2 s"


def kill(drive: Drive, name: str) -> None:
    """End a node as the kernel does when memory is short."""
    drive.nodes[name].send_signal(signal.SIGKILL)
    drive.nodes[name].wait()


def check_masks(drive: Drive, sent: list[int]) -> None:
    """Fail when a mask is not whole, not of these images, or comes twice."""
    height, width = IMAGE.shape[:2]
    stamps = [stamp_ns(mask.header) for mask in drive.masks]
    assert len(set(stamps)) == len(stamps)
    assert set(stamps) <= set(sent)
    for mask in drive.masks:
        assert (mask.encoding, mask.height, mask.width) == ("mono8", height, width)
        assert len(mask.data) == mask.step * height == width * height


def test_a_killed_segmentation_node_is_missed_and_its_successor_heard(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    drive = Drive(ros, make_model(**SLOW), max_age=10.0)
    drive.start()
    drive.until_mapped(IMAGE)
    drive.forget()
    under_way = drive.send(IMAGE)
    ros.spin(0.03)  # it is at work on the image, or has just answered it
    kill(drive, SEGMENTATION)
    ros.wait_for_status(SILENT, of=OCCUPANCY)
    check_masks(drive, drive.sent)
    for heard in drive.grids.values():
        stamps = [stamp_ns(grid.header) for grid in heard]
        assert len(set(stamps)) == len(stamps), "nothing is repeated"
    drive.forget()
    drive.start(SEGMENTATION)
    mapped = drive.until_mapped(IMAGE)
    ros.wait_for_status("mapping", of=OCCUPANCY)
    check_masks(drive, [n for n in drive.sent if n > under_way])
    late = grids(ros)
    ros.wait(lambda: all(late.values()))
    assert {stamp_ns(a[0].header) for a in late.values()} == {mapped}
    values = ros.values(OCCUPANCY)
    assert (values["failed"], values["restarts"]) == ("0", "0")


def test_a_killed_occupancy_node_disturbs_nobody_and_its_successor_maps(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    drive = Drive(ros, make_model())
    drive.start()
    drive.until_mapped(IMAGE)
    drive.forget()
    before = len(drive.sent)
    drive.send(IMAGE)
    kill(drive, OCCUPANCY)
    assert all(drive.is_masked(drive.send(IMAGE)) for _ in range(30))
    check_masks(drive, drive.sent[before:])
    drive.start(OCCUPANCY)
    drive.forget()
    before = len(drive.sent)
    drive.until_mapped(IMAGE)
    for answers in drive.grids.values():
        assert {stamp_ns(m.header) for m in answers} <= set(drive.sent[before:])
    assert ros.values(SEGMENTATION)["failed"] == "0"
    ros.wait_for_status("segmenting", of=SEGMENTATION)


def test_late_listeners_learn_the_names_of_the_ids_also_from_a_successor(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    model = make_model()
    placed = {k: v for k, v in PLACED.items() if k != "executable"}
    parameters: dict[str, Any] = {SEGMENTATION: {}, OCCUPANCY: placed}
    topics = {SEGMENTATION: f"{graph.NODE}/label_info", OCCUPANCY: f"{rig.NODE}/costmap/label_info"}
    names = {SEGMENTATION: ["red", "green", "blue"], OCCUPANCY: list(GROUPS)}
    for _ in range(2):
        nodes = [
            start_with_names(ros, f"nodes.{n}", model=model, **p) for n, p in parameters.items()
        ]
        for name, topic in topics.items():
            ros.name = f"/{name}"
            ros.wait(lambda: ros.state() == "active")
            late: list[DiagnosticArray] = []
            ros.node.create_subscription(DiagnosticArray, topic, late.append, LATCHED)
            ros.wait(lambda late=late: late)
            assert [s.name for s in late[0].status] == names[name]
        for node in nodes:
            node.send_signal(signal.SIGKILL)
            node.wait()
