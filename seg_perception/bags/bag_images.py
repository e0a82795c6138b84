"""The images of a bag's topic: raw, compressed one by one, or a video."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from seg_perception import messages
from seg_perception.bags.bag import BagReader, RawMessage, message_class
from seg_perception.bags.bag_topics import VIDEO_TYPES
from seg_perception.bags.video_codecs import codec_of
from seg_perception.errors import DataError, ImageError
from seg_perception.images import DecodedImage

_, FFMPEG = VIDEO_TYPES


class BagImage(NamedTuple):
    """One image and when it was recorded; `decode` raises ImageError for what is none.

    `header` is the ROS header, None where the bytes are no message. `place_ns` never decreases
    from image to image; it is later than `time_ns` where a video is shown in another order.
    """

    header: Any
    time_ns: int
    decode: Callable[[], DecodedImage]
    place_ns: int

    @property
    def stamp(self) -> int:
        """Return the stamp in ns; the time of recording where there is no header."""
        return self.time_ns if self.header is None else messages.stamp_ns(self.header)


class ImageDecoder(Protocol):
    """Turns the messages of one topic into images, in the order of their recording."""

    def push(self, record: RawMessage) -> list[BagImage]:
        """Return the images that this message completes."""
        ...

    def flush(self) -> list[BagImage]:
        """Return the images that were held back, at the end."""
        ...


def image_decoder(bag: BagReader, topic: str) -> ImageDecoder:
    """Return the decoder of a topic of images or of video."""
    return _Video(bag) if bag.topics.get(topic) in VIDEO_TYPES else _Stills(bag)


class _Stills:
    def __init__(self, bag: BagReader) -> None:
        self._bag = bag

    def push(self, record: RawMessage) -> list[BagImage]:
        try:
            message = self._bag.deserialize(record)
        except DataError as error:
            return [_refused(record.time_ns, str(error))]
        decode = partial(messages.decode, message)
        return [BagImage(message.header, record.time_ns, decode, record.time_ns)]

    def flush(self) -> list[BagImage]:
        return []


class _Video:
    def __init__(self, bag: BagReader) -> None:
        self._bag = bag
        self._stream: Any = None  # made by the first message, which names the codec
        self._encoding = ""
        self._pushed: dict[int, tuple[Any, int]] = {}  # header and time of each packet
        self._count, self._place_ns = 0, 0

    def push(self, record: RawMessage) -> list[BagImage]:
        try:
            message = self._bag.deserialize(record)
        except DataError as error:
            return [_refused(record.time_ns, str(error))]
        header, encoding = _header(message, record.type), str(_encoding(message, record.type))
        done = []
        try:
            if self._stream is None or encoding != self._encoding:
                done = self.flush()
                self._stream = None
                self._stream, self._encoding = _new_stream(encoding), encoding
        except ImageError as error:
            return [*done, _refused(record.time_ns, str(error), header)]
        self._count += 1
        self._pushed[self._count] = header, record.time_ns
        return done + self._images(self._stream.push(self._count, bytes(message.data)))

    def flush(self) -> list[BagImage]:
        return [] if self._stream is None else self._images(self._stream.flush())

    def _images(self, decoded: Iterable[Any]) -> list[BagImage]:
        found = []
        for number, frame, problem in decoded:
            header, time_ns = self._pushed.pop(number)
            if frame is None:
                found.append(_refused(time_ns, problem, header))
                continue
            self._place_ns = max(self._place_ns, time_ns)
            decode = partial(self._stream.image, frame)
            found.append(BagImage(header, time_ns, decode, self._place_ns))
        return found


def _new_stream(encoding: str) -> Any:
    """Return the decoder of a video; av is loaded where there is one alone."""
    from seg_perception.bags.video_stream import VideoStream

    return VideoStream(encoding)


def decoding_start(bag: BagReader, topic: str, time_ns: int) -> int:
    """Return when the packet was recorded that decoding begins at for images from `time_ns` on.

    It is the last key frame but one: images that come after a key frame and are shown before it
    build on those before. Without two key frames it is the bag's begin, 0.
    """
    reach = 2 * 10**9
    while True:
        begin = max(0, time_ns - reach)
        keys = [r.time_ns for r in bag.raw([topic], begin, time_ns) if _stands_alone(bag, r)]
        if len(keys) > 1 or begin == 0:
            return keys[-2] if len(keys) > 1 else 0
        reach *= 4


def _stands_alone(bag: BagReader, record: RawMessage) -> bool:
    """Return whether decoding may begin at a packet, with nothing before it known."""
    try:
        message = bag.deserialize(record)
        codec = codec_of(str(_encoding(message, record.type)))
    except (DataError, ImageError):
        return False
    info = codec.read(bytes(message.data))
    return info.is_key and (not codec.needs_setup or info.setup != b"")


def _header(message: Any, kind: str) -> Any:
    if kind == FFMPEG:
        return message.header
    return message_class("std_msgs/msg/Header")(message.timestamp, message.frame_id)


def _encoding(message: Any, kind: str) -> Any:
    return message.encoding if kind == FFMPEG else message.format


def _refused(time_ns: int, why: str, header: Any = None) -> BagImage:
    return BagImage(header, time_ns, partial(_refuse, why), time_ns)


def _refuse(text: str) -> DecodedImage:
    raise ImageError(text)
