"""Images to evaluate on, each with a key: its stamp in a bag, its name elsewhere."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from seg_perception import messages
from seg_perception.bags.bag import BagReader, open_bag
from seg_perception.bags.bag_images import (
    decoding_start,
    image_decoder,
)
from seg_perception.bags.bag_topics import IMAGE_TYPES, VIDEO_TYPES, choose_image_topic
from seg_perception.bags.frames import Frame, Image, Key, frame_of, parts_of
from seg_perception.bags.image_files import read_image
from seg_perception.bags.video import count_frames, read_video
from seg_perception.errors import DataError, ImageError

IMAGE_KINDS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
APART = 32  # messages of a topic that may come before the partner of the first of them
MASKS = "label_mask"  # how topics of our own masks end
# Nanoseconds that are read around a span: for masks that were recorded apart from their images,
# and for the images before it.
APART_NS, BEFORE_NS = 30 * 10**9, 2 * 10**9
LAST_NS = 2**63 - 1  # nanoseconds; no message is later
BEFORE = 8  # images before a span among which one that can be read is looked for


class Span(NamedTuple):
    """Part of a source, [begin, end): nanoseconds of recording of a bag, positions in a folder."""

    begin: int
    end: int


class Source(Protocol):
    """Where images come from.

    `total` is None where it is not known before the end. `damage`, when the frames have come to
    their end, says what is missing.
    """

    name: str
    total: int | None
    damage: str

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield the images in their order; everything is opened and closed in the iterator.

        With a `span` those in it, and perhaps first, not `counted`, some that are before it.
        """
        ...

    def spans(self, count: int) -> list[Span | None]:
        """Cut all of it into at most `count` spans that follow each other; None is the whole."""
        ...


class BagSource:
    """Images of a bag, and the label images of another of its topics, paired by stamp."""

    def __init__(self, path: Path, topic: str | None = None, *, labels: str | None = None) -> None:
        """Find the image topic; DataError for a bag without images, or that has several."""
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
                self._topic = choose_image_topic(
                    bag.topics, topic, but=(labels,) if labels else (), with_video=True
                )
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
        """Yield images by recorded time; one that is no message gives no image."""
        read = 0
        with open_bag(self._path) as bag:
            try:
                for frame in self._inside(bag, span) if span else self._paired(bag, None, None):
                    read += frame.counted
                    yield frame
            except DataError as error:
                self.damage = str(error)
        if self.damage:
            self.damage += f"; {read} of {self.total} images were read"

    def spans(self, count: int) -> list[Span | None]:
        """Cut it by time; a damaged bag, whose times nobody knows, stays whole."""
        with open_bag(self._path) as bag:
            begin, end = bag.times()
        if self.damage or count < 2 or end - begin < count:
            return [None]
        # A bag's own word on its times is not needed for the outer ends, so none is lost by it.
        cuts = [0, *(begin + (end - begin) * i // count for i in range(1, count)), LAST_NS]
        return [Span(*ends) for ends in pairwise(cuts)]

    def _inside(self, bag: BagReader, span: Span) -> Iterator[Frame]:
        """Yield the images that belong to the span, and those shortly before it."""
        begin = since = max(0, span.begin - (APART_NS if self._labels else BEFORE_NS))
        is_video = bag.topics[self._topic] in VIDEO_TYPES
        if is_video:
            since = decoding_start(bag, self._topic, span.begin)
            begin = min(begin, since) if self._labels else since
        late = APART_NS if self._labels or is_video else 0
        beyond = 0
        for frame in self._paired(bag, begin, min(span.end + late, LAST_NS), since):
            frame.counted = frame.time_ns >= span.begin
            if frame.time_ns < span.end:
                yield frame
            else:  # a video may show some that follow these first
                beyond += 1
                if beyond > APART:
                    return

    def _paired(
        self, bag: BagReader, begin: int | None, end: int | None, since: int = 0
    ) -> Iterator[Frame]:
        """Join images and masks as they were recorded, holding few of each.

        Images that were recorded before `since` are left out.
        """
        if not self._labels:
            for part in parts_of(bag, self._topic, bag.raw([self._topic], begin, end)):
                yield from part.frames
            return
        decoder = image_decoder(bag, self._topic)
        frames: deque[Frame] = deque()  # two may have one stamp, where a clock has jumped
        masks: OrderedDict[Key, Any] = OrderedDict()
        for record in bag.raw([self._topic, self._labels], begin, end):
            if record.topic == self._labels:
                try:
                    mask = bag.deserialize(record)
                except DataError:  # its image has no truth, and is counted so
                    continue
                key = messages.stamp_ns(mask.header)
                waiting = (f for f in frames if f.key == key and f.mask is None)
                frame = next(waiting, None)
                if frame is None:
                    masks[key] = mask
                else:
                    frame.mask = mask
            elif record.time_ns >= since:
                for frame in map(frame_of, decoder.push(record)):
                    frame.mask = masks.pop(frame.key, None)
                    frames.append(frame)
            # Images leave in the order they came in, each with its mask or too old for one.
            while frames and (frames[0].mask is not None or len(frames) > APART):
                yield frames.popleft()
            if len(masks) > APART:
                masks.popitem(last=False)
        for frame in map(frame_of, decoder.flush()):
            frame.mask = masks.pop(frame.key, None)
            frames.append(frame)
        yield from frames


class FolderSource:
    """The images in a folder, by name."""

    damage = ""

    def __init__(self, path: Path) -> None:
        """List them; DataError for no folder, no images, or two of one name."""
        self.name = str(path)
        if not path.is_dir():
            raise DataError(f"{path} is no folder; give one that holds images")
        self._files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_KINDS)
        if not self._files:
            raise DataError(f"{path} holds no images ({', '.join(IMAGE_KINDS)})")
        doubled = [n for n, count in Counter(p.stem for p in self._files).items() if count > 1]
        if doubled:
            raise DataError(f"{path} holds several images named {doubled[0]}; keep one of them")
        self.total: int | None = len(self._files)

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield them in the order of their names."""
        begin, end = span or (0, len(self._files))
        for at in range(max(0, begin - BEFORE), end):
            file = self._files[at]
            yield Frame(file.stem, partial(_read_image, file), counted=at >= begin)

    def spans(self, count: int) -> list[Span | None]:
        """Cut the list of its files."""
        count = max(1, min(count, len(self._files)))
        cuts = [len(self._files) * i // count for i in range(count + 1)]
        return [Span(*ends) for ends in pairwise(cuts)]


class FileSource:
    """One image file."""

    damage = ""
    total: int | None = 1

    def __init__(self, path: Path) -> None:
        """Take its path; what it holds is read with its frame."""
        self.name, self._path = str(path), path

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield it."""
        yield Frame(self._path.stem, partial(_read_image, self._path))

    def spans(self, count: int) -> list[Span | None]:
        """Leave it whole."""
        return [None]


class VideoSource:
    """The images of a video; their names are numbers of six digits from 000000 on."""

    def __init__(self, path: Path) -> None:
        """Open it once; DataError for what is no video."""
        self.name, self._path, self.damage = str(path), path, ""
        self.total = count_frames(path)

    def spans(self, count: int) -> list[Span | None]:
        """Leave it whole, whatever the `count`: images of a video build on each other."""
        return [None]

    def frames(self, span: Span | None = None) -> Iterator[Frame]:
        """Yield them in the order they are shown."""
        read = 0
        try:
            for image in read_video(self._path):
                yield Frame(f"{read:06d}", partial(np.asarray, image))
                read += 1
        except DataError as error:
            if not read:
                raise
            self.damage = f"{error}; {read} images were read"


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


def _read_image(path: Path) -> Image:
    image = read_image(path, cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError(f"{path.name} cannot be read: truncated, or not an image")
    return np.asarray(image, np.uint8)
