"""Which images train and which are held out: whole drives or blocks of time, never neighbours."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seg_perception.errors import DataError, UsageError
from seg_perception.files import atomic_write
from seg_perception.training.sources import Item, check_not_empty

FILE = "split.csv"
TRAIN, VAL, GAP = "train", "val", "gap"
BLOCKS = 5  # of a drive, at least
GAP_SHARE = 0.1  # of a block, left out at each border to the other part
FEW = 3  # drives that are too few to hold one of them out
Drive = tuple[int, str]  # source and name: two sources may name a drive alike


def split(
    items: Sequence[Item], how: str, *, holdout: str = "", share: float, seed: int
) -> list[Item]:
    """Return the images with their parts: train, val, or gap for what is left out between.

    What the data say counts, but for a `holdout` of drives whose names begin so. Sources of which
    they say nothing are split together: by drives where there are enough, else in blocks of time,
    until `share` of their images is held out. `how` asks for drives or blocks, or names a
    split.csv. DataError where a part is left empty.
    """
    if how not in ("auto", "drives", "blocks"):
        found = _from_file(items, Path(how))
    elif holdout:
        found = _held_out(items, holdout)
    else:
        parts = {at: {i.part for i in items if i.source == at} for at in {i.source for i in items}}
        told = {at for at, own in parts.items() if own >= {TRAIN, VAL}}
        rest = [item for item in items if item.source not in told]
        decided = iter(_split_rest(rest, how, share, seed) if rest else ())
        found = [item if item.source in told else next(decided) for item in items]
    for part in (TRAIN, VAL):
        check_not_empty(found, part)
    return found


def write_split(path: Path, items: Iterable[Item]) -> None:
    """Write what was put where: part, source, drive and image of each."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "drive", "image"))
        writer.writerows((item.part, item.drive, item.image) for item in items)


def summary(items: Sequence[Item]) -> str:
    """Return how many images and drives are in each part."""
    texts = []
    for part in (TRAIN, VAL, GAP):
        own = [item for item in items if item.part == part]
        if own:
            drives = len({(item.source, item.drive) for item in own})
            texts.append(f"{part}: {len(own)} images of {drives} drive{'s' if drives > 1 else ''}")
    return "; ".join(texts)


def scored(items: Sequence[Item]) -> list[Item]:
    """Return the images of val that are scored: those that people labelled, if there are any."""
    val = [item for item in items if item.part == VAL]
    return [item for item in val if item.label] or val


def _from_file(items: Sequence[Item], path: Path) -> list[Item]:
    if not path.is_file():
        raise UsageError(f"split is {str(path)!r}; give auto, drives, blocks, or a split.csv")
    with path.open(newline="") as file:
        parts = {row["image"]: row["part"] for row in csv.DictReader(file)}
    unknown = [item.image for item in items if item.image not in parts]
    if unknown:
        raise DataError(f"{path} does not name {len(unknown)} images, such as {unknown[0]}")
    return [item._replace(part=parts[item.image]) for item in items]


def _held_out(items: Sequence[Item], holdout: str) -> list[Item]:
    """Hold the drives out that begin with a text, and leave out what the data call val."""
    if not any(item.drive.startswith(holdout) for item in items):
        drives = ", ".join(sorted({item.drive for item in items})[:8])
        raise DataError(f"no drive begins with {holdout!r}; there are {drives}")
    found = []
    for item in items:
        rest = GAP if item.part == VAL else TRAIN
        found.append(item._replace(part=VAL if item.drive.startswith(holdout) else rest))
    return found


def _split_rest(items: Sequence[Item], how: str, share: float, seed: int) -> list[Item]:
    drives: Mapping[Drive, list[Item]] = defaultdict(list)
    for item in items:
        drives[item.source, item.drive].append(item)
    largest = max(map(len, drives.values())) / len(items)
    if how == "auto":
        how = "drives" if len(drives) > FEW and largest < 1 - 2 * share else "blocks"
    if how == "blocks":
        decided = {i: p for drive in drives.values() for i, p in _blocks(drive, share).items()}
        return [item._replace(part=decided[item.image]) for item in items]
    names, count = list(drives), 0
    np.random.default_rng(seed).shuffle(names)
    held = set()
    for name in names[:-1]:  # the last that is drawn is never held out
        if count < share * len(items):
            held.add(name)
            count += len(drives[name])
    return [
        item._replace(part=VAL if (item.source, item.drive) in held else TRAIN) for item in items
    ]


def _blocks(drive: Sequence[Item], share: float) -> dict[str, str]:
    """Return the part of each image: every n-th block is held out, its borders are left out."""
    ordered = sorted(drive, key=lambda item: item.place)
    every = max(2, round(1 / share))
    size = max(1, len(ordered) // (every * max(1, BLOCKS // every)))
    gap = max(1, round(GAP_SHARE * size)) if len(ordered) > 2 * BLOCKS else 0
    parts = [VAL if (i // size) % every == every // 2 else TRAIN for i in range(len(ordered))]
    found = {}
    for i, item in enumerate(ordered):
        near = parts[max(0, i - gap) : i + gap + 1]
        is_border = parts[i] == TRAIN and VAL in near
        found[item.image] = GAP if is_border else parts[i]
    return found
