"""From folders and bags to one list of training images that workers can read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception import key_values
from seg_perception.errors import DataError, UsageError
from seg_perception.labels import UNKNOWN
from seg_perception.training.bag_frames import extract
from seg_perception.training.card import Card, class_table, data_set, read_card
from seg_perception.training.config import Config
from seg_perception.training.layouts import Pair, find_pairs


@dataclass(frozen=True)
class DataSetting:
    """A folder or a bag: PATH[,KEY=VALUE...] of the command line; plain values that travel.

    `weight` is how often its images are seen, 1 being once an epoch. `labels` is the folder of
    the PNGs or, of a bag, perhaps a topic; `topic` that of a bag's images; `card` tells classes and
    ids of the labels where they are not our own.
    """

    path: str
    weight: float = 1.0
    labels: str = ""
    topic: str = ""
    card: str = ""

    @classmethod
    def parse(cls, text: str) -> "DataSetting":
        """Read `DIR` or `DIR,weight=2,card=THEIRS.yaml`; UsageError names what is wrong."""
        path, values = key_values.parse(text, cls, of="data", form="PATH")
        if not values.get("weight", 1.0) > 0:
            raise UsageError(f"{text!r}: weight is {values['weight']}; give a number above 0")
        return cls(path, **values)


class Item(NamedTuple):
    """One training image: files, where it is from, and what is known of it.

    `label` is a PNG of ids, empty without labels of people; `soft` a file of a teacher's scores,
    empty without. `source` counts the settings; `place` orders the images of a drive: nanoseconds
    of a bag, else a number. `part` is train, val, or empty where the data do not say.
    """

    image: str
    label: str
    source: int
    drive: str
    place: int
    part: str = ""
    soft: str = ""


class Labelled(NamedTuple):
    """All images of a run, the card of its classes, and for each source: weight and id table.

    A table is int16 (256,): id of a PNG -> class, 255 ignored, -1 for ids that mean nothing.
    `palettes` are the colours of each source's PNGs, where they may be in colours.
    """

    items: list[Item]
    card: Card
    weights: list[float]
    tables: list[NDArray[np.int16]]
    palettes: list[tuple[tuple[int, int, int], ...] | None]
    notes: list[str]


def gather(config: Config, card: Card | None = None) -> Labelled:
    """List every image of the config's folders and bags; frames of bags are written to files.

    A `card` comes before that of the config.

    Raises DataError or ManifestError for data or cards that cannot be used.
    """
    folders = [DataSetting.parse(text) for text in config.data]
    bags = [DataSetting.parse(text) for text in config.bags]
    if not folders and not bags:
        raise UsageError("there are no data; give --data DIR or --bag BAG")
    layouts = [find_pairs(Path(s.path), s.labels) for s in folders]
    notes = [
        f"{s.path}: {len(x.pairs)} images, {x.name}" for s, x in zip(folders, layouts, strict=True)
    ]
    theirs = [layout.card for layout in layouts] + [None] * len(bags)
    card = card or _own_card(config, theirs, notes)
    found = Labelled([], card, [], [], [], notes)
    places = [layout.pairs for layout in layouts]
    places += [extract(s, Path(config.out) / "frames", card.palette) for s in bags]
    for at, (setting, pairs) in enumerate(zip([*folders, *bags], places, strict=True)):
        other = read_card(Path(setting.card)) if setting.card else theirs[at]
        found.items.extend(_items(pairs, at, by_stamp=at >= len(folders)))
        found.weights.append(setting.weight)
        found.tables.append(_table(other, card))
        found.palettes.append((other or card).palette)
    return found


def _own_card(config: Config, theirs: Sequence[Card | None], notes: list[str]) -> Card:
    """Return the card that was given, that of a layout, or the data set's."""
    if config.card:
        return read_card(Path(config.card))
    known = next((card for card in theirs if card is not None), None)
    if known is not None:
        return Card(known.keys, dict(enumerate(known.classes)))
    notes.append(f"no card: the classes are those of {config.dataset}; --card gives others")
    return data_set(config.dataset)


def _table(theirs: Card | None, ours: Card) -> NDArray[np.int16]:
    """Return the table of a source's ids, through the names of its classes where it has its own."""
    if theirs is None:
        return ours.table()
    ids = theirs.table()
    mapped = class_table(theirs.classes, theirs.keys.get("groups", {}), ours).astype(np.int16)
    return np.where(ids < 0, ids, mapped[np.where(ids < 0, UNKNOWN, ids)]).astype(np.int16)


def _items(pairs: Sequence[Pair], source: int, *, by_stamp: bool) -> Iterator[Item]:
    """Yield the images of a source; those of bags are named by their stamps."""
    for number, pair in enumerate(pairs):
        place = int(pair.image.stem) if by_stamp else number
        yield Item(str(pair.image), str(pair.label), source, pair.drive, place, pair.part)


def check_not_empty(items: Sequence[Item], part: str) -> None:
    """Raise DataError where a part of the split holds nothing."""
    if not any(item.part == part for item in items):
        raise DataError(
            f"no image is in {part}: give more than one drive or longer ones, another --split or "
            "holdout, or data that hold train and val"
        )
