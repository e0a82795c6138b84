"""A bag is written whole, with all that was known of its topics, or nothing is left of it."""

import resource
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from seg_perception.bags.bag import LATCHED, BagReader, BagWriter, RawMessage, Topic
from seg_perception.errors import DataError

STRANGE = Topic("/arm", "robot/msg/Arm", "float32[] angles\n", f"RIHS01_{'ab' * 32}", (LATCHED,))
ARM = RawMessage("/arm", "robot/msg/Arm", 7, b"\x00\x01\x00\x00" + bytes(8))


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_what_a_bag_tells_of_a_topic_is_passed_on(tmp_path: Path, plugin: StoragePlugin) -> None:
    with Writer(tmp_path / "first", version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection(
            STRANGE.name,
            STRANGE.type,
            msgdef=STRANGE.definition,
            rihs01=STRANGE.digest,
            offered_qos_profiles=STRANGE.qos,
        )
        writer.write(connection, ARM.time_ns, ARM.data)
    with BagReader(tmp_path / "first") as bag:
        assert bag.described() == [STRANGE]
        with BagWriter(tmp_path / "second.mcap") as copy:
            for topic in bag.described():
                copy.add_topic(topic)
            for message in bag.raw():
                copy.write(message)
    with BagReader(tmp_path / "second.mcap") as bag:
        assert bag.described() == [STRANGE._replace(digest="")]  # an mcap file alone holds none
        assert list(bag.raw()) == [ARM]


def test_the_same_messages_make_the_same_file_under_its_own_name(tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        with BagWriter(tmp_path / folder / "r.mcap") as bag:
            bag.add_topic(STRANGE)
            bag.write(ARM)
        written.append((tmp_path / folder / "r.mcap").read_bytes())
    assert written[0] == written[1]
    assert b"- r.mcap" in written[0]
    assert b".part" not in written[0]


def test_two_writers_of_a_file_do_not_meet(tmp_path: Path) -> None:
    neighbour = tmp_path / "r.mcap.part"
    neighbour.mkdir()
    (neighbour / "kept").touch()
    with BagWriter(tmp_path / "r.mcap") as first, BagWriter(tmp_path / "r.mcap") as second:
        second.add_topic(STRANGE)
        second.write(ARM)
        first.add_topic(STRANGE)
    with BagReader(tmp_path / "r.mcap") as bag:
        assert list(bag.raw()) == []  # the first one's, which ended last
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.mcap", "r.mcap.part"]
    assert [p.name for p in neighbour.iterdir()] == ["kept"]


@pytest.mark.parametrize("size", [50_000, 3_000_000], ids=["at the end", "in between"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    noise = np.random.default_rng(0).bytes(size)

    def write() -> None:
        with BagWriter(tmp_path / "r.mcap") as bag:
            bag.add_topic(STRANGE)
            bag.write(ARM._replace(data=noise))
            bag.write(ARM)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"r\.mcap cannot be written: File too large"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="r.mcap cannot be written: File exists"):
        BagWriter(tmp_path / "file" / "r.mcap")
