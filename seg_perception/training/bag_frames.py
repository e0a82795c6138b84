"""Frames of bags as files, so that training may read them in any order."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import ahead
from seg_perception.bags.sources import BagSource
from seg_perception.errors import DataError, ImageError
from seg_perception.evaluation.ground_truth import TopicTruth
from seg_perception.files import atomic_write
from seg_perception.training.labels import Palette, labels_of
from seg_perception.training.layouts import Pair

if TYPE_CHECKING:
    from seg_perception.training.sources import DataSetting

QUALITY = 95  # of jpeg
DONE = "done.json"


def extract(setting: "DataSetting", folder: Path, palette: Palette) -> list[Pair]:
    """Write the labelled frames of a bag below `folder`, once, and return their pairs.

    Labels are STAMP.png files in a folder, or a topic of the bag. DataError where the bag has no
    frames, or none with labels, or the disk is full.
    """
    if not setting.labels:
        raise DataError(
            f"{setting.path} has no labels: write --bag {setting.path},labels=DIR with PNGs named "
            "STAMP.png or labels=/TOPIC, or let a teacher label it: seg-perception distill"
        )
    key = hashlib.sha256(repr(_described(setting)).encode()).hexdigest()[:12]
    place = folder / f"{Path(setting.path).stem}_{key}"
    if not (place / DONE).is_file():
        count = _write_frames(setting, place, palette)
        with atomic_write(place / DONE) as temporary:  # and not before every frame is there
            temporary.write_text(json.dumps({"bag": setting.path, "frames": count}))
    drive = Path(setting.path).stem
    labels = sorted((place / "labels").glob("*.png"), key=lambda p: int(p.stem))
    return [Pair(place / "images" / f"{p.stem}.jpg", p, drive) for p in labels]


def _described(setting: "DataSetting") -> tuple[str | int, ...]:
    """Return what the frames depend on."""
    paths = [Path(setting.path), *([Path(setting.labels)] if Path(setting.labels).is_dir() else [])]
    changed = [path.stat().st_mtime_ns for path in paths if path.exists()]
    return (setting.path, setting.topic, setting.labels, *changed)


def _write_frames(setting: "DataSetting", place: Path, palette: Palette) -> int:
    truth = labels_of(setting.labels, palette)
    assert truth is not None
    topic = setting.labels if isinstance(truth, TopicTruth) else None
    source = BagSource(Path(setting.path), setting.topic or None, labels=topic)
    count = 0
    for frame in ahead(source.frames()):
        labels = truth.of(frame)
        if labels is None:
            continue
        try:
            image = frame.image
        except ImageError:
            continue
        write_image(place / "images" / f"{frame.key}.jpg", image)
        write_image(place / "labels" / f"{frame.key}.png", labels)
        count += 1
    if not count:
        raise DataError(
            f"none of the {source.total} images of {setting.path} has labels in {setting.labels}; "
            f"name the PNGs by the images' stamps in nanoseconds, such as {_a_stamp(source)}.png"
        )
    return count


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a jpeg or a PNG, whole or not at all; ModelError where the disk is full."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix == ".jpg" else []
    data = cv2.imencode(path.suffix, image, options)[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _a_stamp(source: BagSource) -> int | str:
    return next(source.frames()).key
