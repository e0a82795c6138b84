"""Read and write bags without ROS; with bag_types.py the one that knows rosbags."""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from seg_perception.bags.bag_files import find_files, unpack_message
from seg_perception.bags.bag_topics import IMAGE_TYPES, VIDEO_TYPES
from seg_perception.bags.bag_types import ADDED, STORE, full_type, store_of
from seg_perception.bags.truncated_mcap import RecoveredPath
from seg_perception.errors import DataError

NO_HASH = "RIHS01_" + "0" * 64  # of a type whose hash is not known
# Reliable and transient local: a player gives the last message to those who come late.
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    deadline=QosTime(0, 0), lifespan=QosTime(0, 0), liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=QosTime(0, 0), avoid_ros_namespace_conventions=False,
)  # fmt: skip


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


def deserialize(message: RawMessage, store: Typestore = STORE) -> Any:
    """Return the message object of recorded bytes; its fields are named as in ROS.

    Raises DataError for bytes that are no such message.
    """
    try:
        return store.deserialize_cdr(message.data, message.type)
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


def open_bag(path: Path) -> "BagReader":
    """Open a bag of ROS 2, up to its damage, or of ROS 1 (*.bag)."""
    return Ros1BagReader(path) if path.suffix == ".bag" else BagReader(path, mend=True)


class BagReader:
    """Iterate over a rosbag2: a folder, or a lone mcap or sqlite3 file, packed or not.

    `damage` says what is missing of a bag that was mended, and is empty otherwise.
    """

    def __init__(self, path: Path, *, mend: bool = False) -> None:
        """Open `path`; raises DataError when it is missing or damaged.

        `mend`: a recording without its end is read as far as it goes.
        """
        self.damage = ""
        self._path = path
        self._closing = ExitStack()
        try:
            self._reader = self._open(mend)
        except DataError:
            self._closing.close()
            raise
        except Exception as error:  # rosbags lets errors of its parsers through as they are
            self._closing.close()
            raise _unreadable(path, f"{type(error).__name__}: {error}") from error

    def _open(self, mend: bool) -> Any:
        # What was unpacked has a name only until it is open: however this process ends, its room is
        # given back.
        with tempfile.TemporaryDirectory(prefix="seg_bag_") as temporary:
            paths, self.damage = find_files(self._path, Path(temporary))
            if self.damage and not mend:
                raise _unreadable(self._path, self.damage)
            is_cut = self.damage != ""
            readers = [
                Reader(RecoveredPath(p) if is_cut and p.suffix != ".db3" else p) for p in paths
            ]
            for reader in readers:
                reader.open()
                self._closing.callback(reader.close)
        return readers[0] if len(readers) == 1 else _Series(readers)

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    @property
    def topics(self) -> dict[str, str]:
        """Return the message type of each topic."""
        return {c.topic: full_type(c.msgtype) for c in self._reader.connections}

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
            topic = Topic(c.topic, full_type(c.msgtype), c.msgdef.data, c.digest, qos)
            found.setdefault((topic.name, topic.type), topic)
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
            images = [t for t, kind in self.topics.items() if kind in IMAGE_TYPES + VIDEO_TYPES]
            raise DataError(
                f"{self._path} has no topic {missing[0]}; its image topics are "
                f"{', '.join(images) or 'none'}"
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
            kind = full_type(connection.msgtype)
            yield RawMessage(connection.topic, kind, time_ns, unpack_message(bytes(data)))

    def messages(self, topics: Collection[str] = ()) -> Iterator[Any]:
        """Yield what `raw` yields as message objects."""
        return map(self.deserialize, self.raw(topics))

    def deserialize(self, message: RawMessage) -> Any:
        """Return the message object of bytes that this bag gave; DataError when it is none."""
        return deserialize(message, self._store_of(message.type))

    def _store_of(self, kind: str) -> Typestore:
        """Return the types by which this bag's messages of a type are read."""
        if kind in ADDED:
            for c in self._reader.connections:
                if full_type(c.msgtype) == kind and c.msgdef.data:
                    return store_of(kind, c.msgdef)
        return STORE


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} cannot be read as a bag: {why}; check that the recording was closed (ros2 bag "
        "reindex repairs one that was not)"
    )


class Ros1BagReader(BagReader):
    """Iterate over a bag of ROS 1, whose messages are not CDR; fields are named as in ROS 2."""

    _store = get_typestore(Stores.ROS1_NOETIC)

    def _open(self, mend: bool) -> Any:
        if not self._path.exists():
            raise DataError(f"no bag at {self._path}; give a file")
        reader = Ros1Reader(self._path)
        reader.open()
        self._closing.callback(reader.close)
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


class _Series:
    """The files of one recording whose metadata.yaml is missing, one after the other."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = sorted(readers, key=lambda reader: reader.start_time)
        self.connections = [c for reader in self._readers for c in reader.connections]
        self.start_time = min(reader.start_time for reader in readers)
        self.end_time = max(reader.end_time for reader in readers)

    def messages(
        self, wanted: Collection[Connection], begin: int | None, end: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield the messages of these connections, as a reader of rosbags does."""
        for reader in self._readers:
            own = [c for c in reader.connections if c in wanted]
            if own:
                yield from reader.messages(own, begin, end)


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
            temporary = tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
        self._temporary = Path(temporary)
        self._writer = Writer(
            self._temporary / path.stem, version=9, storage_plugin=StoragePlugin.MCAP
        )
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            with self._named():
                self._writer.open()
        except BaseException:
            shutil.rmtree(self._temporary, ignore_errors=True)
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
                    (written,) = self._temporary.glob("*/*.mcap")
                    written.replace(self._path)
            else:
                with suppress(Exception):  # where the disk is full, this fails again
                    self._writer.close()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def add_topic(self, topic: Topic) -> None:
        """Describe a topic before its first message; needless for types of ROS's own."""
        text, digest = topic.definition, topic.digest
        if topic.type in STORE.fielddefs and not (topic.type in ADDED and text):
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
