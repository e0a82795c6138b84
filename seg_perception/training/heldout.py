"""What a student is scored on: the held-out part of bags and folders, as evaluate reads it."""

import shutil
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.bag import BagWriter, RawMessage, message_class, serialize
from seg_perception.bags.frames import ahead
from seg_perception.errors import ImageError
from seg_perception.evaluation.plan import Images
from seg_perception.training.bag_frames import QUALITY, write_image
from seg_perception.training.data_page import truth_of
from seg_perception.training.frames import Recording
from seg_perception.training.labels import read_pixels
from seg_perception.training.soft_labels import FULL, read_soft
from seg_perception.training.sources import Item, Labelled
from seg_perception.training.split import VAL, scored

IMAGES, LABELS = "images", "labels"
TOPIC, KIND = "/image/compressed", "sensor_msgs/msg/CompressedImage"
SURE = 0.5  # share of a class from which a teacher's label is scored


class HeldOut(NamedTuple):
    """Recordings, a folder of their labels, and whether people made these."""

    images: tuple[Images, ...]
    labels: Path
    by_people: bool


def write_held_out(
    folder: Path, data: Labelled, items: Sequence[Item], recordings: Sequence[Recording]
) -> HeldOut:
    """Write bags of the held-out time with all their images, a folder of others, and labels.

    `recordings` are the sources of the items from the first on, data sets those after.
    """
    shutil.rmtree(folder, ignore_errors=True)
    truth = scored(items)
    by_source = {
        at: sorted((item for item in items if item.source == at), key=lambda item: item.place)
        for at in {item.source for item in truth}
    }
    found = []
    for at, own in sorted(by_source.items()):
        if at < len(recordings) and recordings[at].is_bag:
            path = folder / f"{Path(recordings[at].setting.path).stem}_{at}.mcap"
            _write_bag(path, recordings[at], own)
            found.append(Images("bag", str(path)))
    others = [item for item in truth if not _is_of_bag(item, recordings)]
    for item in others:
        write_image(folder / IMAGES / f"{_name(item, recordings)}.jpg", _bgr(item))
    if others:
        found.append(Images("images", str(folder / IMAGES)))
    for item in truth:
        write_image(folder / LABELS / f"{_name(item, recordings)}.png", _truth(data, item))
    return HeldOut(tuple(found), folder / LABELS, bool(truth[0].label))


def _is_of_bag(item: Item, recordings: Sequence[Recording]) -> bool:
    return item.source < len(recordings) and recordings[item.source].is_bag


def _name(item: Item, recordings: Sequence[Recording]) -> str:
    """Return the stamp of a bag's image, or a name that no other source has."""
    stem = Path(item.image).stem
    return stem if _is_of_bag(item, recordings) else f"{item.source}_{item.place:06d}_{stem}"


def _bgr(item: Item) -> NDArray[np.uint8]:
    return np.ascontiguousarray(read_pixels(Path(item.image))[..., ::-1])


def _truth(data: Labelled, item: Item) -> NDArray[np.uint8]:
    """Return the labels to score by; of a teacher those that it is sure of."""
    labels = truth_of(data, item)
    if item.label:
        return labels
    soft = read_soft(Path(item.soft))
    unsure = soft._replace(ids=(soft.shares < SURE * FULL).astype(np.uint8)).best(labels.shape)
    return np.where(unsure == 1, 255, labels).astype(np.uint8)


def _write_bag(path: Path, recording: Recording, items: Sequence[Item]) -> None:
    """Write the images of the spans that are held out, all of them, under their stamps."""
    spans = list(_spans(items))
    with BagWriter(path) as out:
        for frame in ahead(recording.source.frames()):
            stamp = int(frame.key)
            if not any(begin <= stamp <= end for begin, end in spans):
                continue
            try:
                out.write(_message(stamp, frame.image))
            except ImageError:  # evaluate would leave it out as well
                continue


def _message(stamp: int, image: NDArray[np.uint8]) -> RawMessage:
    seconds, nanoseconds = divmod(stamp, 10**9)
    time = message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)
    header = message_class("std_msgs/msg/Header")(stamp=time, frame_id="camera")
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].ravel()
    content = message_class(KIND)(header, "jpeg", data)
    return RawMessage(TOPIC, KIND, stamp, serialize(content, KIND))


def _spans(items: Sequence[Item]) -> Iterable[tuple[int, int]]:
    """Yield first and last stamp of each run of images that are held out."""
    for part, run in groupby(items, key=lambda item: item.part):
        places = [item.place for item in run]
        if part == VAL:
            yield places[0], places[-1]
