"""Bags as they come: old type names, no metadata.yaml, packed files, killed recorders."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.reader import zstd
from support.recordings import IMAGE, many_chunks, mask_message

from seg_perception.bags import bag_files
from seg_perception.bags.bag import NO_HASH, STORE, BagReader, deserialize, open_bag
from seg_perception.bags.bag_topics import choose_image_topic
from seg_perception.bags.bag_types import full_type
from seg_perception.errors import DataError
from seg_perception.messages import stamp_ns

EXPECTED = [mask_message(i) for i in range(1, 6)]
PLUGINS = {".mcap": StoragePlugin.MCAP, ".db3": StoragePlugin.SQLITE3}


def recorded(
    folder: Path, suffix: str, numbers: range = range(1, 6), packed: CompressionMode | None = None
) -> Path:
    """Write a bag of images; return its only storage file."""
    writer = Writer(folder, version=9, storage_plugin=PLUGINS[suffix])
    if packed is not None:
        writer.set_compression(packed, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/mask", IMAGE, typestore=STORE)
        for i in numbers:
            writer.write(connection, i, mask_message(i).data)
    (file,) = folder.glob(f"*{suffix}*")
    return file


def read(path: Path, *, mend: bool = True) -> list[object]:
    with BagReader(path, mend=mend) as bag:
        assert bag.topics == {"/mask": IMAGE}
        assert bag.damage == ""
        messages = list(bag.raw())
        assert bag.count("/mask") == len(messages)
        return messages


def leave_no_metadata(folder: Path) -> Path:
    (folder / "metadata.yaml").unlink()
    return folder


@pytest.mark.parametrize("suffix", PLUGINS)
@pytest.mark.parametrize("mend", [True, False])
def test_a_folder_without_metadata_is_read(suffix: str, mend: bool, tmp_path: Path) -> None:
    file = recorded(tmp_path / "bag", suffix)
    folder = leave_no_metadata(file.parent)
    before = sorted(folder.iterdir())
    assert read(folder, mend=mend) == EXPECTED
    assert read(file, mend=mend) == EXPECTED
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("suffix", PLUGINS)
def test_the_files_of_a_recording_follow_each_other(suffix: str, tmp_path: Path) -> None:
    for name, numbers in (("b", range(1, 3)), ("a", range(3, 6))):  # names tell no order
        file = recorded(tmp_path / name, suffix, numbers)
        shutil.copy(file, tmp_path / f"{name}{suffix}")
        shutil.rmtree(file.parent)
    assert read(tmp_path) == EXPECTED
    with BagReader(tmp_path) as bag:
        assert bag.times() == (1, 6)
        assert [m.time_ns for m in bag.raw(["/mask"], 2, 5)] == [2, 3, 4]


@pytest.mark.parametrize("suffix", PLUGINS)
def test_packed_files_are_unpacked_and_nothing_is_left(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recorded(tmp_path / "bag", suffix)
    packed = tmp_path / "alone" / f"{file.name}.zstd"
    packed.parent.mkdir()
    packed.write_bytes(zstd.compress(file.read_bytes()))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    assert read(packed) == EXPECTED
    assert read(packed.parent) == EXPECTED
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", PLUGINS)
def test_messages_that_are_packed_one_by_one_are_read_without_metadata(
    suffix: str, tmp_path: Path
) -> None:
    file = recorded(tmp_path / "bag", suffix, packed=CompressionMode.MESSAGE)
    assert read(file.parent) == EXPECTED  # by its metadata
    assert read(file) == EXPECTED
    assert read(leave_no_metadata(file.parent)) == EXPECTED


def test_what_a_killed_recorder_left_in_the_write_ahead_log_is_read(tmp_path: Path) -> None:
    file = recorded(tmp_path / "bag", ".db3", range(1, 4))
    folder = leave_no_metadata(file.parent)
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    for i in (4, 5):
        database.execute(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)",
            (i, mask_message(i).data),
        )
    database.commit()
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)  # as a power cut leaves it, while the writer has it open
    database.close()
    log = killed / f"{file.name}-wal"
    assert log.stat().st_size
    before = {p: p.read_bytes() for p in killed.iterdir()}
    assert read(killed) == EXPECTED
    assert {p: p.read_bytes() for p in killed.iterdir()} == before


@pytest.mark.parametrize("suffix", PLUGINS)
def test_a_folder_whose_files_are_packed_leaves_nothing_while_it_is_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = recorded(tmp_path / "plain", suffix).parent
    folder = recorded(tmp_path / "bag", suffix, packed=CompressionMode.FILE).parent
    before = {p: p.read_bytes() for p in folder.iterdir()}
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with BagReader(folder) as bag, BagReader(plain) as same:
        assert list((tmp_path / "tmp").iterdir()) == []
        assert bag.described() == same.described()
        assert bag.count("/mask") == 5
        assert list(bag.raw()) == EXPECTED
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_killed_process_leaves_no_copy(tmp_path: Path) -> None:
    file = recorded(tmp_path / "bag", ".db3")
    packed = tmp_path / "r.db3.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    code = (
        "import sys; from pathlib import Path\n"
        "from seg_perception.bags.bag import BagReader\n"
        f"bag = BagReader(Path({str(packed)!r}))\n"
        "print(len(list(bag.raw())), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    reader = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"5\n"
    reader.kill()
    reader.communicate()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("suffix", PLUGINS)
@pytest.mark.parametrize("content", ["", "rosbag2_bagfile_information:\n  ver", "a: [", None])
def test_metadata_that_a_power_cut_left_unfinished_is_not_needed(
    suffix: str, content: str | None, tmp_path: Path
) -> None:
    folder = recorded(tmp_path / "bag", suffix).parent
    written = bytes(64) + b"\xff" if content is None else content.encode()
    (folder / "metadata.yaml").write_bytes(written)
    assert read(folder, mend=False) == EXPECTED


@pytest.mark.parametrize("suffix", PLUGINS)
def test_an_empty_last_file_is_named_and_the_others_are_read(suffix: str, tmp_path: Path) -> None:
    folder = leave_no_metadata(recorded(tmp_path / "bag", suffix).parent)
    (folder / f"bag_1{suffix}").touch()
    with BagReader(folder, mend=True) as bag:
        assert bag.damage == f"bag_1{suffix} is empty"
        assert list(bag.raw()) == EXPECTED
    with pytest.raises(DataError, match=f"cannot be read as a bag: bag_1{suffix} is empty; check"):
        BagReader(folder)


def test_a_log_beside_a_described_database_is_read(tmp_path: Path) -> None:
    """As where the metadata was mended by ros2 bag reindex, which leaves logs as they are."""
    folder = recorded(tmp_path / "bag", ".db3").parent
    with sqlite3.connect(folder / "bag.db3") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("UPDATE messages SET timestamp = 9 WHERE timestamp = 5")
        database.commit()
        killed = tmp_path / "killed"
        shutil.copytree(folder, killed)
    database.close()
    before = {p: p.read_bytes() for p in killed.iterdir()}
    with BagReader(killed) as bag:
        assert [m.time_ns for m in bag.raw()] == [1, 2, 3, 4, 9]
        assert bag.described()[0].digest
    assert {p: p.read_bytes() for p in killed.iterdir()} == before


def test_a_write_that_a_power_cut_ended_is_taken_back(tmp_path: Path) -> None:
    """SQLite's other log: the pages as they were before a transaction."""
    file = recorded(tmp_path / "bag", ".db3")
    folder = leave_no_metadata(file.parent)
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode=DELETE")
    database.execute("PRAGMA cache_size=1")  # so that pages are written before the end
    database.execute("BEGIN")
    for _ in range(50):
        database.execute(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, 7, ?)", (bytes(4096),)
        )
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    database.close()
    assert (killed / f"{file.name}-journal").stat().st_size
    assert read(killed) == EXPECTED


def test_a_cut_pack_is_read_up_to_the_cut(tmp_path: Path) -> None:
    file = many_chunks(tmp_path / "bag")
    data = zstd.compress(file.read_bytes())
    packed = tmp_path / "r.mcap.zstd"
    packed.write_bytes(data[: len(data) * 2 // 3])
    with open_bag(packed) as bag:
        assert bag.damage.startswith("r.mcap.zstd is cut: its end is lost")
        assert "r.mcap is damaged: read up to byte" in bag.damage
        assert 10 < len(list(bag.raw())) < 40


def renamed(path: Path, source: Path) -> Path:
    """Write the messages of a bag with types as older and foreign recorders name them."""
    with BagReader(source) as bag, Writer(path, version=9, storage_plugin=PLUGINS[".mcap"]) as out:
        connections = {
            t.name: out.add_connection(
                t.name, t.type.replace("/msg/", "/"), msgdef=t.definition, rihs01=NO_HASH
            )
            for t in bag.described()
        }
        for record in bag.raw():
            out.write(connections[record.topic], record.time_ns, record.data)
    return path


def test_a_bag_whose_types_all_lack_msg_is_the_same_bag(tmp_path: Path) -> None:
    clip = Path(str(resources.files("seg_perception") / "clip" / "bag"))
    with BagReader(renamed(tmp_path / "old", clip)) as old, BagReader(clip) as bag:
        assert old.topics == bag.topics
        assert len(set(old.topics.values())) > 1
        assert all(m == n for m, n in zip(old.raw(), bag.raw(), strict=True))
        for message in old.messages():
            assert stamp_ns(message.header)


def test_types_without_msg_are_read(tmp_path: Path) -> None:
    """Older and foreign recorders write package/Type."""
    file = recorded(tmp_path / "bag", ".db3")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET type = 'sensor_msgs/Image'")
        database.execute("UPDATE message_definitions SET topic_type = 'sensor_msgs/Image'")
    database.close()
    with BagReader(file) as bag:
        assert bag.topics == {"/mask": IMAGE}
        assert list(bag.raw(["/mask"])) == EXPECTED
        assert [t.type for t in bag.described()] == [IMAGE]
        assert deserialize(next(bag.raw())).encoding == "mono8"


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("sensor_msgs/Image", IMAGE),
        (IMAGE, IMAGE),
        ("tf2_msgs/TFMessage", "tf2_msgs/msg/TFMessage"),
        ("a/srv/B", "a/srv/B"),
        ("JsonSchema", "JsonSchema"),
    ],
)
def test_names_of_types_are_completed(given: str, full: str) -> None:
    assert full_type(given) == full


def test_a_bag_without_images_lists_its_topics_and_what_may_be_meant() -> None:
    known = {"/imu": "sensor_msgs/msg/Imu", "/cam": "foo_msgs/msg/ThermalImage"}
    with pytest.raises(DataError, match=r"no image topic: its topics are /cam \(foo_msgs/msg/Ther"):
        choose_image_topic(known)
    with pytest.raises(DataError, match="if /cam is meant, convert it to sensor_msgs/msg/Image"):
        choose_image_topic(known)
    videos = {"/v": "foxglove_msgs/msg/CompressedVideo", "/imu": "sensor_msgs/msg/Imu"}
    with pytest.raises(DataError, match=r"/v: only evaluate without --live, label, map and quan"):
        choose_image_topic(videos)
    many = {f"/t{i:02}": "std_msgs/msg/Empty" for i in range(40)}
    with pytest.raises(DataError, match=r"/t11 \(std_msgs/msg/Empty\) and 28 more$"):
        choose_image_topic(many)
    with pytest.raises(DataError, match=r"/x is no image topic; there are none; its topics are /c"):
        choose_image_topic(known, "/x")
    with pytest.raises(DataError, match="/imu is no image topic but sensor_msgs/msg/Imu; there"):
        choose_image_topic(known, "/imu")


def damaged_pack(folder: Path) -> Path:
    (folder / "r.mcap.zstd").write_bytes(b"no pack at all")
    return folder / "r.mcap.zstd"


def damaged_database(folder: Path) -> Path:
    (folder / "r.db3").write_bytes(b"no database")
    (folder / "r.db3-wal").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: folder, "holds no bag: neither metadata.yaml nor .mcap or .db3 files"),
        (lambda folder: folder / "absent", "no bag at .*absent"),
        (damaged_pack, "r.mcap.zstd is not packed with zstd: .*; copy it again"),
        (damaged_database, r"r.db3 is damaged: .*; copy it again"),
    ],
)
def test_what_is_no_bag_is_named(
    make: Callable[[Path], Path], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bag").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(DataError, match=text):
        open_bag(make(tmp_path / "bag"))
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("needs", ["pack", "log"])
def test_room_is_looked_for_before_anything_is_written(
    needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recorded(tmp_path / "bag", ".db3")
    place = leave_no_metadata(file.parent)
    if needs == "pack":
        place = tmp_path / "r.db3.zstd"
        place.write_bytes(zstd.compress(file.read_bytes()))
    else:
        Path(f"{file}-wal").write_bytes(bytes(100))
    usage = shutil.disk_usage(tmp_path)._replace(free=file.stat().st_size - 1)
    monkeypatch.setattr(bag_files.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(bag_files.shutil, "copyfileobj", None)
    monkeypatch.setattr(bag_files.shutil, "copyfile", None)
    with pytest.raises(DataError, match=r"db3.* needs 0.\d MB in .*, where 0.\d MB are free; make"):
        BagReader(place)


def test_no_room_to_unpack_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = recorded(tmp_path / "bag", ".mcap")
    packed = tmp_path / "r.mcap.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bag_files.shutil, "copyfileobj", full)
    with pytest.raises(DataError, match="cannot be unpacked into .*No space left.*TMPDIR"):
        open_bag(packed)
