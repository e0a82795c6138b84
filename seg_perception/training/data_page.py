"""The page of the data: samples with their labels, the share of each class, what was put where."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import draw_overlay, paint
from seg_perception.labels import LabelSpace
from seg_perception.metrics.description import Panel
from seg_perception.reporting import charts
from seg_perception.reporting.pages import Column, Section, write_page
from seg_perception.training.inspect import Summary
from seg_perception.training.labels import read_classes, read_pixels
from seg_perception.training.soft_labels import read_soft
from seg_perception.training.sources import Item, Labelled
from seg_perception.training.split import GAP, TRAIN, VAL

SAMPLES = 4  # of each part
WIDTH = 480  # pixels, at most
LISTED = 40  # drives in the table

Image = NDArray[np.uint8]


def write_data_page(
    path: Path, data: Labelled, items: Sequence[Item], found: Summary, notes: Sequence[str]
) -> None:
    """Write the page."""
    space = data.card.manifest().label_space()
    sections = [
        Section("Classes", chart=_shares(data, found, space), rows=_class_rows(data, found)),
        Section("Drives", rows=_drive_rows(items)),
    ]
    for part in (TRAIN, VAL):
        own = [item for item in items if item.part == part]
        apart = max(1, len(own) // SAMPLES)
        shown = [sample(data, item, space) for item in own[::apart][:SAMPLES]]
        sections.append(Section(f"Samples of {part}", images=shown))
    write_page(path, "What is trained on", sections, notes=notes, space=space)


def sample(data: Labelled, item: Item, space: LabelSpace) -> tuple[str, list[Column]]:
    """Return an image with the labels over it and alone, smaller where it is large."""
    image, labels = read_pixels(Path(item.image))[..., ::-1], truth_of(data, item)
    factor = min(1.0, WIDTH / image.shape[1])
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    ids = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    name = Path(item.image).name
    columns = [(name, small), ("labels", draw_overlay(small, ids, space)), ("", paint(ids, space))]
    return name, columns


def truth_of(data: Labelled, item: Item) -> Image:
    """Return the labels of an image, uint8 (H,W): those of people, else a teacher's best."""
    if item.label:
        return read_classes(Path(item.label), data.palettes[item.source], data.tables[item.source])
    return read_soft(Path(item.soft)).best(read_pixels(Path(item.image)).shape[:2])


def _shares(data: Labelled, found: Summary, space: LabelSpace) -> str:
    panels = []
    for part in (TRAIN, VAL):
        shares = found.pixels[part] / max(int(found.pixels[part].sum()), 1)
        values = dict(zip(data.card.classes, map(float, shares), strict=True))
        named = {name: values[name] for name in space.names if name}
        panels.append(Panel(f"share of the pixels of {part}", named, is_small=True))
    return charts.class_bars(panels, space)


def _class_rows(data: Labelled, found: Summary) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "images of train", "images of val")]
    for i, name in enumerate(data.card.classes):
        rows.append((name, *(str(found.images[part][i]) for part in (TRAIN, VAL))))
    return rows


def _drive_rows(items: Sequence[Item]) -> list[Sequence[str]]:
    counts: dict[str, dict[str, int]] = {}
    for item in items:
        own = counts.setdefault(item.drive or "images", dict.fromkeys((TRAIN, VAL, GAP), 0))
        own[item.part] += 1
    rows: list[Sequence[str]] = [("", "train", "val", "left out between them")]
    rows += [(drive, *map(str, own.values())) for drive, own in [*counts.items()][:LISTED]]
    more = len(counts) - LISTED
    return [*rows, (f"and {more} more", "", "", "")] if more > 0 else rows
