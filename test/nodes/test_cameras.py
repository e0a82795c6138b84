"""Several cameras in one node: each has its outputs, and all get the same share of the machine."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool
from support.graph import NODE, Graph

from seg_perception.messages import stamp_ns, to_array
from seg_perception.nodes.worker import Worker
from seg_perception.segmenter import Segmenter

NAMES = ["front", "left", "rear"]
SLOW = {"wide": 96, "input": {"size": [384, 512], "layout": "NHWC", "color": "RGB",
                              "dtype": "uint8"}}  # fmt: skip


class Stream:
    """A source whose messages never end, or never come."""

    def __init__(self, name: str, served: list[str], *, is_silent: bool = False) -> None:
        self.name, self.served, self.is_silent = name, served, is_silent

    def take(self) -> tuple[object, dict[str, object]] | None:
        return None if self.is_silent or len(self.served) >= 100 else (object(), {})


def test_the_source_served_longest_ago_comes_next() -> None:
    class Node:
        executor = None

    served: list[str] = []
    ended = Event()

    def process(stream: Stream, message: object, info: dict[str, object]) -> None:
        served.append(stream.name)
        if len(served) == 100:
            ended.set()

    streams = [Stream(n, served, is_silent=n == "dead") for n in ("a", "b", "dead", "c")]
    worker = Worker(Node(), process)  # type: ignore[arg-type]
    worker.open(streams)
    worker.serve(streams[3], object(), {})
    assert ended.wait(30)
    worker.close()
    worker.end()
    assert served[:7] == ["c", "a", "b", "c", "a", "b", "c"]
    assert len(served) == 100


def test_a_source_that_is_ready_while_the_worker_is_busy_is_not_forgotten() -> None:
    class Node:
        executor = None

    waiting: list[str] = []
    served: list[str] = []
    started, may_go_on, ended = Event(), Event(), Event()

    class Source:
        def take(self) -> tuple[object, dict[str, object]] | None:
            return (waiting.pop(), {}) if waiting else None

    def process(source: Source, message: str, info: dict[str, object]) -> None:
        started.set()
        assert may_go_on.wait(30)
        served.append(message)
        if message == "last":
            ended.set()

    source = Source()
    worker = Worker(Node(), process)  # type: ignore[arg-type]
    worker.open([source])
    worker.notify(source)  # nothing waits
    waiting.append("first")
    worker.notify(source)
    assert started.wait(30)
    waiting.append("last")
    worker.notify(source)
    may_go_on.set()
    assert ended.wait(30)
    worker.close()
    waiting.append("after the end")
    worker.notify(source)
    worker.end()
    assert served == ["first", "last"]


def test_an_error_that_nobody_handles_leaves_the_worker_ready() -> None:
    class Node:
        executor = None

    def process(source: None, message: str, info: dict[str, object]) -> None:
        raise RuntimeError(message)

    worker = Worker(Node(), process)  # type: ignore[arg-type]
    worker.serve(None, "a", {})  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="a"):
        worker.close()
    worker.end()
    assert worker.can_execute(None)


def test_every_camera_has_outputs_of_its_own(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = {n: ros.collect(Image, f"{NODE}/{n}/label_mask") for n in NAMES[:2]}
    infos = ros.collect(CameraInfo, f"{NODE}/left/camera_info")
    cameras = {n: ros.camera(topic=f"/{n}/image") for n in NAMES[:2]}
    info = ros.camera(CameraInfo, "/left/camera_info")
    ros.start_node(model=make_model(), cameras=NAMES[:2])
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 250
    ros.ask(cameras["front"], ros.image_message(red, stamp=5), masks["front"])
    info.publish(CameraInfo(width=48))
    ros.ask(cameras["left"], ros.image_message(halves, stamp=7), masks["left"])
    front, left = masks["front"][-1], masks["left"][-1]
    assert (to_array(front) == 0).all()
    assert (stamp_ns(front.header), stamp_ns(left.header)) == (5, 7)
    assert to_array(left).shape == (32, 48)
    ros.wait(
        lambda: infos or ros.ask(cameras["left"], ros.image_message(halves), masks["left"]) is None
    )
    assert infos[-1].width == 48
    assert not ros.node.count_publishers(f"{NODE}/label_mask")
    ros.wait_for_status("the image is stamped")
    names = [s.name for s in ros.diagnostics[-1].status]
    assert names == ["segmentation_node: front", "segmentation_node: left"]


def test_other_sources_are_served_while_the_message_of_one_waits() -> None:
    class Node:
        executor = None

    class Thrice(Stream):
        def take(self) -> tuple[object, dict[str, object]] | None:
            return (object(), {}) if served.count(self.name) < 3 else None

    served: list[str] = []
    ready: Future[None] = Future()
    ended = Event()
    waiting, silent = (Stream(n, served, is_silent=True) for n in ("waiting", "silent"))

    def process(stream: Stream, message: object, info: dict[str, object]) -> None:
        if stream is waiting:
            worker.serve_until(ready, waiting)
        served.append(stream.name)
        if served.count("other") == 3 and not ready.done():
            ready.set_result(None)
        if stream is waiting:
            ended.set()

    worker = Worker(Node(), process)  # type: ignore[arg-type]
    worker.open([waiting, silent, Thrice("other", served)])
    worker.serve(waiting, object(), {})
    assert ended.wait(30)
    worker.close()
    worker.end()
    assert served == ["other", "other", "other", "waiting"]


def test_each_camera_has_its_own_input_size_and_exact_labels(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    free = {"size": [32, 48], "layout": "NHWC", "color": "RGB", "dtype": "uint8", "multiple": 16}
    model, names = make_model(input=free), ("narrow", "wide")
    random = np.random.default_rng(0)
    shapes = {"narrow": (40, 60), "wide": (40, 160)}
    shots = {n: random.integers(0, 256, (*shapes[n], 3)).astype(np.uint8) for n in names}
    masks = {n: ros.collect(Image, f"{NODE}/{n}/label_mask") for n in names}
    cameras = {n: ros.camera(topic=f"/{n}/image") for n in names}
    ros.start_node(model=model, cameras=list(names))
    segmenter = Segmenter.load(model)
    for name in names:
        answer = ros.ask(cameras[name], ros.image_message(shots[name], stamp=5), masks[name])
        assert (to_array(answer) == segmenter(shots[name]).labels).all()
        assert stamp_ns(answer.header) == 5

    def sizes() -> dict[str, str]:
        return {
            status.name: next(v.value for v in status.values if v.key == "input_size")
            for status in ros.diagnostics[-1].status
        }

    ros.wait(lambda: ros.diagnostics and len(sizes()) == 2 and all(sizes().values()))
    assert sizes() == {"segmentation_node: narrow": "32x48", "segmentation_node: wide": "16x64"}


def test_a_size_of_the_users_choice_runs_and_others_are_refused(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    free = {"size": [32, 48], "layout": "NHWC", "color": "RGB", "dtype": "uint8", "multiple": 16}
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model(input=free), input_size="24x48")
    assert "set auto or 16x48" in ros.wait_for_status("takes multiples of 16").message
    assert "choose one of auto, HEIGHTxWIDTH" in ros.set("input_size", "24 by 48").reason
    assert ros.set("input_size", "16x48").successful
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    ros.ask(camera, ros.image_message(halves), masks)
    ros.wait(lambda: ros.values().get("input_size") == "16x48")


@pytest.mark.alone
def test_cameras_that_exceed_the_machine_get_equal_shares(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = [ros.collect(Image, f"{NODE}/{n}/label_mask", depth=100) for n in NAMES]
    cameras = [ros.camera(topic=f"/{n}/image") for n in NAMES]
    ros.start_node(model=make_model(**SLOW), cameras=NAMES)
    for camera, answers in zip(cameras, masks, strict=True):
        ros.ask(camera, ros.image_message(halves), answers)
    for answers in masks:
        answers.clear()
    sent = ros.play(cameras, halves, 30.0, 6.0)
    counts = [len(answers) for answers in masks]
    assert sum(counts) < 0.9 * 3 * sent, "the streams do not exceed this machine"
    assert min(counts) >= 10
    assert min(counts) >= 0.9 * max(counts)

    # Under the same load every service answers at once, and a dead camera costs nothing.
    delays = []
    for _ in range(20):
        for camera in cameras[:2]:
            camera.publish(ros.image_message(halves))
        started = time.monotonic()
        assert ros.call(SetBool, f"{NODE}/enable", SetBool.Request(data=True)).success
        delays.append(time.monotonic() - started)
        started = time.monotonic()
        assert ros.state() == "active"
        delays.append(time.monotonic() - started)
    assert np.median(delays) < 0.1
    for answers in masks:
        answers.clear()
    ros.play(cameras[:2], halves, 30.0, 4.0)
    first, second, dead = (len(answers) for answers in masks)
    assert dead <= 1
    assert min(first, second) >= 0.9 * max(first, second)
    assert first + second > 0.8 * sum(counts) * 4 / 6


@pytest.mark.parametrize(
    ("cameras", "reason"), [(["front", "front"], "'front' twice"), (["9th"], "'9th'; a name has")]
)
def test_names_that_cannot_be_are_told(
    cameras: list[str], reason: str, ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node(model=make_model(), cameras=cameras)
    assert reason in ros.wait_for_status("cameras holds").message
    assert ros.set("cameras", ["front"]).successful


def test_a_name_that_only_the_middleware_refuses_is_told_and_can_be_corrected(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node(model=make_model(), cameras=["a" * 300])
    ros.wait_for_status("topic length should not exceed")
    ros.wait(lambda: ros.state() == "unconfigured")
    assert ros.values()["state"] == "unconfigured"
    assert ros.set("cameras", ["front"]).successful
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    ros.wait(lambda: ros.node.count_publishers(f"{NODE}/front/label_mask"))
    assert not any("aaa" in name for name, _ in ros.node.get_topic_names_and_types())
