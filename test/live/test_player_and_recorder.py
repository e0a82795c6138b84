"""Player and recorder as processes: bytes, stamps and times go through them unharmed."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from support.graph import Graph, stop
from support.png_bag import COUNT, IMAGES, PERIOD, START
from support.with_vision_msgs import start_with_names

from seg_perception import messages
from seg_perception.bags.bag import (
    BagReader,
    BagWriter,
    RawMessage,
    deserialize,
    message_class,
    serialize,
)

MASKS = "/segmentation_node/label_mask"


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path) as started:
        yield started


def start_player(ros: Graph, bag: Path, *options: str) -> "subprocess.Popen[bytes]":
    module = "seg_perception.live.player_node"
    return ros.start("-m", module, str(bag), "--sent", str(bag.parent / "sent.json"), *options)


def recorder_arguments(folder: Path) -> list[str]:
    received = str(folder / "received.json")
    return [str(folder / "result.mcap"), "--received", received, "--image-topic", IMAGES]


def start_recorder(ros: Graph, folder: Path) -> "subprocess.Popen[bytes]":
    return ros.start("-m", "seg_perception.live.recorder_node", *recorder_arguments(folder))


def start_node(ros: Graph, model: Path) -> None:
    ros.start_node({"image": "/camera/image"}, model=model, image_transport="compressed")


def wait_until_ready(ros: Graph) -> None:
    ros.wait(lambda: '{"ready": true}' in ros.logs())


def sent_times(folder: Path) -> dict[int, int]:
    return dict(json.loads((folder / "sent.json").read_text()))


def mask_times(folder: Path) -> dict[int, int]:
    return dict(json.loads((folder / "received.json").read_text())["label_mask"])


@pytest.mark.alone
def test_a_played_bag_is_recorded_byte_for_byte(
    ros: Graph, make_model: Callable[..., Path], bag: Path
) -> None:
    heard = ros.collect(CompressedImage, IMAGES, depth=50)
    clock = ros.collect(Clock, "/clock", depth=1000)
    start_node(ros, make_model())
    recorder = start_recorder(ros, bag.parent)
    wait_until_ready(ros)
    player = start_player(ros, bag, "--rate", "2", "--listeners", "3")
    ros.wait(lambda: player.poll() is not None)
    ros.wait(lambda: f'"stamp": {START + (COUNT - 1) * PERIOD}' in ros.logs())
    ros.spin(1.0)
    assert (player.returncode, stop(recorder, signal.SIGTERM)) == (0, 0), ros.logs()

    stamps = [START + i * PERIOD for i in range(COUNT)]
    assert [messages.stamp_ns(m.header) for m in heard] == stamps
    ticks = [t.clock.sec * 10**9 + t.clock.nanosec for t in clock]
    assert ticks == sorted(ticks)
    # The first ticks may be gone before discovery has brought the two together.
    assert START - PERIOD <= ticks[0] <= stamps[-1] <= ticks[-1]

    sent, received = sent_times(bag.parent), mask_times(bag.parent)
    assert list(sent) == stamps
    gaps = np.diff(list(sent.values())) / 1e9
    assert np.median(gaps) == pytest.approx(PERIOD / 1e9 / 2, abs=0.01), "played at twice the pace"
    assert set(received) <= set(sent)
    assert len(received) >= COUNT - 1
    assert all(0 < received[s] - sent[s] < 5e9 for s in received)

    with BagReader(bag) as played, BagReader(bag.parent / "result.mcap") as result:
        assert list(result.raw([IMAGES])) == list(played.raw([IMAGES]))
        masks = list(result.raw([MASKS]))
        every = [m.time_ns for m in result.raw()]
        assert "/diagnostics" in result.topics
    assert min(every) >= START, "what came before the first image does not stretch the bag"
    assert [m.time_ns for m in masks] == sorted(received)
    mask = messages.to_array(deserialize(masks[-1]))
    assert (mask[:, :20] == 0).all()
    assert (mask[:, 28:] == 2).all()


def test_no_mask_waits_for_a_recorder_that_is_ready(
    ros: Graph, make_model: Callable[..., Path], bag: Path
) -> None:
    parameters = {"model": make_model(), "image_transport": "compressed"}
    remap = ("--ros-args", "-r", "image:=/camera/image")
    start_with_names(ros, "nodes.segmentation_node", *remap, **parameters)
    recorder = start_with_names(ros, "live.recorder_node", *recorder_arguments(bag.parent))
    wait_until_ready(ros)
    player = start_player(ros, bag, "--listeners", "2")
    ros.wait(lambda: player.poll() is not None)
    ros.wait(lambda: f'"stamp": {START + (COUNT - 1) * PERIOD}' in ros.logs())
    values = ros.values()
    assert (values["held"], values["holding"]) == ("0", "False"), "it had the names before"
    assert (player.returncode, stop(recorder, signal.SIGTERM)) == (0, 0), ros.logs()
    assert START in mask_times(bag.parent)


def test_a_recorder_told_to_stop_keeps_what_came(
    ros: Graph, make_model: Callable[..., Path], bag: Path
) -> None:
    start_node(ros, make_model())
    recorder = start_recorder(ros, bag.parent)
    wait_until_ready(ros)
    start_player(ros, bag)
    ros.wait(lambda: '{"masks": 2,' in ros.logs())
    assert stop(recorder, signal.SIGTERM) == 0
    received = mask_times(bag.parent)
    with BagReader(bag.parent / "result.mcap") as result:
        assert len(list(result.raw([MASKS]))) == len(received) >= 2
    assert not list(bag.parent.glob("*.part"))


def test_a_player_told_to_stop_says_what_it_sent(
    ros: Graph, make_model: Callable[..., Path], bag: Path
) -> None:
    heard = ros.collect(CompressedImage, IMAGES)
    start_node(ros, make_model())
    player = start_player(ros, bag, "--rate", "0.2")
    ros.wait(lambda: heard)
    assert stop(player, signal.SIGINT) == 1
    assert 1 <= len(sent_times(bag.parent)) < COUNT


def test_a_player_waits_for_the_node_and_says_so(ros: Graph, bag: Path) -> None:
    heard = ros.collect(CompressedImage, IMAGES)
    began = time.monotonic()
    player = start_player(ros, bag, "--timeout", "1.5")
    ros.wait(lambda: player.poll() is not None)
    assert time.monotonic() - began > 1.5
    assert player.returncode == 1
    assert "after 1.5 s segmentation_node is not active, or /camera/image" in ros.logs()
    assert heard == []
    assert not (bag.parent / "sent.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no bag", "cannot be read as a bag"), (None, "no bag at")],
    ids=["damaged", "missing"],
)
def test_a_player_refuses_a_bag_it_cannot_read(
    ros: Graph, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "broken.mcap"
    if content is not None:
        path.write_bytes(content)
    assert start_player(ros, path).wait(20) == 1
    assert message in ros.logs()
    assert "Traceback" not in ros.logs()


def test_a_bag_without_images_is_refused(ros: Graph, tmp_path: Path) -> None:
    path = tmp_path / "words.mcap"
    kind = "std_msgs/msg/String"
    with BagWriter(path) as writer:
        writer.write(RawMessage("/words", kind, 1, serialize(message_class(kind)("hello"), kind)))
    assert start_player(ros, path).wait(20) == 1
    assert "no images to play: its topics are /words" in ros.logs()
