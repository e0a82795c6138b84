"""Where images and their label PNGs are: plain folders, and the layouts of known data sets."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from seg_perception.bags.sources import IMAGE_KINDS
from seg_perception.errors import DataError
from seg_perception.training.card import IGNORE, Card, data_set

LABEL_FOLDERS = ("labels", "masks", "annotations")
PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val"}
# Ids of Cityscapes' labelIds files that are one of its 19 classes, in the classes' order; the
# others are not scored. Source: cityscapesScripts' table of labels.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_COUNT = 34
# A frame's number at the end of its name, and what may stand between it and its drive's name.
NUMBER = re.compile(r"[._\- ]*[a-z]?\d+$")


class Pair(NamedTuple):
    """An image and its labels. `part` is train or val where the folders say so, else empty."""

    image: Path
    label: Path
    drive: str
    part: str = ""


class Layout(NamedTuple):
    """The pairs of a folder in the order of their names; `card` says what a known set's ids are."""

    name: str
    pairs: list[Pair]
    card: Card | None = None


def find_pairs(folder: Path, labels: str = "") -> Layout:
    """Return the images and labels of a folder by the first layout that it has.

    `labels` is the folder of label PNGs of a plain layout, where it has a name of its own.
    DataError says which layouts are known, and names images without labels.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one that holds images and labels")
    for name, found in _LAYOUTS.items():
        layout = found(folder, labels)
        if layout is not None:
            return _checked(layout, folder, name)
    raise DataError(
        f"{folder} has no layout that is known: images/ and labels/ (PNGs of ids), perhaps in "
        "train/ and val/; leftImg8bit/ and gtFine/ (Cityscapes); images/training and annotations/ "
        "(ADE20K); img_dir/ and ann_dir/ (mmsegmentation)"
    )


def drive_of(name: str) -> str:
    """Return the drive of an image by its name: what stands before the frame's number.

    Names that are numbers alone are all of one drive.
    """
    return NUMBER.sub("", name)


def _checked(layout: Layout, folder: Path, name: str) -> Layout:
    if not layout.pairs:
        raise DataError(
            f"{folder} has the layout of {name} and no images ({', '.join(IMAGE_KINDS)})"
        )
    missing = [pair for pair in layout.pairs if not pair.label.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(layout.pairs)} images of {folder} have no labels: the first "
            f"is {missing[0].image}, which needs {missing[0].label}; add it, or take the image away"
        )
    return layout


def _cityscapes(folder: Path, _: str) -> Layout | None:
    images, truth = folder / "leftImg8bit", folder / "gtFine"
    if not (images.is_dir() and truth.is_dir()):
        return None
    pairs, raw = [], False
    for image in _images(images):
        part = PARTS.get(image.relative_to(images).parts[0], "")
        if not part:  # test, whose labels are dummies, and train_extra
            continue
        stem = truth / image.relative_to(images).with_name(
            image.stem.removesuffix("_leftImg8bit") + "_gtFine_"
        )
        label = stem.with_name(stem.name + "labelTrainIds.png")
        if not label.is_file():
            label, raw = stem.with_name(stem.name + "labelIds.png"), True
        pairs.append(Pair(image, label, image.parent.name, part))
    card = data_set("cityscapes")
    if raw:
        ids = dict.fromkeys(range(CITYSCAPES_COUNT), IGNORE)
        ids |= dict(zip(CITYSCAPES_IDS, card.classes, strict=True))
        card = Card(card.keys, {**ids, 255: IGNORE})
    return Layout("Cityscapes", pairs, card)


def _ade20k(folder: Path, _: str) -> Layout | None:
    if not ((folder / "images/training").is_dir() and (folder / "annotations").is_dir()):
        return None
    card = data_set("ade20k")
    ids = {0: IGNORE, **{i + 1: name for i, name in enumerate(card.classes)}, 255: IGNORE}
    pairs = list(_mirrored(folder / "images", folder / "annotations"))
    return Layout("ADE20K", pairs, Card(card.keys, ids))


def _mmseg(folder: Path, _: str) -> Layout | None:
    images, truth = folder / "img_dir", folder / "ann_dir"
    if not (images.is_dir() and truth.is_dir()):
        return None
    return Layout("mmsegmentation", list(_mirrored(images, truth)))


def _parts(folder: Path, labels: str) -> Layout | None:
    found = [p for p in sorted(folder.iterdir()) if p.name in PARTS and (p / "images").is_dir()]
    if not found:
        return None
    pairs = [
        pair._replace(part=PARTS[part.name])
        for part in found
        for pair in _mirrored(part / "images", _label_folder(part, labels))
    ]
    return Layout("train/ and val/", pairs)


def _plain(folder: Path, labels: str) -> Layout | None:
    if not (folder / "images").is_dir():
        return None
    return Layout(
        "images/ and labels/", list(_mirrored(folder / "images", _label_folder(folder, labels)))
    )


_LAYOUTS: dict[str, Callable[[Path, str], Layout | None]] = {
    "Cityscapes": _cityscapes,
    "ADE20K": _ade20k,
    "mmsegmentation": _mmseg,
    "train/ and val/": _parts,
    "images/ and labels/": _plain,
}


def _label_folder(folder: Path, labels: str) -> Path:
    if labels:
        return folder / labels
    return next((folder / n for n in LABEL_FOLDERS if (folder / n).is_dir()), folder / "labels")


def _mirrored(images: Path, labels: Path) -> Iterator[Pair]:
    """Yield pairs of the same place below two folders; the first folder below may name a part."""
    for image in _images(images):
        place = image.relative_to(images)
        part = PARTS.get(place.parts[0], "") if len(place.parts) > 1 else ""
        below = place.parts[1 if part else 0 : -1]
        drive = "/".join(below) or drive_of(image.stem)
        yield Pair(image, labels / place.with_suffix(".png"), drive, part)


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_KINDS)
