"""Frames are found among the messages of a bag, and decoded ahead of their use."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from support.recordings import image_message, write_bag

from seg_perception.bags.frames import PART_BYTES, ahead, bag_parts, decoded_parts
from seg_perception.errors import DataError, ImageError


def test_decoding_stays_a_few_images_ahead_and_ends_with_its_reader() -> None:
    made: list[int] = []
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            for i in range(1000):
                made.append(i)
                yield i
        finally:
            closed.set()

    before = threading.active_count()
    items = ahead(numbers(), 3)
    assert list(islice(items, 5)) == [0, 1, 2, 3, 4]
    time.sleep(0.3)
    assert len(made) <= 5 + 3 + 1
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before
    assert list(ahead(iter(range(50)), 3)) == list(range(50))


def test_what_decoding_raises_is_raised_after_what_came_before() -> None:
    def two() -> Iterator[int]:
        yield 1
        yield 2
        raise DataError("the third is missing")

    items = ahead(two())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(DataError, match="the third is missing"):
        next(items)


def test_a_bag_is_cut_after_each_image_and_keeps_its_order(tmp_path: Path) -> None:
    image = np.full((4, 6, 3), 9, np.uint8)
    wide = np.zeros((1, PART_BYTES // 2), np.uint8)
    records = [
        image_message("/other", 1, wide[:, :5], "mono8"),
        image_message("/rgb", 2, image, "rgb8"),
        image_message("/rgb", 3, image, "no encoding"),
        *(image_message("/other", stamp, wide, "mono8") for stamp in (4, 5, 6)),
        image_message("/rgb", 7, image, "rgb8"),
        image_message("/other", 8, wide[:, :5], "mono8"),
    ]
    bag = write_bag(tmp_path / "b.mcap", *records)
    parts = list(ahead(decoded_parts(bag_parts(bag, "/rgb"))))
    assert [[r.time_ns for r in part.records] for part in parts] == [[1, 2], [3], [4, 5], [6, 7],
                                                                     [8]]  # fmt: skip
    assert [[f.key for f in part.frames] for part in parts] == [[2], [3], [], [7], []]
    (good,), (bad,) = parts[0].frames, parts[1].frames
    assert (good.image == 9).all()
    assert (good.message_ns, good.header.frame_id) == (2, "camera")
    with pytest.raises(ImageError, match="no encoding"):
        _ = bad.image
    chosen = list(bag_parts(bag, "/rgb", ["/rgb"]))
    assert [[r.time_ns for r in part.records] for part in chosen] == [[2], [3], [7], []]
