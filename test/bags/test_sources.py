"""Images come in order from every source, decoded by a thread that ends with its reader."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from support.recordings import IMAGE, image_message, write_bag

from seg_perception.bags.bag import STORE
from seg_perception.bags.frames import ahead
from seg_perception.bags.sources import APART, BagSource, FolderSource
from seg_perception.errors import DataError, ImageError
from seg_perception.labels import LabelSpace
from seg_perception.reporting.samples import SAMPLES, Samples


def image(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize(
    "mode", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE]
)
def test_bags_of_every_storage_are_read_by_the_decoding_thread(
    tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode
) -> None:
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=plugin)
    if mode is not CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/rgb", IMAGE, typestore=STORE)
        for i in (1, 2, 3):
            writer.write(connection, i, image_message("/rgb", 10 * i, image(i), "rgb8").data)
    source = BagSource(tmp_path / "bag")
    assert source.total == 3
    frames = list(ahead(source.frames()))
    assert [f.key for f in frames] == [10, 20, 30]
    assert [int(f.image[0, 0, 0]) for f in frames] == [1, 2, 3]
    assert source.damage == ""


def test_a_bag_of_ros_1_gives_images(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    stamp = store.types["builtin_interfaces/msg/Time"](0, 7)
    header = store.types["std_msgs/msg/Header"](1, stamp, "camera")
    message = store.types[IMAGE](header, 4, 6, "bgr8", 0, 18, image(9).ravel())
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/rgb", IMAGE, typestore=store)
        writer.write(connection, 7, store.serialize_ros1(message, IMAGE))
    (frame,) = BagSource(tmp_path / "old.bag").frames()
    assert frame.key == 7
    assert (frame.image == 9).all()


def test_image_encodings_without_masks_and_a_clock_that_jumps_back_pair_nothing_wrongly(
    tmp_path: Path,
) -> None:
    count = 3 * APART
    stamps = [*range(100, 100 + count), *range(10, 20)]
    records = []
    for s in stamps:
        records.append(image_message("/rgb", s, image(1), "rgb8"))
        if s % 3 == 0:
            records.append(image_message("/truth", s, np.full((4, 6), s % 256, np.uint8), "mono8"))
    records = [r._replace(time_ns=i) for i, r in enumerate(records)]
    source = BagSource(write_bag(tmp_path / "b.mcap", *records), labels="/truth")
    frames = list(source.frames())
    assert [f.key for f in frames] == stamps
    for frame in frames:
        assert (frame.mask is not None) == (frame.key % 3 == 0)
        if frame.mask is not None:
            assert frame.mask.data[0] == frame.key % 256


def test_folders_are_read_by_name_or_refused(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.txt"):
        cv2.imwrite(str(tmp_path / "x.png"), image(3))
        (tmp_path / "x.png").rename(tmp_path / name)
    (tmp_path / "d.png").write_bytes(b"no image")
    *frames, bad = FolderSource(tmp_path).frames()
    assert [f.key for f in frames] == ["a", "b"]
    assert (frames[1].image == 3).all()
    with pytest.raises(ImageError, match="d.png cannot be read"):
        _ = bad.image
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="several images named a;"):
        FolderSource(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        FolderSource(tmp_path / "empty")
    with pytest.raises(DataError, match="absent is no folder"):
        FolderSource(tmp_path / "absent")


@pytest.mark.parametrize("count", [1, 3, 5, 7, 64, 1000])
def test_samples_come_from_all_over_a_run(count: int) -> None:
    samples, labels = Samples(), np.zeros((4, 6), np.uint8)
    space = LabelSpace(("a",), np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8))
    for i in range(count):
        samples.offer(str(i), image(0), labels, None, space)
        assert len(samples._kept) <= 2 * SAMPLES
    at = [int(s.title) for s in samples.chosen()]
    assert at == sorted(set(at))
    assert len(at) == min(count, SAMPLES)
    assert at[0] == 0
    assert at[-1] >= 0.7 * (count - 1)
