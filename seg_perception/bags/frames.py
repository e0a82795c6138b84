"""The images of a recording: found among the messages of a bag, decoded ahead of their use."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.bag import BagReader, RawMessage
from seg_perception.bags.bag_images import BagImage, image_decoder
from seg_perception.errors import ImageError
from seg_perception.images import to_bgr

Key = int | str  # of an image: its stamp in nanoseconds, or its name
Image = NDArray[np.uint8]
Item = TypeVar("Item")
AHEAD = 4  # items that are made before they are wanted
PART_BYTES = 16_000_000  # of messages without an image that make a part of their own


@dataclass
class Frame:
    """One image, decoded when it is first looked at; `mask` is the label message next to it.

    `counted` is False for an image before a span, which belongs to another. Of a bag, `header` is
    the ROS header, None where the bytes are no message, and `message_ns` the time of the message.
    """

    key: Key
    decode: Callable[[], Image]
    mask: Any = None
    time_ns: int = 0  # when it was recorded, in the order of the images
    counted: bool = True
    header: Any = None
    message_ns: int = 0

    @cached_property
    def image(self) -> Image:
        """Return uint8 (H,W,3) BGR; raises ImageError or DataError for what is no image."""
        return self.decode()

    def is_readable(self) -> bool:
        """Decode the image; return whether there is one."""
        try:
            return self.image.size > 0
        except ImageError:
            return False


class Part(NamedTuple):
    """Messages of a bag in their order, and the frames that the last of them completes."""

    records: list[RawMessage]
    frames: list[Frame]


def parts_of(bag: BagReader, topic: str, records: Iterable[RawMessage]) -> Iterator[Part]:
    """Cut a bag's messages into parts, each up to a message of `topic` that completes frames.

    The last part holds the messages behind, and the frames of a video that were held back.
    """
    decoder = image_decoder(bag, topic)
    waiting: list[RawMessage] = []
    size = 0
    for record in records:
        waiting.append(record)
        size += len(record.data)
        images = decoder.push(record) if record.topic == topic else []
        if images or size > PART_BYTES:
            yield Part(waiting, [frame_of(image) for image in images])
            waiting, size = [], 0
    yield Part(waiting, [frame_of(image) for image in decoder.flush()])


def bag_parts(path: Path, topic: str, topics: Collection[str] = ()) -> Iterator[Part]:
    """Yield the parts of a bag, of `topics` or of all where none is named.

    The bag is opened and closed in the iterator, so in the thread of `ahead`.
    """
    with BagReader(path) as bag:
        yield from parts_of(bag, topic, bag.raw(topics))


def decoded(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield frames whose image is decoded; one that cannot be still says why when asked."""
    for frame in frames:
        frame.is_readable()
        yield frame


def decoded_parts(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield parts whose images are decoded, as `decoded` does it."""
    for part in parts:
        yield part._replace(frames=list(decoded(part.frames)))


def ahead(items: Iterator[Item], depth: int = AHEAD) -> Generator[Item, None, None]:
    """Yield `items`, made by a thread of their own that is at most `depth` of them ahead.

    What `items` raises is raised here. The thread ends with this iterator.
    """
    end = object()
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="decoding") as pool:
        try:
            waiting.extend(pool.submit(next, items, end) for _ in range(depth))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, items, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()
            pool.submit(getattr(items, "close", lambda: None))


def frame_of(image: BagImage) -> Frame:
    """Return an image of a bag as a frame, whose key is its stamp."""
    return Frame(
        image.stamp,
        partial(_bgr, image),
        time_ns=image.place_ns,
        header=image.header,
        message_ns=image.time_ns,
    )


def _bgr(image: BagImage) -> Image:
    return to_bgr(*image.decode())
