"""Frames to distil on: of bags and folders, chosen to differ, with the labels that people made."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import Frame, ahead
from seg_perception.bags.sources import BagSource, FolderSource
from seg_perception.errors import DataError, ImageError
from seg_perception.evaluation.ground_truth import TopicTruth
from seg_perception.files import atomic_write
from seg_perception.training.bag_frames import write_image
from seg_perception.training.choose import choose, signature
from seg_perception.training.labels import LabelFolder, Palette, labels_of
from seg_perception.training.layouts import drive_of
from seg_perception.training.sources import DataSetting, Item

DONE = "chosen.json"
Truth = LabelFolder | TopicTruth | None


class Recording:
    """A bag or a folder of images, and the labels that it has."""

    def __init__(self, setting: DataSetting, *, is_bag: bool, palette: Palette) -> None:
        """Open it once; DataError for one without frames, or labels that are not there."""
        self.setting, self.is_bag = setting, is_bag
        path = Path(setting.path)
        self.truth: Truth = labels_of(setting.labels, palette)
        topic = setting.labels if isinstance(self.truth, TopicTruth) else None
        if topic and not is_bag:
            raise DataError(f"{topic} is no folder of label PNGs, and {path} no bag with topics")
        self.source: BagSource | FolderSource = (
            BagSource(path, setting.topic or None, labels=topic) if is_bag else FolderSource(path)
        )

    def drive(self, frame: Frame) -> str:
        """Return the drive that a frame is of."""
        path = Path(self.setting.path)
        return path.stem if self.is_bag else drive_of(str(frame.key)) or path.name


def choose_frames(recording: Recording, folder: Path, source: int, count: int) -> list[Item]:
    """Return up to `count` frames that differ, and all that people labelled, as files.

    They are written below `folder` once; a folder's images stay where they are. DataError where
    no frame can be read.
    """
    said = (recording.setting, count, Path(recording.setting.path).stat().st_mtime_ns)
    key = hashlib.sha256(repr(said).encode()).hexdigest()[:12]
    place = folder / f"{Path(recording.setting.path).stem}_{key}"
    if not (place / DONE).is_file():
        found = list(_write(recording, place, source, count))
        with atomic_write(place / DONE) as temporary:  # and not before every frame is there
            temporary.write_text(json.dumps(found))
    rows = json.loads((place / DONE).read_text())
    return [Item(*row) for row in rows]


def _write(recording: Recording, place: Path, source: int, count: int) -> Iterator[Item]:
    """Write what is chosen, and yield it."""
    keys, labelled = _look(recording)
    signatures = list(keys.values())
    names = list(keys)
    chosen = {names[i] for i in choose(signatures, count, always=labelled)}
    for number, frame in enumerate(ahead(recording.source.frames())):
        if frame.key not in chosen:
            continue
        chosen.discard(frame.key)  # a clock that jumps back may give a stamp twice
        name = str(frame.key)
        labels = recording.truth.of(frame) if recording.truth else None
        truth = place / "labels" / f"{name}.png"
        if labels is not None:
            write_image(truth, labels)
        image = place / "images" / f"{name}.jpg"
        write_image(image, frame.image)
        at = int(frame.key) if recording.is_bag else number
        yield Item(
            str(image), str(truth) if labels is not None else "", source, recording.drive(frame), at
        )


def _look(recording: Recording) -> tuple[dict[int | str, NDArray[np.uint8]], list[int]]:
    """Return the signature of each frame that can be read, and the places of labelled ones."""
    keys: dict[int | str, NDArray[np.uint8]] = {}
    labelled = []
    for frame in ahead(recording.source.frames()):
        try:
            seen = signature(frame.image)
        except ImageError:
            continue
        if frame.key in keys:
            continue
        if recording.truth is not None and recording.truth.of(frame) is not None:
            labelled.append(len(keys))
        keys[frame.key] = seen
    if not keys:
        raise DataError(f"no frame of {recording.setting.path} can be read; record it again")
    return keys, labelled


def read_bgr(path: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) BGR of a frame that was written; DataError where it is gone."""
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} cannot be read; delete its folder, and run again")
    return np.asarray(image, np.uint8)
