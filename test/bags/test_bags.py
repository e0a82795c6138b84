"""Bags are read and written whole, or refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from support.recordings import IMAGE, many_chunks, mask_message

from seg_perception import messages
from seg_perception.bags.bag import (
    STORE,
    BagReader,
    BagWriter,
    RawMessage,
    deserialize,
    message_class,
    open_bag,
    serialize,
)
from seg_perception.errors import DataError


def write(path: Path, count: int = 3) -> Path:
    with BagWriter(path) as bag:
        for i in range(count):
            bag.write(mask_message(i + 1))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "r.mcap")
    assert [p.name for p in tmp_path.iterdir()] == ["r.mcap"]
    with BagReader(path) as bag:
        assert bag.topics == {"/mask": IMAGE}
        read = list(bag.raw(["/mask"]))
    assert [m.time_ns for m in read] == [1, 2, 3]
    message = deserialize(read[1])
    assert (messages.to_array(message) == 2).all()
    assert messages.stamp_ns(message.header) == 2


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "r.mcap")
    before = path.read_bytes()

    def fail_halfway() -> None:
        with BagWriter(path) as bag:
            bag.write(mask_message(9))
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_halfway()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.mcap"]


def test_a_missing_topic_lists_the_image_topics(tmp_path: Path) -> None:
    with (
        BagReader(write(tmp_path / "r.mcap")) as bag,
        pytest.raises(DataError, match="no topic /rgb; its image topics are /mask"),
    ):
        list(bag.raw(["/rgb"]))


def test_missing_and_damaged_bags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no bag at"):
        BagReader(tmp_path / "absent")
    path = write(tmp_path / "r.mcap")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as a bag"):
        BagReader(path)


def test_damage_inside_a_bag_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.mcap", 200)
    content = bytearray(path.read_bytes())
    chunk = content.index(b"\x28\xb5\x2f\xfd")  # a zstd frame
    content[chunk + 8 : chunk + 40] = bytes(32)
    path.write_bytes(content)
    with BagReader(path) as bag, pytest.raises(DataError, match="r.mcap is damaged: "):
        list(bag.raw())


def test_bytes_that_are_no_such_message_are_named() -> None:
    cut = mask_message(1)._replace(data=mask_message(1).data[:30])
    with pytest.raises(DataError, match="30 bytes on /mask are no sensor_msgs/msg/Image"):
        deserialize(cut)


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_folders_of_both_storages_are_read(tmp_path: Path, plugin: StoragePlugin) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/mask", IMAGE, typestore=STORE)
        for i in (3, 1, 2):
            writer.write(connection, i, mask_message(i).data)
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.raw()) == [mask_message(i) for i in (1, 2, 3)]
        assert [messages.stamp_ns(m.header) for m in bag.messages(["/mask"])] == [1, 2, 3]


def test_label_info_is_known(tmp_path: Path) -> None:
    kind = "vision_msgs/msg/LabelInfo"
    names = [message_class("vision_msgs/msg/VisionClass")(i, n) for i, n in enumerate("ab")]
    header = deserialize(mask_message(7)).header
    data = serialize(message_class(kind)(header, names, 0.5), kind)
    with BagWriter(tmp_path / "r.mcap") as bag:
        bag.write(RawMessage("/label_info", kind, 7, data))
    with BagReader(tmp_path / "r.mcap") as bag:
        (info,) = bag.messages()
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "a"), (1, "b")]
    assert info.threshold == 0.5
    # The hash that rosidl makes of vision_msgs 4: a player with another would refuse the type.
    digest = "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783"
    assert STORE.hash_rihs01(kind) == f"RIHS01_{digest}"


def test_nothing_written_is_an_empty_bag(tmp_path: Path) -> None:
    with BagReader(write(tmp_path / "r.mcap", 0)) as bag:
        assert bag.topics == {}
        assert list(bag.raw()) == []


def test_a_bag_without_its_end_is_read_up_to_the_damage(tmp_path: Path) -> None:
    path = many_chunks(tmp_path / "bag")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for place in (path, path.parent):
        with open_bag(place) as bag:
            assert "is damaged: read up to byte" in bag.damage
            assert f"of {len(content) // 2}, at least" in bag.damage
            read = list(bag.messages(["/mask"]))
            expected = 40 if place.is_dir() else len(read)  # metadata.yaml knows
            assert bag.count("/mask") == expected
        assert 5 < len(read) < 25
        assert [messages.stamp_ns(m.header) for m in read] == list(range(1, len(read) + 1))
    (path.parent / "metadata.yaml").unlink()  # as a killed recorder leaves it
    with open_bag(path.parent) as bag:
        assert len(list(bag.raw())) == len(read)
    with pytest.raises(DataError, match="cannot be read as a bag"):
        BagReader(path)


def test_a_whole_bag_is_not_damaged(tmp_path: Path) -> None:
    path = many_chunks(tmp_path / "bag")
    content = path.read_bytes()
    with open_bag(path) as bag:
        assert bag.damage == ""
        assert len(list(bag.raw())) == 40
    path.write_bytes(content[:-4])  # all but the last bytes of the footer
    with open_bag(path) as bag:
        assert "at least 4 bytes lost" in bag.damage
        assert len(list(bag.raw())) == 40
    path.write_bytes(bytes(100))
    with pytest.raises(DataError, match="cannot be read as a bag"):
        open_bag(path)


def test_a_bag_of_ros_1_is_read(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    header = store.types["std_msgs/msg/Header"](
        5, store.types["builtin_interfaces/msg/Time"](1, 2), "camera"
    )
    pixels = np.arange(12, dtype=np.uint8)
    message = store.types[IMAGE](header, 3, 4, "mono8", 0, 4, pixels)
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/mask", IMAGE, typestore=store)
        writer.write(connection, 7, store.serialize_ros1(message, IMAGE))
    with open_bag(tmp_path / "old.bag") as bag:
        assert bag.count("/mask") == 1
        (read,) = bag.messages(["/mask"])
    assert messages.stamp_ns(read.header) == 1_000_000_002
    assert (messages.to_array(read).ravel() == pixels).all()
    with open_bag(tmp_path / "old.bag") as bag, pytest.raises(DataError, match="of ROS 1"):
        bag.deserialize(RawMessage("/mask", IMAGE, 0, b"short"))
