"""Requirements on a report, such as miou>=0.6: what --require takes, and its verdict."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg_perception.errors import UsageError

FORM = re.compile(r"\s*(?P<key>[^<>=]+?)\s*(?P<sign>>=|<=)\s*(?P<limit>[^<>=\s]+)\s*")


@dataclass(frozen=True)
class Requirement:
    """A key of report.json, dots between its levels, and what its value may be."""

    text: str
    key: str
    at_least: bool
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """Read KEY>=NUMBER or KEY<=NUMBER; UsageError for anything else."""
        match = FORM.fullmatch(text)
        try:
            limit = float(match["limit"]) if match else math.nan
        except ValueError:
            limit = math.nan
        if match is None or not math.isfinite(limit):
            raise UsageError(
                f"{text!r} is no requirement; write KEY>=NUMBER or KEY<=NUMBER, as in "
                "'miou>=0.6' or 'per_class_iou.road>=0.9'"
            )
        return cls(text, match["key"], match["sign"] == ">=", limit)

    def is_under(self, names: Collection[str]) -> bool:
        """Whether the value stands under one of the keys."""
        return self.key.partition(".")[0] in names

    def check(self, known: Collection[str]) -> None:
        """Raise UsageError where none of the `known` keys of a report can hold the value."""
        if not any(self.key == name or self.key.startswith(f"{name}.") for name in known):
            raise UsageError(
                f"{self.text!r}: {self.key} is not measured in this run; it measures "
                f"{', '.join(sorted(known))}"
            )

    def value(self, content: Mapping[str, Any]) -> float:
        """Return what was measured; UsageError lists what there is at the level that lacks it."""
        return _find(content, self.key, self.text)

    def judge(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the verdict as report.json has it: require, value, holds."""
        value = self.value(content)
        holds = value >= self.limit if self.at_least else value <= self.limit
        return {"require": self.text, "value": value, "holds": holds}


def _find(content: Mapping[str, Any] | Sequence[Any], key: str, text: str) -> float:
    """Follow `key` level by level; names may hold dots themselves, items of lists are numbered."""
    if isinstance(content, Sequence):
        content = {str(at): inner for at, inner in enumerate(content)}
    if key in content:
        value = content[key]
        if not isinstance(value, bool) and isinstance(value, (int, float)):
            return float(value)
    for name, inner in content.items():
        if key.startswith(f"{name}.") and isinstance(inner, (Mapping, list, tuple)):
            return _find(inner, key[len(name) + 1 :], text)
    numbers = [
        name if isinstance(value, (int, float)) else f"{name}.*"
        for name, value in content.items()
        if isinstance(value, (int, float, Mapping, list)) and not isinstance(value, bool)
    ]
    raise UsageError(f"{text!r}: {key} was not measured; there are {', '.join(numbers)}")
