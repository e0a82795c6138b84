"""Read and write bags without ROS; the one module that knows rosbags."""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from seg_perception.errors import DataError
from seg_perception.evaluation.mended import MendedPath, find_cut

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
NO_HASH = "RIHS01_" + "0" * 64  # of a type whose hash is not known
# Reliable and transient local: a player gives the last message to those who come late.
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    deadline=QosTime(0, 0), lifespan=QosTime(0, 0), liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=QosTime(0, 0), avoid_ros_namespace_conventions=False,
)  # fmt: skip
STORE = get_typestore(Stores.ROS2_JAZZY)
# The store lacks vision_msgs, which is no part of ROS's core; fields as in its release 4.
for _kind, _fields in {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"
    ),
}.items():
    STORE.register(get_types_from_msg(_fields, _kind))


class RawMessage(NamedTuple):
    """A message as it was recorded: CDR bytes, and its time in nanoseconds."""

    topic: str
    type: str
    time_ns: int
    data: bytes


class Topic(NamedTuple):
    """A topic as a bag describes it.

    `definition` is the text of its type, `digest` the type's hash, each empty where the bag lacks
    it; `qos` is what its publishers offered.
    """

    name: str
    type: str
    definition: str = ""
    digest: str = ""
    qos: tuple[Qos, ...] = ()

    @property
    def is_latched(self) -> bool:
        """Tell whether a publisher kept messages for those who come late."""
        return any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in self.qos)


def deserialize(message: RawMessage) -> Any:
    """Return the message object of recorded bytes; its fields are named as in ROS.

    Raises DataError for bytes that are no such message.
    """
    try:
        return STORE.deserialize_cdr(message.data, message.type)
    except Exception as error:  # the parser meets damage in many ways
        raise DataError(
            f"{len(message.data)} bytes on {message.topic} are no {message.type} "
            f"({type(error).__name__}: {error}); the recording is damaged, or its type is not one "
            "of ROS's own"
        ) from error


def serialize(message: Any, kind: str) -> bytes:
    """Return the CDR bytes of a rosbags message object."""
    return bytes(STORE.serialize_cdr(message, kind))


def message_class(kind: str) -> Any:
    """Return rosbags' class of a message type such as `sensor_msgs/msg/Image`."""
    return STORE.types[kind]


def choose_image_topic(
    known: Mapping[str, str], wanted: str | None = None, *, but: Collection[str] = ()
) -> str:
    """Return the image topic `wanted`, or the only one there is; DataError lists the choices.

    `known` is the message type of each topic. Topics in `but` are not for choice.
    """
    images = [t for t, kind in known.items() if kind in IMAGE_TYPES and t not in but]
    if wanted is None and len(images) != 1:
        raise DataError(
            f"the bag has {len(images)} image topics ({', '.join(images) or 'none'}); choose one "
            "with --image-topic"
        )
    topic = wanted or images[0]
    if topic not in images:
        raise DataError(f"{topic} is no image topic; there are {', '.join(images) or 'none'}")
    return topic


def open_bag(path: Path) -> "BagReader":
    """Open a bag of ROS 2, up to its damage, or of ROS 1 (*.bag)."""
    return Ros1BagReader(path) if path.suffix == ".bag" else BagReader(path, mend=True)


class BagReader:
    """Iterate over a rosbag2: a folder, or a lone mcap or sqlite3 file.

    `damage` says what is missing of a bag that was mended, and is empty otherwise.
    """

    def __init__(self, path: Path, *, mend: bool = False) -> None:
        """Open `path`; raises DataError when it is missing or damaged.

        `mend`: an mcap file without its end is read as far as it goes.
        """
        self.damage = ""
        if not path.exists():
            raise DataError(
                f"no bag at {path}; give the folder that holds metadata.yaml, or a file"
            )
        try:
            if mend:
                path, self.damage = _find_damage(path)
            self._reader = self._open(MendedPath(path) if self.damage else path)
        except Exception as error:  # rosbags lets errors of its parsers through as they are
            raise DataError(
                f"{path} cannot be read as a bag: {type(error).__name__}: {error}; "
                "check that the recording was closed (ros2 bag reindex repairs one that was not)"
            ) from error
        self._path = path

    def _open(self, path: Path | MendedPath) -> Any:
        reader = Reader(path)
        reader.open()
        return reader

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Return the message type of each topic."""
        return {c.topic: c.msgtype for c in self._reader.connections}

    def count(self, topic: str) -> int:
        """Return how many messages the bag says that it holds of a topic."""
        return sum(c.msgcount for c in self._reader.connections if c.topic == topic)

    def described(self) -> list[Topic]:
        """Return each topic of a rosbag2 with all that the bag tells of it.

        Where several publishers were recorded, the first one describes their topic.
        """
        found: dict[tuple[str, str], Topic] = {}
        for c in self._reader.connections:
            qos = tuple(c.ext.offered_qos_profiles)
            topic = Topic(c.topic, c.msgtype, c.msgdef.data, c.digest, qos)
            found.setdefault((c.topic, c.msgtype), topic)
        return list(found.values())

    def times(self) -> tuple[int, int]:
        """Return when the first message was received, and just after the last, in nanoseconds."""
        return self._reader.start_time, self._reader.end_time

    def raw(
        self, topics: Collection[str] = (), begin: int | None = None, end: int | None = None
    ) -> Iterator[RawMessage]:
        """Yield the messages of `topics` (all when empty) in the order of their times.

        Only those received in [begin, end), in nanoseconds, where these are given.
        Raises DataError for a topic that the bag lacks, and where the file is damaged.
        """
        missing = [t for t in topics if t not in self.topics]
        if missing:
            pictures = [t for t, kind in self.topics.items() if kind in IMAGE_TYPES]
            raise DataError(
                f"{self._path} has no topic {missing[0]}; its image topics are "
                f"{', '.join(pictures) or 'none'}"
            )
        wanted = [c for c in self._reader.connections if not topics or c.topic in topics]
        if not wanted:
            return
        records = self._reader.messages(wanted, begin, end)
        while True:
            try:
                connection, time_ns, data = next(records)
            except StopIteration:
                return
            except Exception as error:  # as above; what the consumer raises does not pass here
                raise DataError(
                    f"{self._path} is damaged: {type(error).__name__}: {error}; copy or record it "
                    "again"
                ) from error
            yield RawMessage(connection.topic, connection.msgtype, time_ns, bytes(data))

    def messages(self, topics: Collection[str] = ()) -> Iterator[Any]:
        """Yield what `raw` yields as message objects."""
        return map(self.deserialize, self.raw(topics))

    def deserialize(self, message: RawMessage) -> Any:
        """Return the message object of bytes that this bag gave; DataError when it is none."""
        return deserialize(message)


class Ros1BagReader(BagReader):
    """Iterate over a bag of ROS 1, whose messages are not CDR; fields are named as in ROS 2."""

    _store = get_typestore(Stores.ROS1_NOETIC)

    def _open(self, path: Path | MendedPath) -> Any:
        reader = Ros1Reader(path)
        reader.open()
        return reader

    def deserialize(self, message: RawMessage) -> Any:
        """Return the message object of bytes that this bag gave; DataError when it is none."""
        try:
            return self._store.deserialize_ros1(message.data, message.type)
        except Exception as error:  # as in deserialize
            raise DataError(
                f"{len(message.data)} bytes on {message.topic} are no {message.type} of ROS 1 "
                f"({type(error).__name__}: {error}); the recording is damaged"
            ) from error


def _find_damage(path: Path) -> tuple[Path, str]:
    """Return what is to be read and what is missing of it.

    A recorder that was killed leaves a folder without metadata.yaml: its only mcap file is read.
    """
    if path.is_dir() and not (path / "metadata.yaml").exists():
        found = list(path.glob("*.mcap"))
        path = found[0] if len(found) == 1 else path
    said = []
    for file in sorted(path.glob("*.mcap")) if path.is_dir() else [path]:
        cut = find_cut(file) if file.suffix == ".mcap" else None
        if cut is not None:
            said.append(
                f"{file.name} is damaged: read up to byte {cut.end} of {file.stat().st_size}, "
                f"{f'at least {cut.lost} bytes' if cut.lost else 'its end'} lost"
            )
    return path, "; ".join(said)


class BagWriter:
    """Write one mcap file from CDR bytes; it appears under its name only when it is whole.

    Raises DataError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        """Begin `path` (*.mcap); what stood there is replaced on success alone."""
        self._path = path
        self._connections: dict[tuple[str, str], Connection] = {}
        with self._named():
            path.parent.mkdir(parents=True, exist_ok=True)
            # A folder that nobody else has; the file in it states its own final name.
            beside = tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
        self._beside = Path(beside)
        self._writer = Writer(
            self._beside / path.stem, version=9, storage_plugin=StoragePlugin.MCAP
        )
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            with self._named():
                self._writer.open()
        except BaseException:
            shutil.rmtree(self._beside, ignore_errors=True)
            raise

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with self._named():
                    self._writer.close()
                    (written,) = self._beside.glob("*/*.mcap")
                    written.replace(self._path)
            else:
                with suppress(Exception):  # where the disk is full, this fails again
                    self._writer.close()
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)

    def add_topic(self, topic: Topic) -> None:
        """Describe a topic before its first message; needless for types of ROS's own."""
        text, digest = topic.definition, topic.digest
        if topic.type in STORE.fielddefs:
            text = text or STORE.generate_msgdef(topic.type, ros_version=2)[0]
            digest = digest or STORE.hash_rihs01(topic.type)
        self._connections[topic.name, topic.type] = self._writer.add_connection(
            topic.name,
            topic.type,
            msgdef=text,
            rihs01=digest or NO_HASH,
            offered_qos_profiles=topic.qos,
        )

    def write(self, message: RawMessage) -> None:
        """Append one message."""
        key = (message.topic, message.type)
        if key not in self._connections:
            self.add_topic(Topic(*key))
        with self._named():
            self._writer.write(self._connections[key], message.time_ns, message.data)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file where a full disk or a forbidden folder ends the writing."""
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._path} cannot be written: {error.strerror or error}; choose another "
                "place, nothing is left here"
            ) from error
