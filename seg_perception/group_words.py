"""Guess planner groups from the names of classes, by the table group_words.yaml."""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import yaml


class Guess(NamedTuple):
    """The group of a class, and the words of the table that it was guessed by, if any."""

    name: str
    group: str
    words: str

    def text(self) -> str:
        """Say what was guessed, and why."""
        return f"{self.name}: {self.group} ({f'by {self.words!r}' if self.words else 'unknown'})"


def guess_groups(names: Sequence[str]) -> list[Guess]:
    """Return a guess for each class name; a name without a known word is `other`."""
    return [_guess(name) for name in names]


def plain(name: str) -> str:
    """Return a class name in lower case, its words parted by one space each."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"\w+", parted.replace("_", " ").casefold()))


def _guess(name: str) -> Guess:
    words = plain(name).split()
    for start in range(len(words)):
        last = " ".join(words[start:])
        for form in (last, last.removesuffix("s"), last.removesuffix("es")):
            group = _table().get(form, "")
            if group and (group != "other" or start == 0):
                return Guess(name, group, form)
    return Guess(name, "other", "")


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    """Return the group of each entry."""
    text = resources.files("seg_perception").joinpath("group_words.yaml").read_text("utf-8")
    groups: dict[str, list[str | list[str]]] = yaml.safe_load(text)
    rows = [(group, row) for group, listed in groups.items() for row in listed]
    return {
        words: group for group, row in rows for words in ([row] if isinstance(row, str) else row)
    }
