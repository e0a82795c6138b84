"""seg-perception label: a bag in, the same bag with labels next to its images out."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from seg_perception import cli, messages
from seg_perception.bags.bag import (
    LATCHED,
    STORE,
    BagReader,
    BagWriter,
    RawMessage,
    Topic,
    message_class,
    serialize,
)
from seg_perception.drawing import draw_overlay
from seg_perception.errors import DataError, ModelError
from seg_perception.offline.label_bag import ADDED, CONFIDENCE, IMAGE, INFO, MASK, OVERLAY, QUALITY
from seg_perception.offline.label_bag import label_bag as label
from seg_perception.segmenter import Segmenter

CLIP = Path(str(resources.files("seg_perception") / "clip" / "bag"))
COMPRESSED = "sensor_msgs/msg/CompressedImage"
ARM = Topic("/arm", "robot/msg/Arm", "float32[] angles\n", f"RIHS01_{'ab' * 32}", (LATCHED,))


def header(stamp: int) -> object:
    time = message_class("builtin_interfaces/msg/Time")(*divmod(stamp, 1_000_000_000))
    return message_class("std_msgs/msg/Header")(time, "camera_optical")


def raw_image(stamp: int, pixels: np.ndarray, topic: str = "/camera/image") -> RawMessage:
    """Return an rgb8 Image that was received 5 ms after its stamp."""
    height, width = pixels.shape[:2]
    flat = np.ascontiguousarray(pixels).reshape(-1)
    message = message_class(IMAGE)(header(stamp), height, width, "rgb8", 0, 3 * width, flat)
    return RawMessage(topic, IMAGE, stamp + 5_000_000, serialize(message, IMAGE))


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def write(path: Path, records: list[RawMessage], *described: Topic) -> Path:
    with BagWriter(path) as bag:
        for topic in described:
            bag.add_topic(topic)
        for record in records:
            bag.write(record)
    return path


def drive(count: int = 3) -> list[RawMessage]:
    """Return images of `count` frames, each after a message of a type that ROS does not know."""
    records = []
    for i in range(count):
        stamp = (i + 1) * 100_000_000
        records.append(RawMessage(ARM.name, ARM.type, stamp, b"\x00\x01\x00\x00" + bytes([i] * 8)))
        records.append(raw_image(stamp, image(i)))
    return records


@pytest.fixture
def segmenter(make_model: Callable[..., Path]) -> Segmenter:
    return Segmenter.load(make_model())


def contents(path: Path) -> dict[str, bytes]:
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(f): f.read_bytes() for f in files if f.is_file()}


def test_labels_of_the_bundled_clip_are_the_segmenters(tmp_path: Path) -> None:
    before = contents(CLIP)
    with BagReader(CLIP) as clip:
        records = list(clip.raw())[:12]
    bag = write(tmp_path / "b.mcap", records)
    out = tmp_path / "new" / "out.mcap"
    assert cli.main(["label", str(bag), "--model", "tiny", "-o", str(out)]) == 0
    segmenter = Segmenter.load("tiny")
    with BagReader(out) as labelled:
        assert [r for r in labelled.raw() if r.topic not in {t.name for t in ADDED}] == records
        masks = list(labelled.messages([MASK.name]))
        sures = list(labelled.messages([CONFIDENCE.name]))
        overlays = list(labelled.messages([OVERLAY.name]))
        images = list(labelled.messages(["/camera/image/compressed"]))
    assert len(images) == len(masks) == len(sures) == len(overlays) == 6
    for sent, mask, sure, overlay in zip(images, masks, sures, overlays, strict=True):
        image = messages.decode(sent)
        expected = segmenter(image.image, image.encoding)
        assert mask.encoding == sure.encoding == "mono8"
        assert (messages.to_array(mask) == expected.labels).all()
        assert (messages.to_array(sure) == expected.confidence).all()
        assert mask.header == sure.header == overlay.header == sent.header
        drawn = draw_overlay(image.image, expected.labels, segmenter.space)
        data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        assert (overlay.format, bytes(overlay.data)) == ("jpeg", data.tobytes())
    assert contents(CLIP) == before


def test_a_labelled_bag_evaluates_to_one(make_model: Callable[..., Path], tmp_path: Path) -> None:
    bag, out, model = write(tmp_path / "b.mcap", drive()), tmp_path / "out.mcap", str(make_model())
    assert cli.main(["label", str(bag), "--model", model, "-o", str(out)]) == 0
    images = ["--bag", str(out), "--image-topic", "/camera/image"]
    labels = ["--labels", MASK.name, "--out", str(tmp_path / "report")]
    assert cli.main(["evaluate", "--model", model, *images, *labels]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["frames_out"] == 3
    assert report["miou"] == report["pixel_accuracy"] == 1.0


def test_originals_keep_bytes_times_definitions_and_qos(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    bag, out = write(tmp_path / "b.mcap", drive(), ARM), tmp_path / "out.mcap"
    before = bag.read_bytes()
    assert label(bag, segmenter, out) == (3, 0, [])
    assert bag.read_bytes() == before
    with BagReader(out) as labelled:
        read = list(labelled.raw())
        described = {t.name: t for t in labelled.described()}
    added = {t.name for t in ADDED}
    assert [r for r in read if r.topic not in added] == drive()
    assert described[ARM.name] == ARM._replace(digest="")  # a lone mcap file tells no hash
    assert described[INFO.name].qos[0].durability is QosDurability.TRANSIENT_LOCAL
    assert [r.time_ns for r in read] == sorted(r.time_ns for r in read)
    # Next to its image, at the image's time, names first.
    assert [r.topic for r in read[:6]] == [
        ARM.name, "/camera/image", INFO.name, MASK.name, CONFIDENCE.name, OVERLAY.name
    ]  # fmt: skip
    assert {r.time_ns for r in read[1:6]} == {105_000_000}
    assert sum(r.topic == INFO.name for r in read) == 1


def test_label_info_lists_the_ids_of_the_masks(segmenter: Segmenter, tmp_path: Path) -> None:
    label(write(tmp_path / "b.mcap", drive(1)), segmenter, tmp_path / "out.mcap")
    with BagReader(tmp_path / "out.mcap") as labelled:
        (info,) = labelled.messages([INFO.name])
    assert [(c.class_id, c.class_name) for c in info.class_map] == [
        (0, "red"), (1, "green"), (2, "blue")
    ]  # fmt: skip
    assert info.threshold == 0.0


def test_a_model_of_labels_alone_gives_no_confidence(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model("argmax.onnx", output={"kind": "labels"})
    label(write(tmp_path / "b.mcap", drive(1)), Segmenter.load(model), tmp_path / "out.mcap")
    with BagReader(tmp_path / "out.mcap") as labelled:
        assert MASK.name in labelled.topics
        assert CONFIDENCE.name not in labelled.topics


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("mode", ["NONE", "FILE", "MESSAGE"])
def test_folders_of_both_storages_are_labelled(
    segmenter: Segmenter, tmp_path: Path, plugin: StoragePlugin, mode: str
) -> None:
    bag = Writer(tmp_path / "bag", version=9, storage_plugin=plugin)
    bag.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with bag as writer:
        connection = writer.add_connection("/camera/image", IMAGE, typestore=STORE)
        for i in range(3):
            sent = raw_image((i + 1) * 10**9, image(i))
            writer.write(connection, sent.time_ns, sent.data)
    before = contents(tmp_path / "bag")
    assert label(tmp_path / "bag", segmenter, tmp_path / "out.mcap").images == 3
    assert contents(tmp_path / "bag") == before
    with BagReader(tmp_path / "out.mcap") as labelled:
        masks = [messages.to_array(m) for m in labelled.messages([MASK.name])]
    assert all((m == segmenter(image(i)).labels).all() for i, m in enumerate(masks))
    assert len(masks) == 3


def test_two_runs_write_the_same_bytes(segmenter: Segmenter, tmp_path: Path) -> None:
    bag = write(tmp_path / "b.mcap", drive(), ARM)
    for name in ("first", "second"):
        label(bag, segmenter, tmp_path / name / "out.mcap")
    first, second = ((tmp_path / n / "out.mcap").read_bytes() for n in ("first", "second"))
    assert first == second


def test_image_encodings_that_cannot_be_read_are_counted_and_named(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, jpeg = cv2.imencode(".jpg", image(0))
    good = message_class(COMPRESSED)(header(10**9), "jpeg", jpeg.reshape(-1))
    half = message_class(COMPRESSED)(header(2 * 10**9), "jpeg", jpeg.reshape(-1)[: jpeg.size // 2])
    sent = [serialize(m, COMPRESSED) for m in (good, half)]
    data = [*sent, sent[0][:30], *[sent[1]] * 11]
    records = [
        RawMessage("/c/compressed", COMPRESSED, (i + 1) * 10**9, d) for i, d in enumerate(data)
    ]
    bag = write(tmp_path / "b.mcap", records)
    out = tmp_path / "out.mcap"
    assert cli.main(["label", str(bag), "--model", str(make_model()), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "out.mcap: 1 images have labels" in said.out
    assert "not labelled: image at 2.000 s: a jpeg of" in said.err
    assert "not labelled: image at 3.000 s: 30 bytes on /c/compressed are no" in said.err
    assert "not labelled: 3 further images" in said.err
    with BagReader(out) as labelled:
        assert len(list(labelled.raw([MASK.name]))) == 1
        assert list(labelled.raw(["/c/compressed"])) == records


def test_a_bag_whose_images_all_fail_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    cut = raw_image(10**9, image(0))
    bag = write(tmp_path / "b.mcap", [cut._replace(data=cut.data[:40])])
    with pytest.raises(DataError, match="no image of /camera/image can be read; image at 1.005"):
        label(bag, segmenter, tmp_path / "out.mcap")
    assert [p.name for p in tmp_path.glob("*.mcap*")] == ["b.mcap"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(
    segmenter: Segmenter, tmp_path: Path, stop: type[BaseException]
) -> None:
    bag = write(tmp_path / "b.mcap", drive())
    (tmp_path / "new").mkdir()

    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 3)
        raise stop

    with pytest.raises(stop):
        label(bag, segmenter, tmp_path / "new" / "out.mcap", on_image=interrupt)
    assert list((tmp_path / "new").iterdir()) == []


def test_control_c_ends_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.mcap"
    command = [sys.executable, "-m", "seg_perception.cli", "label", str(CLIP), "-o", str(out)]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background, such as these tests, without Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("new/*.part")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert list((tmp_path / "new").iterdir()) == []


def test_the_input_is_never_the_output(segmenter: Segmenter, tmp_path: Path) -> None:
    bag = write(tmp_path / "folder" / "b.mcap", drive())
    with BagReader(bag), pytest.raises(ModelError, match="b.mcap is what would be read"):
        label(bag, segmenter, tmp_path / "folder" / ".." / "folder" / "b.mcap")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with pytest.raises(ModelError, match="b.mcap is what would be read"):
        label(bag, segmenter, tmp_path / "link" / "b.mcap")
    with pytest.raises(ModelError, match="b.mcap is what would be read"):
        label(tmp_path / "folder", segmenter, bag)
    with pytest.raises(DataError, match="is in the bag .*write next to it"):
        label(tmp_path / "folder", segmenter, tmp_path / "folder" / "out.mcap")
    with pytest.raises(ModelError, match=r"no \.mcap file"):
        label(bag, segmenter, tmp_path / "out.db3")
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["b.mcap", "model.onnx"]


def test_what_cannot_be_labelled_is_refused_with_a_reason(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    out = tmp_path / "out.mcap"
    both = [*drive(1), raw_image(1, image(0), "/left/image")]
    with pytest.raises(DataError, match=r"2 image topics .*/left/image.*--image-topic"):
        label(write(tmp_path / "two.mcap", both), segmenter, out)
    with pytest.raises(DataError, match="/c is no image topic; there are /camera/image"):
        label(write(tmp_path / "one.mcap", drive(1)), segmenter, out, image_topic="/c")
    with pytest.raises(DataError, match="no image topic"):
        label(write(tmp_path / "empty.mcap", []), segmenter, out)
    with pytest.raises(DataError, match="/camera/image is empty"):
        label(write(tmp_path / "mute.mcap", [], Topic("/camera/image", IMAGE)), segmenter, out)
    with pytest.raises(DataError, match="no bag at"):
        label(tmp_path / "absent.mcap", segmenter, out)
    assert not list(tmp_path.glob("out*"))


def test_one_of_several_image_topics_is_labelled(segmenter: Segmenter, tmp_path: Path) -> None:
    both = [*drive(2), raw_image(10**9, image(9), "/left/image")]
    bag = write(tmp_path / "two.mcap", both)
    found = label(bag, segmenter, tmp_path / "out.mcap", image_topic="/left/image")
    assert found.images == 1
    with BagReader(tmp_path / "out.mcap") as labelled:
        (mask,) = labelled.messages([MASK.name])
    assert (messages.to_array(mask) == segmenter(image(9)).labels).all()


def test_a_labelled_bag_is_not_labelled_again(segmenter: Segmenter, tmp_path: Path) -> None:
    label(write(tmp_path / "b.mcap", drive(1)), segmenter, tmp_path / "out.mcap")
    with pytest.raises(DataError, match="has /seg_perception/.* already; label the bag that"):
        label(tmp_path / "out.mcap", segmenter, tmp_path / "again.mcap")


def test_damaged_bags_and_bags_of_ros_1_are_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    bag = write(tmp_path / "b.mcap", drive(40))
    content = bag.read_bytes()
    bag.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as a bag"):
        label(bag, segmenter, tmp_path / "out.mcap")
    chunk = content.index(b"\x28\xb5\x2f\xfd")  # a zstd frame
    bag.write_bytes(content[: chunk + 8] + bytes(32) + content[chunk + 40 :])
    with pytest.raises(DataError, match="b.mcap is damaged"):
        label(bag, segmenter, tmp_path / "out.mcap")
    with Ros1Writer(tmp_path / "old.bag"):
        pass
    with pytest.raises(DataError, match="is a bag of ROS 1.*rosbags-convert --src .*old.bag"):
        label(tmp_path / "old.bag", segmenter, tmp_path / "out.mcap")
    assert not list(tmp_path.glob("out*"))
