"""Pictures to evaluate on, each with a key: its stamp in a bag, its name elsewhere."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import messages
from seg_perception.errors import DataError, ImageError
from seg_perception.evaluation.bags import (
    IMAGE_TYPES,
    BagReader,
    RawMessage,
    choose_image_topic,
    open_bag,
)
from seg_perception.evaluation.measure import Key
from seg_perception.evaluation.pictures import read_picture
from seg_perception.evaluation.video import count_frames, read_video
from seg_perception.images import to_bgr

Picture = NDArray[np.uint8]
PICTURE_KINDS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
APART = 32  # messages of a topic that may come before the partner of the first of them
MASKS = "label_mask"  # how topics of our own masks end
AHEAD = 4  # pictures that are decoded before they are wanted
# Nanoseconds that are read around a span: for masks that were recorded apart from their pictures,
# and for the pictures before it.
APART_NS, BEFORE_NS = 30 * 10**9, 2 * 10**9
EVER = 2**63 - 1  # nanoseconds; no message is later
BEFORE = 8  # pictures before a span among which one that can be read is looked for


@dataclass
class Frame:
    """One picture, decoded when it is first looked at; `mask` is the label message beside it.

    `counted` is False for a picture before a span, which belongs to another.
    """

    key: Key
    decode: Callable[[], Picture]
    mask: Any = None
    time_ns: int = 0  # when it was recorded
    counted: bool = True

    @cached_property
    def image(self) -> Picture:
        """Return uint8 (H,W,3) BGR; raises ImageError or DataError for what is no picture."""
        return self.decode()


class Span(NamedTuple):
    """Part of a source, [begin, end): nanoseconds of recording of a bag, positions in a folder."""

    begin: int
    end: int


class Source(Protocol):
    """Where pictures come from.

    `total` is None where it is not known before the end. `damage`, when the frames have come to
    their end, says what is missing.
    """

    name: str
    total: int | None
    damage: str

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield the pictures in their order; everything is opened and closed in the iterator.

        With a `span` those in it, and perhaps first, not `counted`, some that are before it.
        """
        ...

    def spans(self, count: int) -> list[Span | None]:
        """Cut all of it into at most `count` spans that follow each other; None is the whole."""
        ...


class BagSource:
    """Pictures of a bag, and the label images of another of its topics, paired by stamp."""

    def __init__(self, path: Path, topic: str | None = None, *, labels: str | None = None) -> None:
        """Find the image topic; DataError for a bag without pictures, or that has several."""
        self.name = str(path)
        self._path, self._labels = path, labels
        with open_bag(path) as bag:
            self.damage = bag.damage
            if labels and bag.topics.get(labels) not in IMAGE_TYPES:
                raise DataError(
                    f"{labels} is neither a folder nor an image topic of {path}; give one of them "
                    "as --labels"
                )
            try:
                self._topic = choose_image_topic(bag.topics, topic, but=(labels,) if labels else ())
            except DataError as error:
                damaged = f" ({self.damage})" if self.damage else ""
                raise DataError(f"{path}: {error}{damaged}") from error
            self.total: int | None = bag.count(self._topic)
        if not self.total:
            raise DataError(
                f"{path} is empty: no message on {self._topic}; record it again"
                + (f" ({self.damage})" if self.damage else "")
            )

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield pictures by recorded time; one that is no message gives no image."""
        read = 0
        with open_bag(self._path) as bag:
            try:
                for frame in self._inside(bag, span) if span else self._paired(bag, None, None):
                    read += frame.counted
                    yield frame
            except DataError as error:
                self.damage = str(error)
        if self.damage:
            self.damage += f"; {read} of {self.total} pictures were read"

    def spans(self, count: int) -> list[Span | None]:
        """Cut it by time; a damaged bag, whose times nobody knows, stays whole."""
        with open_bag(self._path) as bag:
            begin, end = bag.times()
        if self.damage or count < 2 or end - begin < count:
            return [None]
        # A bag's own word on its times is not needed for the outer ends, so none is lost by it.
        cuts = [0, *(begin + (end - begin) * i // count for i in range(1, count)), EVER]
        return [Span(*ends) for ends in pairwise(cuts)]

    def _inside(self, bag: BagReader, span: Span) -> Iterator[Frame]:
        """Yield the pictures that were recorded in the span, and those shortly before it."""
        early, late = (APART_NS, APART_NS) if self._labels else (BEFORE_NS, 0)
        for frame in self._paired(bag, max(0, span.begin - early), min(span.end + late, EVER)):
            frame.counted = frame.time_ns >= span.begin
            if frame.time_ns < span.end:
                yield frame

    def _paired(self, bag: BagReader, begin: int | None, end: int | None) -> Iterator[Frame]:
        """Join pictures and masks as they were recorded, holding few of each."""
        if not self._labels:
            yield from (_frame(bag, record) for record in bag.raw([self._topic], begin, end))
            return
        frames: deque[Frame] = deque()  # two may have one stamp, where a clock has jumped
        masks: OrderedDict[Key, Any] = OrderedDict()
        for record in bag.raw([self._topic, self._labels], begin, end):
            if record.topic == self._labels:
                try:
                    mask = bag.deserialize(record)
                except DataError:  # its picture has no truth, and is counted so
                    continue
                key = messages.stamp_ns(mask.header)
                waiting = (f for f in frames if f.key == key and f.mask is None)
                frame = next(waiting, None)
                if frame is None:
                    masks[key] = mask
                else:
                    frame.mask = mask
            else:
                frame = _frame(bag, record)
                frame.mask = masks.pop(frame.key, None)
                frames.append(frame)
            # Pictures leave in the order they came in, each with its mask or too old for one.
            while frames and (frames[0].mask is not None or len(frames) > APART):
                yield frames.popleft()
            if len(masks) > APART:
                masks.popitem(last=False)
        yield from frames


class FolderSource:
    """The pictures in a folder, by name."""

    damage = ""

    def __init__(self, path: Path) -> None:
        """List them; DataError for no folder, no pictures, or two of one name."""
        self.name = str(path)
        if not path.is_dir():
            raise DataError(f"{path} is no folder; give one that holds pictures")
        self._files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_KINDS)
        if not self._files:
            raise DataError(f"{path} holds no pictures ({', '.join(PICTURE_KINDS)})")
        doubled = [n for n, count in Counter(p.stem for p in self._files).items() if count > 1]
        if doubled:
            raise DataError(f"{path} holds several pictures named {doubled[0]}; keep one of them")
        self.total: int | None = len(self._files)

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield them in the order of their names."""
        begin, end = span or (0, len(self._files))
        for at in range(max(0, begin - BEFORE), end):
            file = self._files[at]
            yield Frame(file.stem, partial(_read_picture, file), counted=at >= begin)

    def spans(self, count: int) -> list[Span | None]:
        """Cut the list of its files."""
        count = max(1, min(count, len(self._files)))
        cuts = [len(self._files) * i // count for i in range(count + 1)]
        return [Span(*ends) for ends in pairwise(cuts)]


class VideoSource:
    """The pictures of a video; their names are numbers of six digits from 000000 on."""

    def __init__(self, path: Path) -> None:
        """Open it once; DataError for what is no video."""
        self.name, self._path, self.damage = str(path), path, ""
        self.total = count_frames(path)

    def spans(self, count: int) -> list[Span | None]:
        """Leave it whole, whatever the `count`: pictures of a video build on each other."""
        return [None]

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield them in the order they are shown."""
        read = 0
        try:
            for picture in read_video(self._path):
                yield Frame(f"{read:06d}", partial(np.asarray, picture))
                read += 1
        except DataError as error:
            if not read:
                raise
            self.damage = f"{error}; {read} pictures were read"


def answered_stamps(path: Path) -> frozenset[int]:
    """Return the stamps of the masks in a bag that our node's output was recorded to."""
    with open_bag(path) as bag:
        topics = [t for t in bag.topics if t.rpartition("/")[2] == MASKS]
        if len(topics) != 1:
            raise DataError(
                f"{path} has {len(topics)} topics named {MASKS} ({', '.join(topics) or 'none'}); "
                "--stamps takes a bag with the masks of one camera, as result.mcap of the demo"
            )
        return frozenset(messages.stamp_ns(m.header) for m in bag.messages(topics))


Item = TypeVar("Item")


def ahead(items: Iterator[Item], depth: int = AHEAD) -> Generator[Item, None, None]:
    """Yield `items`, made by a thread of their own that is at most `depth` of them ahead.

    What `items` raises is raised here. The thread ends with this iterator.
    """
    waiting: Queue[tuple[Item | None, BaseException | None]] = Queue(depth)
    over, ended = Event(), Event()

    def put(item: Item | None, error: BaseException | None = None) -> None:
        while not over.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
            except Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if over.is_set():
                    break
        except BaseException as error:
            put(None, error)
        finally:
            getattr(items, "close", lambda: None)()
            ended.set()

    thread = Thread(target=work, name="decoding", daemon=True)
    thread.start()
    try:
        while not (ended.is_set() and waiting.empty()):
            try:
                item, error = waiting.get(timeout=0.1)
            except Empty:
                continue
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        over.set()
        thread.join()


def _frame(bag: BagReader, record: RawMessage) -> Frame:
    """Return a picture by its stamp; bytes that are no message have their recorded time."""
    try:
        message = bag.deserialize(record)
    except DataError as error:
        return Frame(record.time_ns, partial(_refuse, str(error)), time_ns=record.time_ns)
    stamp = messages.stamp_ns(message.header)
    return Frame(stamp, partial(_decoded, message), time_ns=record.time_ns)


def _refuse(text: str) -> Picture:
    raise ImageError(text)


def _decoded(message: Any) -> Picture:
    picture = messages.decode(message)
    return to_bgr(picture.image, picture.encoding)


def _read_picture(path: Path) -> Picture:
    image = read_picture(path, cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError(f"{path.name} cannot be read: truncated, or not a picture")
    return np.asarray(image, np.uint8)
