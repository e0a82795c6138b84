"""Bags are read and written whole, or refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from seg_perception import messages
from seg_perception.errors import DataError
from seg_perception.evaluation.bags import (
    BagReader,
    BagWriter,
    RawMessage,
    deserialize,
    message_class,
    serialize,
)

IMAGE = "sensor_msgs/msg/Image"


def image(stamp: int) -> RawMessage:
    time = message_class("builtin_interfaces/msg/Time")(sec=0, nanosec=stamp)
    header = message_class("std_msgs/msg/Header")(stamp=time, frame_id="camera")
    pixels = np.full(12, stamp, np.uint8)
    message = message_class(IMAGE)(header, 3, 4, "mono8", 0, 4, pixels)
    return RawMessage("/mask", IMAGE, stamp, serialize(message, IMAGE))


def write(path: Path, count: int = 3) -> Path:
    with BagWriter(path) as bag:
        for i in range(count):
            bag.write(image(i + 1))
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
            bag.write(image(9))
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
