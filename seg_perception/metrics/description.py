"""What a metric says in reports: titles, texts and numbers that tables and pages loop over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

NONE = "-"  # in tables, for what was not measured


class Compared(NamedTuple):
    """The row of a comparison: its title, and the number that stands under each model."""

    title: str
    value: float | None


class Headline(NamedTuple):
    """A large text at the top of a page, and what it is."""

    text: str
    caption: str


class Panel(NamedTuple):
    """A number of each class, and its mean over them where it is drawn.

    `is_small`: the axis ends with the largest value, not with 1.
    """

    title: str
    values: Mapping[str, float | None]
    mean: float | None = None
    is_small: bool = False


class Table(NamedTuple):
    """A table of a page: rows of a title and a text."""

    heading: str
    rows: Sequence[tuple[str, str]]


class Reliability(NamedTuple):
    """A chart of accuracy by confidence, and the text below it.

    Each of `bins` has confidence, accuracy (None for an empty one) and pixels.
    """

    heading: str
    bins: Sequence[Mapping[str, Any]]
    text: str


@dataclass(frozen=True, kw_only=True)
class Description:
    """All places of reports that a metric can fill; a terminal and a comparison always have rows.

    `rows` are those of the terminal's table: a title and a text.
    """

    rows: Sequence[tuple[str, str]]
    compared: Compared
    headline: Headline | None = None
    panel: Panel | None = None
    table: Table | None = None
    reliability: Reliability | None = None


def share(value: float | None) -> str:
    """Return a share of 0..1 as text of three decimals."""
    return decimals(value, 3)


def percent(value: float | None) -> str:
    """Return a share of 0..1 in percent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def decimals(value: float | None, count: int) -> str:
    """Return a number with so many decimals."""
    return NONE if value is None else f"{value:.{count}f}"
