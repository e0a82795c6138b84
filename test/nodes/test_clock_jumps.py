"""Time steps back, as where a bag loops, and leaps ahead; both nodes go on in the new time."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from rosgraph_msgs.msg import Clock
from support.drive import OCCUPANCY, SEGMENTATION, Drive
from support.graph import Graph
from support.rig import cells

Make = Callable[..., Path]
SECOND = 10**9
GREEN, BLUE = (np.zeros((128, 192, 3), np.uint8) for _ in range(2))
GREEN[..., 1] = BLUE[..., 2] = 250


class Time:
    """The /clock of a simulation, and nodes that follow it."""

    def __init__(self, ros: Graph) -> None:
        self._ros, self._clock = ros, ros.camera(Clock, "/clock")

    def jump(self, seconds: float) -> None:
        """Say what time it is until both nodes have it."""
        stamp, message = int(seconds * SECOND), Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp, SECOND)
        for node in (SEGMENTATION, OCCUPANCY):
            self._ros.diagnostics.clear()
            self._ros.wait(lambda node=node: self._is_told(message, node))

    def _is_told(self, message: Clock, node: str) -> bool:
        self._clock.publish(message)
        self._ros.spin(0.02)
        return any(
            node in array.status[0].name and array.header.stamp == message.clock
            for array in self._ros.diagnostics
        )


def map_until_sure(drive: Drive, image: np.ndarray, seconds: float) -> None:
    """Show an image at a time until the grids have it."""
    stamp = int(seconds * SECOND)
    drive.ros.wait(lambda: drive.is_mapped(drive.send(image, stamp), 0.5))


def show_until_told(drive: Drive, stamps: Iterator[int], said: str, node: str) -> None:
    """Show images until the node's status says it: without them it soon misses images."""

    def is_told() -> bool:
        drive.is_mapped(drive.send(GREEN, next(stamps)), 0.5)
        statuses = (status for array in drive.ros.diagnostics for status in array.status)
        return any(said in status.message and node in status.name for status in statuses)

    drive.ros.diagnostics.clear()
    drive.ros.wait(is_told)


def ages(ros: Graph, node: str) -> list[float]:
    """Return what a node tells of ages, in ms."""
    values = ros.values(node)
    return [float(values[key]) for key in ("age_p50_ms", "age_p95_ms") if key in values]


def test_both_nodes_go_on_where_time_steps_back_and_where_it_leaps_ahead(
    ros: Graph, make_model: Make
) -> None:
    drive, time = Drive(ros, make_model(), use_sim_time=True), Time(ros)
    drive.start()
    time.jump(1000.0)
    drive.wait()
    map_until_sure(drive, GREEN, 1000.0)
    assert cells(drive.grids["vegetation"][-1]).max() == 100

    # The bag loops; images of its end are still under way.
    time.jump(10.0)
    drive.forget()
    stamps = count(1000 * SECOND + 1)
    for _ in range(5):
        assert drive.is_mapped(drive.send(GREEN, next(stamps)))
    said = "the image is stamped 1000.000 s and the clock says 10.000 s"
    for node in (SEGMENTATION, OCCUPANCY):
        show_until_told(drive, stamps, said, node)
        assert min(ages(ros, node)) >= 0
    drive.forget()
    map_until_sure(drive, BLUE, 10.0)
    ros.wait_for_status("time jumped back: the map began again", of=OCCUPANCY)
    assert cells(drive.grids["vegetation"][-1]).max() == 0
    assert ros.values(OCCUPANCY)["restarts"] == "1"
    ros.wait_for_status("segmenting", of=SEGMENTATION)

    # Far ahead, what was seen is too long ago to be known.
    time.jump(10**6)
    drive.forget()
    drive.send(GREEN, 10 * SECOND)
    ros.wait_for_status("max_age is 1 s", of=OCCUPANCY)
    assert not any(drive.grids.values())
    map_until_sure(drive, GREEN, 10**6)
    assert cells(drive.grids["other"][-1]).max() == 0
    assert cells(drive.grids["vegetation"][-1]).max() == 100
    for node in (SEGMENTATION, OCCUPANCY):
        assert ros.values(node)["failed"] == "0"
        assert drive.nodes[node].poll() is None
