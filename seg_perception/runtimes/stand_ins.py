"""Read past what training tools save next to their weights: numbers of a log, its functions.

torch reads a file without running its code as long as every name in it is known. The names here
get an empty class each that keeps nothing and does nothing; what they stand for is never imported.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# mmengine's message hub: its buffers are numpy's arrays and the functions that average them.
NAMES = re.compile(r"(numpy|mmengine)\.[\w.]+|(builtins|__builtin__)\.getattr")


class StandIn:
    """Takes whatever a pickle gives it, and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""

    def __setstate__(self, _: Any) -> None:
        """Keep nothing."""

    def __setitem__(self, _: Any, __: Any) -> None:
        """Keep nothing."""

    def extend(self, _: Any) -> None:
        """Keep nothing."""


def can_stand_in(names: Iterable[str]) -> bool:
    """Return whether torch lets each of the names be left out, and all are known as harmless."""
    known = hasattr(torch.serialization, "safe_globals")  # torch 2.5
    return known and all(NAMES.fullmatch(name) for name in names)


@contextmanager
def stand_ins(names: Iterable[str]) -> Iterator[None]:
    """Let torch.load(weights_only=True) put an empty class in the place of each of the names."""
    classes: list[Any] = []
    for name in names:
        module, _, leaf = name.replace("__builtin__.", "builtins.").rpartition(".")
        # The name under which torch looks a class up.
        classes.append(type(leaf, (StandIn,), {"__module__": module, "__qualname__": leaf}))
    with torch.serialization.safe_globals(classes):
        yield
