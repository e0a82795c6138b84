"""Videos that begin in the middle, are cut into spans, damaged, or lack packets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from support.video_bags import (
    AFTER_DAMAGE,
    CODECS,
    FOXGLOVE,
    GOP,
    MISSING,
    NO_KEY,
    PERIOD,
    START,
    TOPIC,
    assert_equal,
    clip_images,
    decoded,
    described,
    encode,
    encoded,
    message,
    number_of,
    read,
    write_bag,
)

from seg_perception.bags.bag import (
    STORE,
    message_class,
    serialize,
)
from seg_perception.bags.sources import LAST_NS, BagSource, Span
from seg_perception.bags.video_codecs import codec_of


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return clip_images()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("missing", [None, 1, 7, 11])
def test_spans_add_up_to_the_whole_in_its_order(
    codec: str, missing: int | None, images: list[np.ndarray], tmp_path: Path
) -> None:
    """Wherever it is cut; also where a packet is missing, and between images of open groups."""
    packets = encoded(images, codec)
    if missing is not None:
        del packets[missing]
    source = BagSource(write_bag(tmp_path / "bag", packets, codec))
    whole = described(source)
    assert len(whole) == len(packets)
    shown = [n for n, text in whole if len(text) == 64]
    assert shown == sorted(shown)
    for cut in range(len(packets) + 1):
        at = START + cut * PERIOD
        parts = [described(source, Span(0, at)), described(source, Span(at, LAST_NS))]
        # What has no image stands where it was recorded; the others in the order they are shown.
        assert [x for part in parts for x in part if len(x[1]) == 64] == [
            x for x in whole if len(x[1]) == 64
        ]
        assert sorted(parts[0] + parts[1]) == sorted(whole)


@pytest.mark.parametrize("codec", ["h264", "h265 with open groups"])
def test_the_image_before_a_span_is_there_to_look_back(
    codec: str, images: list[np.ndarray], tmp_path: Path
) -> None:
    packets = encoded(images, codec)
    source, right = BagSource(write_bag(tmp_path / "bag", packets, codec)), decoded(packets, codec)
    frames = list(source.frames(Span(START + 2 * GOP * PERIOD, LAST_NS)))
    first = next(at for at, frame in enumerate(frames) if frame.counted)
    before = number_of(frames[first - 1])
    assert before == number_of(frames[first]) - 1
    assert (frames[first - 1].image == right[before]).all()


@pytest.mark.parametrize("labels", [False, True])
def test_few_packets_beside_a_span_are_decoded(
    labels: bool, images: list[np.ndarray], tmp_path: Path
) -> None:
    packets = encoded(images, "h264") * 40
    mask = message_class("sensor_msgs/msg/Image")
    time = message_class("builtin_interfaces/msg/Time")(1, 0)
    header = message_class("std_msgs/msg/Header")(time, "")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        video = writer.add_connection(TOPIC, FOXGLOVE, typestore=STORE)
        truth = writer.add_connection("/truth", "sensor_msgs/msg/Image", typestore=STORE)
        for at, (_, data) in enumerate(packets):
            writer.write(video, START + at * PERIOD, message(FOXGLOVE, "h264", at, data))
        made = mask(header, 1, 1, "mono8", 0, 1, np.zeros(1, np.uint8))
        writer.write(truth, START, serialize(made, "sensor_msgs/msg/Image"))
    source = BagSource(tmp_path / "bag", TOPIC, labels="/truth" if labels else None)
    span = Span(START + 400 * PERIOD, START + 404 * PERIOD)
    frames = list(source.frames(span))
    assert sum(frame.counted for frame in frames) == 4
    assert len(frames) == 4 + 2 * GOP


@pytest.mark.parametrize("codec", CODECS)
def test_images_before_the_first_key_frame_are_counted_and_named(
    codec: str, images: list[np.ndarray], tmp_path: Path
) -> None:
    packets = encoded(images, codec)
    found = read(BagSource(write_bag(tmp_path / "bag", packets[2:], codec)))
    lost = {n for n, image in found.items() if isinstance(image, str)}
    first = next(at for at in range(2, len(packets)) if packets[at][0] == GOP)
    assert {found[n] for n, _ in packets[2:first]} == {NO_KEY}
    # What follows a key frame and is shown before it cannot be decoded without those before.
    assert {n for n, _ in packets[2:first]} <= lost <= set(range(GOP))
    right = decoded(packets, codec)
    assert_equal({n: i for n, i in found.items() if n not in lost},
                 {n: i for n, i in right.items() if n not in lost and n in found})  # fmt: skip


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("damage", ["zeros", "half"])
def test_a_damaged_packet_ends_the_stream_until_the_next_key_frame(
    codec: str, damage: str, images: list[np.ndarray], tmp_path: Path
) -> None:
    packets = encoded(images, codec)
    data = packets[7][1]
    bad = bytes(40) if damage == "zeros" else data[: len(data) // 2] + bytes(len(data) // 2)
    broken = [*packets[:7], (7, bad), *packets[8:]]
    found = read(BagSource(write_bag(tmp_path / "bag", broken, codec)))
    lost = {n for n, image in found.items() if isinstance(image, str)}
    assert lost == {7, 8, 9}
    assert {found[n] for n in lost} == {AFTER_DAMAGE}
    right = decoded(packets, codec)
    assert_equal({n: i for n, i in found.items() if n not in lost},
                 {n: i for n, i in right.items() if n not in lost})  # fmt: skip


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec.startswith("h26")])
def test_a_packet_that_is_missing_is_noticed(
    codec: str, images: list[np.ndarray], tmp_path: Path
) -> None:
    """Each of a group in turn; what comes is to the byte what it would be without the loss."""
    packets = encoded(images, codec)
    right = decoded(packets, codec)
    builds = 0
    for gone in range(GOP, 2 * GOP):
        left = packets[:gone] + packets[gone + 1 :]
        found = read(BagSource(write_bag(tmp_path / f"{gone}", left, codec)))
        assert sorted(found) == sorted(n for n, _ in left)
        lost = {n for n, image in found.items() if isinstance(image, str)}
        assert_equal({n: i for n, i in found.items() if n not in lost},
                     {n: i for n, i in right.items() if n in found and n not in lost})  # fmt: skip
        assert not lost & set(range(3 * GOP, len(images)))
        assert {str(found[n]) for n in lost} <= {MISSING, AFTER_DAMAGE}
        builds += bool(lost)
    assert builds >= 2


@pytest.mark.parametrize(
    "options",
    ["bframes=0", "bframes=3:b-pyramid=normal:ref=4", "open-gop=1:bframes=2", "interlaced=1",
     "cqm=jvt:8x8dct=1", "intra-refresh=1:bframes=0", "slices=4", "weightp=2:bframes=3"],
)  # fmt: skip
def test_numbers_of_h264_tell_of_every_missing_image_that_others_build_on(
    options: str, images: list[np.ndarray]
) -> None:
    packets = [data for _, data in encode(images, "libx264", {"x264-params": options})]

    def follow(numbers: Sequence[int]) -> list[bool]:
        codec = codec_of("h264")
        return [codec.read(packets[n]).follows for n in numbers]

    assert all(follow(range(len(packets))))
    found = 0
    for gone in range(1, len(packets) - 1):
        is_built_on = any(data[0] & 0x60 for data in packets[gone].split(b"\0\0\1")[1:]
                          if data[0] & 0x1F in (1, 5))  # fmt: skip
        is_key = b"\0\0\1\x65" in packets[gone + 1]
        following = [n for n in range(len(packets)) if n != gone]
        assert all(follow(following)) == (not is_built_on or is_key)
        found += is_built_on and not is_key
    assert found >= 3


def test_a_key_frame_may_use_parameter_sets_that_came_before(
    images: list[np.ndarray], tmp_path: Path
) -> None:
    """As cameras send them that say once how they encode."""
    packets = encoded(images, "h264")
    right = decoded(packets, "h264")
    bare = [packets[0]]
    for number, data in packets[1:]:
        units = [u for u in data.split(b"\0\0\1")[1:] if u[0] & 0x1F not in (7, 8)]
        bare.append((number, b"".join(b"\0\0\1" + unit for unit in units)))
    source = BagSource(write_bag(tmp_path / "bag", bare, "h264"))
    assert_equal(read(source), right)
    assert_equal(read(source, Span(START + 12 * PERIOD, LAST_NS)),
                 {n: image for n, image in right.items() if n >= 12})  # fmt: skip
    broken = [*bare[:7], (7, bytes(40)), *bare[8:]]
    found = read(BagSource(write_bag(tmp_path / "broken", broken, "h264")))
    assert {n for n, image in found.items() if isinstance(image, str)} == {7, 8, 9}
