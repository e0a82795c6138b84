"""The classes that are trained: a card, and how ids and classes of other data become them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from seg_perception.cards import load_card
from seg_perception.errors import DataError, ManifestError, first_line
from seg_perception.group_words import guess_groups, plain
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import Manifest

OWN_KEYS = ("ids", "map")  # of a training card, besides those of a manifest
OF_NETWORK = ("input", "output", "official", "architecture", "network", "sha256", "metrics")
IGNORE = "ignore"  # in place of a class: such pixels carry no loss
REST = "*"  # in `map`: every class that is not named
SIZE = [32, 32]  # a manifest needs an input; that of the network comes later


@dataclass(frozen=True)
class Card:
    """Classes, and the ids that label PNGs hold.

    `keys` are a manifest's but for those of a network. `ids` maps ids of PNGs to class names or
    ignore; `renamed` maps names of other data sets and teachers to own classes or ignore.
    """

    keys: Mapping[str, Any]
    ids: Mapping[int, str]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """Return the names in the order of their ids."""
        return list(self.keys["classes"])

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        """Return the RGB colours of the classes, None where the card gives none."""
        colours = self.keys.get("palette")
        return None if colours is None else tuple((c[0], c[1], c[2]) for c in colours)

    def manifest(self, **changes: Any) -> Manifest:
        """Return a manifest of these classes; ManifestError says what is wrong with them."""
        base = {"input": {"size": SIZE}, "output": {"kind": "logits"}}
        return Manifest.from_dict({**base, **self.keys, **changes})

    def table(self) -> NDArray[np.int16]:
        """Return int16 (256,): id of a PNG -> class, 255 ignored, -1 for ids that mean nothing."""
        table = np.full(256, -1, np.int16)
        for i, name in self.ids.items():
            table[i] = UNKNOWN if name == IGNORE else self.classes.index(name)
        return table


def read_card(path: Path) -> Card:
    """Read CARD.yaml: a manifest's keys (classes, palette, groups, void_ids ...), ids and map.

    Keys of a network are left out. ManifestError says what is wrong with it.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"the card {path} cannot be read: {first_line(error)}") from error
    try:
        return card_of(content)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def data_set(name: str) -> Card:
    """Return the card of a known data set; ManifestError lists them."""
    return card_of(load_card(name))


def card_of(content: Any) -> Card:
    """Return the card that a mapping of keys describes; ManifestError says what is wrong."""
    if not isinstance(content, Mapping) or "classes" not in content:
        raise ManifestError("a card is a table with classes: [NAME, ...], in the order of the ids")
    known = {f.name for f in fields(Manifest)} - set(OF_NETWORK)
    keys = {k: v for k, v in content.items() if k in known}
    unknown = sorted(map(str, set(content) - known - set(OWN_KEYS) - set(OF_NETWORK)))
    if unknown:
        raise ManifestError(f"it has unknown keys {unknown}; known are {', '.join(sorted(known))}")
    keys.setdefault("groups", {g.name: g.group for g in guess_groups(_names(keys["classes"]))})
    ids = {int(i): str(name) for i, name in (content.get("ids") or {}).items()}
    card = Card(keys, ids, {str(k): str(v) for k, v in (content.get("map") or {}).items()})
    manifest = card.manifest()
    for name in (*card.ids.values(), *card.renamed.values()):
        if name != IGNORE and name not in card.classes:
            raise ManifestError(f"ids and map lead to {name!r}, which is no class; or say {IGNORE}")
    void = dict.fromkeys((*manifest.void_ids, UNKNOWN), IGNORE)
    return Card(keys, {**(ids or dict(enumerate(card.classes))), **void}, card.renamed)


def _names(classes: Any) -> list[str]:
    return [str(name) for name in classes] if isinstance(classes, list) else []


def class_table(theirs: Sequence[str], groups: Mapping[str, str], ours: Card) -> NDArray[np.uint8]:
    """Return uint8 (256,): class id of other data, or of a teacher -> own class, 255 ignored.

    By `map` of our card, else by equal names, else by a planner group that is the name of an own
    class. DataError names the classes that nothing says anything of.
    """
    by_name = {plain(name): i for i, name in enumerate(ours.classes)}
    renamed = {plain(k): v for k, v in ours.renamed.items() if k != REST}
    table = np.full(256, UNKNOWN, np.uint8)
    unknown = []
    for i, name in enumerate(theirs):
        wanted = renamed.get(plain(name))
        if wanted is None and plain(name) in by_name:
            wanted = ours.classes[by_name[plain(name)]]
        if wanted is None and groups.get(name) in ours.classes:
            wanted = groups[name]
        wanted = wanted or ours.renamed.get(REST)
        if wanted is None:
            unknown.append(name)
        elif wanted != IGNORE:
            table[i] = ours.classes.index(wanted)
    if unknown:
        listed = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if unknown[8:] else "")
        raise DataError(
            f"nothing says which own class these are: {listed}; add to the card map: "
            f"{{{unknown[0]}: {ours.classes[0]}, ...}}, where {IGNORE} leaves one out and "
            f"'{REST}': {IGNORE} all the rest"
        )
    return table
