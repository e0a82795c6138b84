"""Read and write bags without ROS; the one module that knows rosbags."""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from seg_perception.errors import DataError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
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


class BagReader:
    """Iterate over a rosbag2: a folder, or a lone mcap or sqlite3 file."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raises DataError when it is missing or damaged."""
        if not path.exists():
            raise DataError(
                f"no bag at {path}; give the folder that holds metadata.yaml, or a file"
            )
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # rosbags lets errors of its parsers through as they are
            raise DataError(
                f"{path} cannot be read as a bag: {type(error).__name__}: {error}; "
                "check that the recording was closed (ros2 bag reindex repairs one that was not)"
            ) from error
        self._path = path

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

    def raw(self, topics: Collection[str] = ()) -> Iterator[RawMessage]:
        """Yield the messages of `topics` (all when empty) in the order of their times.

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
        records = self._reader.messages(wanted)
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
        return map(deserialize, self.raw(topics))


class BagWriter:
    """Write one mcap file from CDR bytes; it appears under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        """Begin `path` (*.mcap); what stood there is replaced on success alone."""
        self._path = path
        self._beside = path.with_name(path.name + ".part")
        shutil.rmtree(self._beside, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = Writer(self._beside, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        if error is None:
            (written,) = self._beside.glob("*.mcap")
            written.replace(self._path)
        shutil.rmtree(self._beside, ignore_errors=True)

    def write(self, message: RawMessage) -> None:
        """Append one message."""
        if message.topic not in self._connections:
            self._connections[message.topic] = self._writer.add_connection(
                message.topic, message.type, typestore=STORE
            )
        self._writer.write(self._connections[message.topic], message.time_ns, message.data)
