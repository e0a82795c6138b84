"""A bag through real nodes over DDS: masks, times, and what goes wrong on the way."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from seg_perception import messages
from seg_perception.bags.bag import (
    BagReader,
    BagWriter,
    RawMessage,
    message_class,
    serialize,
)
from seg_perception.errors import DataError, SegPerceptionError, UsageError
from seg_perception.live import processes, session
from seg_perception.live.domains import PRIVATE
from seg_perception.live.recording import (
    CONFIDENCE,
    MASKS,
    Event,
    Recorded,
    Recording,
    answers,
    masks,
    timeline,
    timing,
)
from seg_perception.segmenter import Segmenter

CLIP = Path(str(resources.files("seg_perception") / "clip" / "bag"))
SECOND = 10**9
# Sends itself and its nodes what a terminal sends at Ctrl-C, once two masks came.
INTERRUPTED = """
import json, os, signal, sys, threading, time
from pathlib import Path
from rich.console import Console
from seg_perception.live import session
from seg_perception.live import processes
from seg_perception.live.recording import masks, timing

def watch(node):
    while node.latest.get("masks", 0) < 2:
        time.sleep(0.05)
    os.killpg(0, signal.SIGINT)

class Watched(processes.NodeProcess):
    def __init__(self, module, *arguments):
        super().__init__(module, *arguments)
        if module.endswith("recorder_node"):
            threading.Thread(target=watch, args=(self,), daemon=True).start()

signal.signal(signal.SIGINT, signal.default_int_handler)
processes.NodeProcess = Watched
bag, out, model = sys.argv[1:]
recording = session.play(Path(bag), Path(out), model=model, console=Console(quiet=True))
print(json.dumps({**timing(recording), "masks": len(list(masks(recording)))}))
"""
QUIET = Console(quiet=True)


def clip(count: int) -> list[Any]:
    """Return the first images of the bundled clip, as CompressedImage messages."""
    with BagReader(CLIP) as bag:
        sent = bag.messages(["/camera/image/compressed"])
        return [next(sent) for _ in range(count)]


def header(stamp: int) -> Any:
    time = message_class("builtin_interfaces/msg/Time")(*divmod(stamp, SECOND))
    return message_class("std_msgs/msg/Header")(time, "camera_optical")


def raw(image: np.ndarray, stamp: int, encoding: str) -> Any:
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image).reshape(-1)
    step = data.size // height
    kind = message_class("sensor_msgs/msg/Image")
    return kind(header(stamp), height, width, encoding, 0, step, data)


def write(path: Path, topic: str, sent: list[tuple[int, Any]]) -> Path:
    """Write messages of one type with their times."""
    with BagWriter(path) as writer:
        for time, message in sent:
            kind = message.__msgtype__
            writer.write(RawMessage(topic, kind, time, serialize(message, kind)))
    return path


@pytest.mark.alone
def test_compressed_images_give_the_segmenters_labels_and_bad_ones_none(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    """One is half a jpeg; one is no message, so nobody knows its stamp but only its time."""
    sent, model = clip(10), make_model()
    stamps = [3 * i * SECOND // 10 for i in range(10)]
    bag, topic = tmp_path / "bag.mcap", "/camera/jpeg"
    with BagWriter(bag) as writer:
        for i, message in enumerate(sent):
            message.header = header(stamps[i])
            if i == 4:
                message.data = message.data[: len(message.data) // 2]
            data = serialize(message, message.__msgtype__)[: 50 if i == 7 else None]
            writer.write(RawMessage(topic, message.__msgtype__, stamps[i] + 1, data))
    stamps[7] += 1
    out = tmp_path / "out"
    recording = session.play(bag, out, model=str(model), rate=4.0, console=QUIET)

    assert [event.stamp for event in recording.sent] == stamps
    played = (recording.sent[-1].steady - recording.sent[0].steady) / 1e9
    assert played < 2.7 / 2, "faster than 2.7 s, as it was recorded"

    segmenter, seen = Segmenter.load(str(model)), dict(masks(recording))
    assert not {stamps[4], stamps[7]} & set(seen)
    assert len(seen) >= 7
    with Recorded(recording) as recorded:
        for stamp, message in zip(stamps, sent, strict=True):
            labels, sure = recorded.labels(stamp), recorded.confidence(stamp)
            if stamp not in seen:
                assert labels is None
                assert sure is None
                continue
            own = segmenter(messages.decode(message).image, "bgr8")
            assert (labels == own.labels).all()
            assert (labels == seen[stamp]).all()
            assert (sure == own.confidence).all()

    measured = timing(recording)
    assert measured["frames_in"] == 10
    assert measured["frames_out"] == len(seen)
    assert measured["dropped"] == 10 - len(seen)
    ages = measured["age_ms"]
    assert 0 < ages["p50"] <= ages["p95"] <= ages["p99"] < 10_000
    assert 0 <= measured["jitter_ms"]["p50"] <= measured["jitter_ms"]["p95"]
    assert (measured["provider"], measured["threads"]) == ("cpu", 1)
    assert measured["stage_ms"]["total"] > 0
    assert not list(out.glob("*.json"))


@pytest.mark.alone
def test_raw_images_whose_clock_was_set_are_all_answered_and_found_again(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    """The stamps run backwards and hold 0, and the recorder's clock jumps by a year."""
    stamps = [5 * SECOND, 6 * SECOND, 7 * SECOND, 3 * SECOND, 4 * SECOND, 0]
    times = [i * SECOND // 4 + (i > 2) * 365 * 86400 * SECOND for i in range(6)]
    images = [messages.decode(message).image for message in clip(6)]
    sent = [raw(image, stamp, "bgr8") for image, stamp in zip(images, stamps, strict=True)]
    bag = write(tmp_path / "bag.mcap", "/camera/image_raw", list(zip(times, sent, strict=True)))
    model = make_model()
    # The pause of a year is played as one of 10 s.
    recording = session.play(bag, tmp_path / "out", model=str(model), rate=8.0, console=QUIET)

    assert [event.stamp for event in recording.sent] == stamps
    received = [event.stamp for event in recording.received]
    assert len(received) >= 5
    assert received == [stamp for stamp in stamps if stamp in received]
    segmenter = Segmenter.load(str(model))
    with Recorded(recording) as recorded:
        for stamp, image in zip(stamps, images, strict=True):
            labels = recorded.labels(stamp)
            assert (labels is not None) == (stamp in received)
            assert labels is None or (labels == segmenter(image, "bgr8").labels).all()
    assert timing(recording)["age_ms"]["p50"] > 0
    assert timing(recording)["model"] == str(model)


def test_after_ctrl_c_the_recording_holds_what_came_before_it(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    sent = clip(20)
    for i, message in enumerate(sent):
        message.header = header(i * SECOND)
    timed = [(messages.stamp_ns(m.header), m) for m in sent]
    bag = write(tmp_path / "bag.mcap", "/camera/image/compressed", timed)
    command = [
        sys.executable,
        "-c",
        INTERRUPTED,
        str(bag),
        str(tmp_path / "out"),
        str(make_model()),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, start_new_session=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["interrupted"] is True
    assert said["frames_in"] < 20
    assert 2 <= said["frames_out"] == said["masks"] <= said["frames_in"]


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """Return a bag of one image."""
    return write(tmp_path / "bag.mcap", "/camera/image/compressed", [(1, clip(1)[0])])


def test_a_model_that_does_not_exist_is_named_by_the_nodes_log(short: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SegPerceptionError, match=r"segmentation_node cannot work:\n(.|\n)*no_such\.onnx"
    ):
        session.play(short, tmp_path / "out", model=str(tmp_path / "no_such.onnx"), console=QUIET)


def test_a_node_that_stops_on_the_way_is_an_error_and_nothing_is_left_running(
    short: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes: dict[str, processes.NodeProcess] = {}
    start = processes.NodeProcess.__init__

    def start_and_stop(process: processes.NodeProcess, module: str, *arguments: Any) -> None:
        start(process, module, *arguments)
        nodes[module] = process
        if module.endswith("player_node"):
            nodes[f"seg_perception.nodes.{session.NODE}"]._process.terminate()

    monkeypatch.setattr(processes.NodeProcess, "__init__", start_and_stop)
    with pytest.raises(SegPerceptionError, match=r"segmentation_node ended with status 0:\n"):
        session.play(short, tmp_path / "out", model=str(make_model()), console=QUIET)
    assert len(nodes) == 3
    assert not any(process.is_running() for process in nodes.values())


def test_the_nodes_keep_to_this_machine_whatever_the_shell_says(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    seen: list[dict[str, str]] = []

    def look(*arguments: Any, env: dict[str, str], **_: Any) -> None:
        seen.append(env)
        raise SegPerceptionError("seen enough")

    monkeypatch.setattr(processes.subprocess, "Popen", look)
    with pytest.raises(SegPerceptionError, match="seen enough"):
        session.play(short, tmp_path / "out", console=QUIET)
    assert int(seen[0]["ROS_DOMAIN_ID"]) in PRIVATE
    assert seen[0]["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert Path(seen[0]["FASTDDS_DEFAULT_PROFILES_FILE"]).name == "fastdds.xml"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image_topic": "/left"}, DataError, "/left is no image topic; there are /camera/image"),
        ({"rate": 0.0}, UsageError, "the rate is 0; give a number above 0"),
        ({"parameters": {"cameras": "[a]"}}, UsageError, "cameras is not for choice here"),
    ],
    ids=["topic", "rate", "parameter"],
)
def test_what_cannot_be_played_is_refused_before_a_node_starts(
    short: Path, tmp_path: Path, options: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        session.play(short, tmp_path / "out", console=QUIET, **options)
    assert not (tmp_path / "out").exists()


def test_bags_without_images_and_of_ros_1_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of ROS 1, which only an evaluation without --live reads"):
        session.find_topics(tmp_path / "old.bag")
    words = message_class("std_msgs/msg/String")("hello")
    with pytest.raises(DataError, match="the bag has no image topic"):
        session.find_topics(write(tmp_path / "words.mcap", "/words", [(1, words)]))


# What a recording tells, without nodes


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Recording]:
    """Return a maker of recordings: stamps of images, and (stamp, label) of masks.

    Images are sent 100 ms apart; each mask is received 30 ms after an image.
    """

    def make(stamps: list[int], seen: list[tuple[int, int]]) -> Recording:
        path = tmp_path / "result.mcap"
        with BagWriter(path) as writer:
            for time, (stamp, label) in enumerate(seen):
                image = raw(np.full((2, 3), label, np.uint8), stamp, "mono8")
                data = serialize(image, image.__msgtype__)
                for topic in (MASKS, CONFIDENCE):
                    writer.write(RawMessage(topic, image.__msgtype__, time, data))
        sent = [Event(stamp, 10**15 + i * 10**8) for i, stamp in enumerate(stamps)]
        received = [
            Event(stamp, 10**15 + i * 10**8 + 3 * 10**7) for i, (stamp, _) in enumerate(seen)
        ]
        return Recording(path, sent, received, received)

    return make


def found(recording: Recording, stamps: list[int]) -> list[int | None]:
    """Return the label of each image's mask."""
    with Recorded(recording) as recorded:
        images = [recorded.labels(stamp) for stamp in stamps]
        return [None if image is None else int(image[0, 0]) for image in images]


def test_image_encodings_of_one_stamp_are_answered_in_order_if_all_were(
    record: Callable[..., Recording],
) -> None:
    recording = record([0, 0, 0], [(0, 1), (0, 2), (0, 3)])
    assert found(recording, [0, 0, 0]) == [1, 2, 3]
    assert timing(recording)["age_ms"] == {"p50": 30.0, "p95": 30.0, "p99": 30.0}
    assert timing(recording)["jitter_ms"] == {"p50": 0.0, "p95": 0.0}
    assert timing(recording)["rate_hz"] == pytest.approx(10.0)


def test_nobody_guesses_whose_mask_it_is_where_images_of_one_stamp_were_dropped(
    record: Callable[..., Recording],
) -> None:
    recording = record([0, 0, 7], [(0, 1), (7, 2)])
    assert found(recording, [0, 0, 7]) == [None, None, 2]
    assert [answer.stamp for answer in answers(recording)] == [7]
    assert (timing(recording)["frames_out"], timing(recording)["dropped"]) == (2, 1)


def test_masks_may_be_skipped_but_not_asked_for_again(record: Callable[..., Recording]) -> None:
    stamps = list(range(50))
    recording = record(stamps, [(s, s) for s in stamps if s != 30])
    assert found(recording, [10, 30, 49]) == [10, None, 49]
    with Recorded(recording) as recorded:
        assert recorded.confidence(49) is not None
        assert recorded.labels(20) is not None
        with pytest.raises(DataError, match="label_mask of 10 was read before"):
            recorded.labels(10)


def test_jitter_is_what_the_nodes_add_to_the_cameras_own(record: Callable[..., Recording]) -> None:
    recording = record([0, 1, 2], [(0, 0), (1, 0), (2, 0)])
    late = [
        Event(s, t + lag) for (s, t), lag in zip(recording.received, (0, 0, 10**7), strict=True)
    ]
    uneven = [Event(s, t + s * s * 10**6) for s, t in recording.sent]
    measured = timing(recording._replace(received=late))
    assert measured["jitter_ms"]["p50"] == pytest.approx(5.0)
    follows = [Event(s, t + 10**6) for s, t in uneven]
    measured = timing(recording._replace(sent=uneven, received=follows))
    assert measured["jitter_ms"] == {"p50": 0.0, "p95": 0.0}


def test_where_no_mask_came_nothing_is_made_up(record: Callable[..., Recording]) -> None:
    recording = record([1, 2], [])
    measured = timing(recording)
    assert (measured["frames_in"], measured["frames_out"], measured["dropped"]) == (2, 0, 2)
    assert not {"age_ms", "jitter_ms", "rate_hz"} & set(measured)
    assert list(masks(recording)) == []
    assert found(recording, [1, 2]) == [None, None]
    assert timeline(recording).dropped == [0.0, 0.1]


def test_masks_of_a_stranger_are_not_taken_for_the_nodes(record: Callable[..., Recording]) -> None:
    with pytest.raises(SegPerceptionError, match="1 masks, such as of 9, belong to no image"):
        session._refuse_strangers(record([1, 2], [(1, 0), (9, 0)]))
    session._refuse_strangers(record([1, 2], [(2, 0)]))
