"""Bags whose cameras recorded video: foxglove_msgs and ffmpeg_image_transport_msgs."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from support.video_bags import (
    CAMERA_INFO,
    CLIP,
    CODECS,
    FFMPEG,
    FOXGLOVE,
    GOP,
    IMAGE,
    NO_KEY,
    PERIOD,
    REORDERED,
    SCORES,
    START,
    TOPIC,
    S,
    assert_equal,
    clip_images,
    decoded,
    encoded,
    message,
    read,
    write_bag,
)

from seg_perception import cli
from seg_perception.bags import video_codecs
from seg_perception.bags.bag import (
    STORE,
    BagReader,
    BagWriter,
    RawMessage,
    deserialize,
    message_class,
    serialize,
)
from seg_perception.bags.bag_topics import VIDEO_TYPES
from seg_perception.bags.sources import BagSource
from seg_perception.errors import DataError
from seg_perception.images import resized, to_bgr
from seg_perception.live import session
from seg_perception.messages import decode, stamp_ns, to_array


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return clip_images()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", VIDEO_TYPES)
@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_images_and_stamps_are_those_of_the_packets(
    codec: str, kind: str, plugin: StoragePlugin, images: list[np.ndarray], tmp_path: Path
) -> None:
    packets = encoded(images, codec)
    if codec in REORDERED:
        assert [n for n, _ in packets] != sorted(n for n, _ in packets)
    source = BagSource(write_bag(tmp_path / "bag", packets, codec, kind, plugin))
    assert source.total == len(images)
    right = decoded(packets, codec)
    apart = [np.abs(right[7].astype(int) - image).mean() for image in images]
    assert int(np.argmin(apart)) == 7  # they do show the clip
    assert_equal(read(source), right)
    assert source.damage == ""


@pytest.mark.parametrize("name", ["bayer_rggb8", "mono8"])
def test_one_channel_in_the_brightness_of_a_video_is_that_channel(
    name: str, images: list[np.ndarray], tmp_path: Path
) -> None:
    """ffmpeg_encoder_decoder adds empty colours to mosaics and mono8, and takes them off again."""
    channel = np.ascontiguousarray(images[0][..., 1])
    frame = av.VideoFrame(160, 120, "yuv420p")
    rows = frame.planes[0].line_size
    padded = np.zeros((120, rows), np.uint8)
    padded[:, :160] = channel
    frame.planes[0].update(padded.tobytes())
    for plane in frame.planes[1:]:
        plane.update(bytes(plane.buffer_size))
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 160, 120, "yuv420p"
    context.time_base, context.options = Fraction(1, 15), {"qp": "0"}
    (packet,) = [*context.encode(frame), *context.encode(None)]
    word = f"h264;yuv420p;{name};{name}"
    bag = write_bag(tmp_path / "bag", [(0, bytes(packet))], word, FFMPEG)
    (found,) = read(BagSource(bag)).values()
    assert (found == to_bgr(channel, name)).all()


def test_a_mosaic_of_16_bits_is_named(tmp_path: Path) -> None:
    bag = write_bag(
        tmp_path / "bag", [(0, b"x")], "hevc;gray10le;bayer_rggb16;bayer_rggb16", FFMPEG
    )
    (found,) = read(BagSource(bag)).values()
    assert str(found).startswith("encoding 'bayer_rggb16' is not supported; use one of")


def test_a_newer_message_is_read_by_the_bags_own_definition(
    images: list[np.ndarray], tmp_path: Path
) -> None:
    """foxglove_msgs has given CompressedVideo further fields."""
    text = (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
        f"string uuid\nfoxglove_msgs/Source source\n{'=' * 80}\nMSG: foxglove_msgs/Source\n"
        f"string id\n{'=' * 80}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    )
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(text, FOXGLOVE))
    time, source = (store.types[n] for n in ("builtin_interfaces/msg/Time",
                                             "foxglove_msgs/msg/Source"))  # fmt: skip
    packets = encoded(images, "h264")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, FOXGLOVE, typestore=store)
        for number, data in packets:
            stamp = time(*divmod(START + number * PERIOD, S))
            made = store.types[FOXGLOVE](
                stamp, "camera", np.frombuffer(data, np.uint8), "h264", "an id", source("x")
            )
            writer.write(connection, START + number, store.serialize_cdr(made, FOXGLOVE))
    assert_equal(read(BagSource(tmp_path / "bag")), decoded(packets, "h264"))


def test_a_decoder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_codecs.AV1, "decoder", "libabsent")
    bag = write_bag(tmp_path / "bag", [(0, b"\x12\0\x0a\0")], "av1")
    assert str(read(BagSource(bag))[0]).startswith("this PyAV has no decoder libabsent of av1 (")


def test_a_stream_may_change_its_size(images: list[np.ndarray], tmp_path: Path) -> None:
    small = [resized(image, (64, 96)) for image in images[GOP:]]
    packets = encoded(images[:GOP], "h264")
    later = [(n + GOP, data) for n, data in encoded(small, "h264")]
    found = read(BagSource(write_bag(tmp_path / "bag", [*packets, *later], "h264")))
    assert [found[n].shape for n in (GOP - 1, GOP)] == [(120, 160, 3), (64, 96, 3)]


@pytest.mark.parametrize("word", ["mjpeg", "vp8", "", "x" * 100])
def test_other_codecs_are_named(word: str, tmp_path: Path) -> None:
    found = read(BagSource(write_bag(tmp_path / "bag", [(0, b"\0\0\1\x67")], word)))
    assert found == {0: f"video is {word[:40]!r}; record it as h264, h265, vp9 or av1"}


def test_what_is_no_video_gives_no_image(tmp_path: Path) -> None:
    packets = [(0, b""), (1, bytes(100)), (2, b"\0\0\1\x67" + bytes(100))]
    found = read(BagSource(write_bag(tmp_path / "bag", packets, "h264")))
    assert found == {
        0: "the packet is empty",
        1: "the packet has no start code; h264 is read in Annex B form alone",
        2: NO_KEY,
    }


def test_two_video_topics_are_for_choice(images: list[np.ndarray], tmp_path: Path) -> None:
    packets = encoded(images[:GOP], "h264")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in (("/a", FOXGLOVE), ("/b", FFMPEG)):
            connection = writer.add_connection(topic, kind, typestore=STORE)
            for number, data in packets:
                writer.write(connection, START + number, message(kind, "h264", number, data))
    with pytest.raises(DataError, match=r"2 image topics \(/a, /b\)"):
        BagSource(tmp_path / "bag")
    assert_equal(read(BagSource(tmp_path / "bag", "/b")), decoded(packets, "h264"))


def test_live_nodes_take_no_video(images: list[np.ndarray], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", encoded(images[:GOP], "h264"), "h264")
    with pytest.raises(DataError, match="no image topic: .*/video: only evaluate without"):
        session.find_topics(bag)


def twin_bags(folder: Path, codec: str) -> tuple[Path, Path]:
    """Write a video of the bundled clip with its CameraInfo, and its decoded images as Image."""
    with BagReader(CLIP / "bag") as clip:
        records = list(clip.raw())[:40]
    sent = [r for r in records if r.topic.endswith("compressed")]
    stamps = [stamp_ns(deserialize(r).header) for r in sent]
    packets = encoded([decode(deserialize(r)).image for r in sent], codec)
    right = decoded(packets, codec)
    video, still = folder / "video.mcap", folder / "still.mcap"
    with BagWriter(video) as first, BagWriter(still) as second:
        for record in records:
            if record.topic == CAMERA_INFO:
                first.write(record)
                second.write(record)
                continue
            number, data = packets.pop(0)
            stamp, pixels = stamps[number], right[number]
            header = deserialize(sent[number]).header
            made = message_class(FOXGLOVE)(
                header.stamp, header.frame_id, np.frombuffer(data, np.uint8), CODECS[codec][3]
            )
            content = serialize(made, FOXGLOVE)
            first.write(RawMessage("/camera/image", FOXGLOVE, record.time_ns, content))
            assert stamp == stamp_ns(header)
            height, width = pixels.shape[:2]
            image = message_class(IMAGE)(
                header, height, width, "bgr8", 0, 3 * width, pixels.reshape(-1)
            )
            second.write(
                RawMessage("/camera/image", IMAGE, record.time_ns, serialize(image, IMAGE))
            )
    return video, still


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_all_that_commands_make_of_a_video_is_what_they_make_of_its_images(
    codec: str, tmp_path: Path
) -> None:
    """Byte by byte: the images are those that FFmpeg decodes by itself."""
    made = []
    for bag in twin_bags(tmp_path, codec):
        labelled, mapped = tmp_path / f"{bag.stem}_labelled.mcap", tmp_path / f"{bag.stem}_map"
        command = ["--bag", str(bag), "--labels", str(CLIP / "truth"), "--measure", "flicker"]
        results: list[Any] = []
        for workers in ([], ["--workers", "2"]):
            out = tmp_path / f"{bag.stem}{len(workers)}"
            arguments = ["evaluate", "--model", "tiny", *command, *workers, "--out", str(out)]
            assert cli.main(arguments) == 0
            report = json.loads((out / "report.json").read_text())
            results.append({key: report[key] for key in SCORES})
        assert results[0] == results[1]
        assert results[0]["frames_scored"] == 20
        assert cli.main(["label", str(bag), "--model", "tiny", "-o", str(labelled)]) == 0
        with BagReader(labelled) as reader:
            masks = {r.time_ns: r.data for r in reader.raw(["/seg_perception/label_mask"])}
        assert len(masks) == 20
        placed = ["--camera-z", "1.4", "--resolution", "0.2", "--out", str(mapped)]
        assert cli.main(["map", str(bag), "--model", "tiny", *placed]) == 0
        made.append((results[0], masks, (mapped / "map.png").read_bytes()))
    assert made[0] == made[1]


def test_the_commands_read_video(
    images: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packets = encoded(images, "h264")
    bag = write_bag(tmp_path / "bag", packets[1:], "h264")
    reports = []
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        out = tmp_path / name
        command = ["evaluate", "--model", "tiny", "--teacher", "tiny,threads=2", "--bag", str(bag)]
        assert cli.main([*command, *more, "--out", str(out)]) == 0
        said = capsys.readouterr()
        assert "4 images have no score: the video has no key frame before it" in said.err
        reports.append((out / "report.json").read_text())
    scores = [{k: v for k, v in json.loads(r).items() if k in ("miou", "frames_in",
              "frames_out", "frames_scored", "skipped")} for r in reports]  # fmt: skip
    assert scores[0] == scores[1]
    assert scores[0]["frames_in"] == len(images) - 1

    assert cli.main(["label", str(bag), "--model", "tiny", "-o", str(tmp_path / "l.mcap")]) == 0
    assert "15 images have labels" in capsys.readouterr().out
    with BagReader(tmp_path / "l.mcap") as labelled:
        masks = list(labelled.messages(["/seg_perception/label_mask"]))
    assert [stamp_ns(m.header) for m in masks] == [START + n * PERIOD for n in range(GOP, 20)]
    assert to_array(masks[0]).shape == (120, 160)
