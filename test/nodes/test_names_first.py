"""Whoever subscribes at any time knows the names before a set; who needs none delays nobody.

The layer is a process of its own that dies of a set before the names, as the real one does.
"""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from support import graph, rig
from support.graph import Graph
from support.paths import SUPPORT
from support.rig import LATCHED, PLACED, Rig
from support.with_vision_msgs import start_with_names
from support.world import pinhole

from seg_perception.nodes.label_info import REPEATS

# A starved layer of ours meets the node later than the second that it is given.
pytestmark = pytest.mark.alone

Make = Callable[..., Path]
LAYER = str(SUPPORT / "semantic_layer_stand_in.py")
SET = [
    f"{rig.NODE}/costmap/{name}" for name in ("label_mask", "confidence", "label_info", "points")
]
# Masks of one part: Fast DDS may loop for ever over a message in parts when the reader before was
# killed (seg_perception/nodes/watchdog.py), and nobody starts the node again here.
CAMERA = pinhole(160, 120, 125.0)
MASK = np.full((120, 160), 1, np.uint8)  # drivable
IMAGE = np.full((128, 192, 3), 20, np.uint8)
VOLATILE = QoSProfile(depth=5)
OBSERVER_GRACE_S = 60.0  # seconds for a start on a busy machine


class Field:
    """Masks that go on, occupancy_node, and layers that come and go."""

    def __init__(self, ros: Graph, model: Path, **parameters: Any) -> None:
        self.ros = ros
        self._cameras = parameters.get("cameras", [""])
        self._rig = Rig(ros, *self._cameras)
        placed = {k: v for k, v in PLACED.items() if k != "executable"}
        self._parameters = {"model": model, "diagnostics_period": 0.2, **placed, **parameters}
        self._readers: list[Any] = []
        self.node: Any = None

    def start_node(self) -> None:
        self.ros.name = rig.NODE
        self.node = start_with_names(self.ros, "nodes.occupancy_node", **self._parameters)

    def subscribe(self, qos: QoSProfile) -> list[DiagnosticArray]:
        """Read the names; return the list that they are appended to."""
        names: list[DiagnosticArray] = []
        reader = self.ros.node.create_subscription(DiagnosticArray, SET[2], names.append, qos)
        self._readers.append(reader)
        return names

    def unsubscribe(self) -> None:
        """End the reader that came first."""
        self.ros.node.destroy_subscription(self._readers.pop(0))

    def kill_node(self) -> None:
        self.node.send_signal(signal.SIGKILL)
        self.node.wait()

    def start_layer(self, *options: str) -> "subprocess.Popen[bytes]":
        return self.ros.start(LAYER, *SET, *options)

    def drive(self, done: Callable[[], Any]) -> None:
        """Publish masks until `done`; fail when it does not come."""
        deadline = time.monotonic() + OBSERVER_GRACE_S
        while not done():
            assert time.monotonic() < deadline, (
                f"waited in vain; {self.ros.status()}\n{self.ros.logs()}"
            )
            for name in self._cameras:
                stamp = self._rig.now()
                self._rig.show(MASK, stamp, name=name, info=self._rig.info(stamp, CAMERA))

    def until_it_lives(self, layer: "subprocess.Popen[bytes]") -> None:
        """Publish masks until a layer has had its sets; fail where it died of one."""
        self.drive(lambda: layer.poll() is not None)
        assert layer.returncode == 0, f"the layer died with {layer.returncode}\n{self.ros.logs()}"

    def count(self, name: str) -> int:
        return int(self.ros.values()[name])


@pytest.fixture
def field(clean_memory: None, ros: Graph, make_model: Make) -> Field:
    return Field(ros, make_model())


@pytest.fixture
def busy() -> Iterator[None]:
    """Take a core from everybody else."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()


def test_a_layer_learns_the_names_before_a_set_whenever_it_starts(field: Field) -> None:
    field.start_node()
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    field.drive(lambda: sets)
    field.until_it_lives(field.start_layer("--starts", "3"))
    field.until_it_lives(field.start_layer("--configured", "0"))
    field.until_it_lives(field.start_layer("--starts", "3", "--durability", "transient_local"))
    assert field.count("held") > 0


def test_a_layer_that_is_there_first_learns_the_names_also_from_a_successor(field: Field) -> None:
    layer = field.start_layer("--sets", "10000")
    field.drive(lambda: "activated" in field.ros.logs())
    for _ in range(2):
        field.start_node()
        sets = field.ros.collect(PointCloud2, SET[3], depth=100)
        field.drive(lambda sets=sets: len(sets) > 20)
        assert layer.poll() is None, field.ros.logs()
        field.kill_node()
    layer.kill()


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("order", ["node first", "layer first", "together"])
def test_fifty_starts_on_a_busy_machine(field: Field, busy: None, order: str) -> None:
    chance = random.Random(1)
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    for start in range(50):
        if order == "node first" and start % 10 == 0:
            if field.node is not None:
                field.kill_node()
            field.start_node()
            sets.clear()
            field.drive(lambda: sets)
        durability = ("volatile", "transient_local")[start % 2]
        configured = ("--configured", f"{chance.uniform(0.0, 2.0):.2f}")
        layer = field.start_layer("--durability", durability, *configured)
        if order == "layer first":
            field.ros.spin(chance.uniform(1.0, 3.0))
        if order != "node first":
            field.start_node()
        field.until_it_lives(layer)
        if order != "node first":
            field.kill_node()


def test_masks_wait_a_second_for_a_new_layer_and_everything_else_goes_on(field: Field) -> None:
    field.start_node()
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    obstacles = field.ros.collect(PointCloud2, f"{rig.NODE}/obstacles", depth=100)
    field.drive(lambda: sets and field.ros.status() == "mapping")
    assert (field.count("held"), field.ros.values()["holding"]) == (0, "False")
    names = field.subscribe(VOLATILE)
    field.drive(lambda: "wait" in field.ros.status())
    status = field.ros.diagnostics[-1].status[0]
    assert status.message == "mapping; masks wait until a new subscriber has label_info"
    assert status.level == DiagnosticStatus.OK
    sets.clear()
    obstacles.clear()
    field.drive(lambda: sets)
    assert len(obstacles) > len(sets) + 1, "obstacles do not wait"
    held = field.count("held")
    assert held > 0
    assert {s.hardware_id for m in names for s in m.status} == {"0.0"}, "no pixel was left out"
    field.drive(lambda: len(sets) > 20)
    assert field.count("held") == held, "one hold"
    # Where a mask is ready before the event, the names come once more.
    assert 1 + REPEATS <= len(names) <= 2 + REPEATS


def test_who_does_not_read_names_delays_nobody(field: Field) -> None:
    field.start_node()
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    field.drive(lambda: sets)
    for topic, kind in ((SET[0], Image), (SET[1], Image), (SET[3], PointCloud2)):
        late = field.ros.collect(kind, topic, reliable=False)
        field.drive(lambda late=late: late)
    assert field.count("held") == 0


def test_a_subscriber_of_what_is_latched_delays_masks_until_it_has_acknowledged(
    field: Field,
) -> None:
    field.start_node()
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    field.drive(lambda: sets)
    held = {"latched": 0, "volatile": 0}
    for name, qos in (("latched", LATCHED), ("volatile", VOLATILE)) * 3:
        before = field.count("held")
        reader = field.subscribe(qos)
        field.drive(lambda reader=reader: reader)
        sets.clear()
        field.drive(lambda: sets)
        held[name] += field.count("held") - before
        field.unsubscribe()
    assert held["latched"] < held["volatile"] / 3


def test_readers_of_names_that_come_and_go_for_ever_do_not_silence_the_masks(field: Field) -> None:
    field.start_node()
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    field.drive(lambda: sets)
    sets.clear()
    field.subscribe(VOLATILE)

    def come_and_go() -> bool:
        field.subscribe(VOLATILE)  # the one before goes afterwards: somebody always reads
        field.unsubscribe()
        return len(sets) > 20

    field.drive(come_and_go)
    assert field.count("held") > len(sets), "they did hold masks"


def test_a_frozen_reader_of_names_holds_masks_no_longer_than_another(field: Field) -> None:
    field.start_node()
    layer = field.start_layer("--durability", "transient_local", "--sets", "10000")
    sets = field.ros.collect(PointCloud2, SET[3], depth=100)
    field.drive(lambda: sets and " names" in field.ros.logs())
    layer.send_signal(signal.SIGSTOP)
    held = field.count("held")
    field.subscribe(LATCHED)
    field.drive(lambda: field.count("held") > held)
    sets.clear()
    field.drive(lambda: len(sets) > 20)
    layer.kill()


def test_a_layer_that_subscribed_while_the_node_was_inactive_gets_the_names_first(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    field = Field(ros, make_model(), autostart="false")
    field.start_node()
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    layer = field.start_layer("--starts", "2", "--sets", "20")
    field.drive(lambda: "activated 0" in ros.logs())
    for _ in range(2):
        assert ros.change_state(Transition.TRANSITION_ACTIVATE)
        field.drive(lambda: field.count("published") > 5)
        assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    field.until_it_lives(layer)


def test_each_camera_waits_for_its_own_subscribers(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    cameras = ["left", "right"]
    heights = {f"{name}.camera_z": 1.2 for name in cameras}
    field = Field(ros, make_model(), cameras=cameras, **heights)
    field.start_node()
    field.drive(lambda: all(int(ros.values(name)["published"]) for name in cameras))
    names: list[DiagnosticArray] = []
    topic = f"{rig.NODE}/left/costmap/label_info"
    ros.node.create_subscription(DiagnosticArray, topic, names.append, VOLATILE)
    field.drive(lambda: names and int(ros.values("left")["held"]))
    assert ros.values("right")["held"] == "0"


def test_a_layer_on_the_masks_of_segmentation_node_learns_its_names_first(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    start_with_names(ros, "nodes.segmentation_node", model=make_model(), diagnostics_period=0.2)
    camera, depth = ros.camera(), ros.camera(PointCloud2, "/depth/points")
    masks = ros.collect(Image, f"{graph.NODE}/label_mask", depth=100)
    topics = [f"{graph.NODE}/{name}" for name in ("label_mask", "confidence", "label_info")]

    def drive(done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + OBSERVER_GRACE_S
        while not done():
            assert time.monotonic() < deadline, ros.logs()
            image = ros.image_message(IMAGE)
            depth.publish(PointCloud2(header=image.header))
            camera.publish(image)
            ros.spin(0.05)

    drive(lambda: masks)
    for options in (["--starts", "3"], ["--durability", "transient_local"]):
        layer = ros.start(LAYER, *topics, "/depth/points", *options)
        drive(lambda layer=layer: layer.poll() is not None)
        assert layer.returncode == 0, ros.logs()
    assert int(ros.values()["held"]) > 0
