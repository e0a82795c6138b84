"""What can be counted over the pictures of a recording, in parts that add up."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Key = int | str  # of a picture: its stamp in nanoseconds, or its name
State = dict[str, Any]  # numbers, text, arrays of them (of no objects), and dicts of all that


class View(NamedTuple):
    """One picture: uint8 BGR (H,W,3), and uint8 (H,W) ids of the model's classes, 255 unknown.

    `truth` holds ids of classes or void; it and `confidence` (softmax x 255) are None where there
    is none.
    """

    key: Key
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None


class Measure(Protocol):
    """Something that is counted picture by picture, in the order of the recording.

    A recording may be counted in parts, by several processes or after an interruption: a part's
    `state` is merged into that of the part before, and the result is that of one run, bit for bit.
    Of the picture before a part a measure with `looks_back` gets a view that it does not count.
    """

    name: str  # its key in report.json, and in --measure
    needs_truth: bool
    needs_confidence: bool
    looks_back: bool

    def look(self, view: View) -> None:
        """See a picture that another part counts."""
        ...

    def add(self, view: View) -> None:
        """Count a picture; DataError where it does not fit what came before."""
        ...

    def state(self) -> State:
        """Return all that was counted."""
        ...

    def merge(self, later: State) -> None:
        """Add what was counted of the pictures that follow."""
        ...

    def result(self) -> dict[str, Any] | None:
        """Return what report.json says under `name`; None where nothing could be counted."""
        ...
