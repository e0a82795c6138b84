"""What a recorder left of a run through live nodes: times, masks and the node's own words."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception import messages
from seg_perception.bags.bag import BagReader
from seg_perception.errors import DataError
from seg_perception.reporting.report import Timeline

NODE = "segmentation_node"
MASKS, CONFIDENCE = f"/{NODE}/label_mask", f"/{NODE}/confidence"


class Event(NamedTuple):
    """An image's stamp, and when something happened to it on the steady clock; nanoseconds."""

    stamp: int
    steady: int


class Recording(NamedTuple):
    """What the processes left behind, each list in the order in which it happened.

    `sent` are the player's publish calls, `received` the receipts of masks, `confident` those of
    confidence. `interrupted`: the rest of the bag was not played.
    """

    bag: Path
    sent: Sequence[Event]
    received: Sequence[Event]
    confident: Sequence[Event] = ()
    interrupted: bool = False


class Answer(NamedTuple):
    """An image's publish call and the receipt of its mask; nanoseconds of the steady clock."""

    stamp: int
    sent: int
    received: int


def answers(recording: Recording) -> list[Answer]:
    """Return the masks whose image is known, as they were received.

    Images that share a stamp are answered in their order, if all of them were; where some were
    not, nobody knows whose mask it is.
    """
    calls: defaultdict[int, list[int]] = defaultdict(list)
    for stamp, steady in recording.sent:
        calls[stamp].append(steady)
    unclear, taken = _unclear(recording), Counter[int]()
    found = []
    for stamp, steady in recording.received:
        if stamp in calls and stamp not in unclear:
            found.append(Answer(stamp, calls[stamp][taken[stamp]], steady))
            taken[stamp] += 1
    return found


def timing(recording: Recording) -> dict[str, Any]:
    """Return the keys of report.json that live nodes give; what could not be measured is absent."""
    known = answers(recording)
    values = _last_diagnostic(recording.bag)
    out = len(recording.received)
    measured: dict[str, Any] = {
        "frames_in": len(recording.sent),
        "frames_out": out,
        "dropped": len(recording.sent) - out,
        "stage_ms": {
            key.removeprefix("stage.").removesuffix("_ms"): float(value)
            for key, value in values.items()
            if key.startswith("stage.")
        },
        "model": values.get("model", ""),
        "provider": values.get("provider", ""),
        "threads": int(values.get("threads", 0)),
    }
    if recording.interrupted:
        measured["interrupted"] = True
    if out > 1:
        span = recording.received[-1].steady - recording.received[0].steady
        measured["rate_hz"] = (out - 1) / max(span / 1e9, 1e-9)
    if known:
        measured["age_ms"] = _percentiles([a.received - a.sent for a in known], 50, 95, 99)
    if len(known) > 1:
        # 0 where masks come as evenly as the images that they belong to.
        late = [abs((b.received - a.received) - (b.sent - a.sent)) for a, b in pairwise(known)]
        measured["jitter_ms"] = _percentiles(late, 50, 95)
    return measured


def timeline(recording: Recording) -> Timeline:
    """Return what charts show: receipts with their ages, and the images that got no mask."""
    start = recording.sent[0].steady
    known = answers(recording)
    answered = {stamp for stamp, _ in recording.received}
    return Timeline(
        [(a.received - start) / 1e9 for a in known],
        [(a.received - a.sent) / 1e6 for a in known],
        [(steady - start) / 1e9 for stamp, steady in recording.sent if stamp not in answered],
    )


def masks(recording: Recording) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the stamp and the uint8 (H,W) ids of each mask, as they were received."""
    with BagReader(recording.bag) as bag:
        for message in bag.messages([MASKS] if MASKS in bag.topics else ()):
            yield messages.stamp_ns(message.header), messages.to_array(message)


class Recorded:
    """Masks by stamp, read in constant memory; use as a context manager.

    Ask in the order in which the images were played, for each of them once or not at all.
    """

    def __init__(self, recording: Recording) -> None:
        """Open the recording; DataError where it cannot be read."""
        unclear = _unclear(recording)
        self._open = ExitStack()
        self._labels, self._confidence = (
            _Track(self._open.enter_context(BagReader(recording.bag)), topic, events, unclear)
            for topic, events in ((MASKS, recording.received), (CONFIDENCE, recording.confident))
        )

    def __enter__(self) -> "Recorded":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def labels(self, stamp: int) -> NDArray[np.uint8] | None:
        """Return the mask of an image, uint8 (H,W); None where none came, or whose is unclear."""
        return self._labels.at(stamp)

    def confidence(self, stamp: int) -> NDArray[np.uint8] | None:
        """Return softmax x 255 of an image, uint8 (H,W), or None as `labels`."""
        return self._confidence.at(stamp)


class _Track:
    """The images of one topic, read onwards."""

    def __init__(
        self, bag: BagReader, topic: str, events: Sequence[Event], unclear: set[int]
    ) -> None:
        self._known = {event.stamp for event in events} - unclear
        self._left = Counter(event.stamp for event in events)
        self._messages = bag.messages([topic]) if topic in bag.topics else iter(())
        self._topic = topic

    def at(self, stamp: int) -> NDArray[np.uint8] | None:
        if stamp not in self._known:
            return None
        if not self._left[stamp]:
            raise DataError(f"{self._topic} of {stamp} was read before: ask in the order of play")
        for message in self._messages:
            found = messages.stamp_ns(message.header)
            self._left[found] -= 1
            if found == stamp:
                return messages.to_array(message)
        raise DataError(
            f"{self._topic} of {stamp} was recorded, but is not in the bag: remove the recording "
            "and play again"
        )


def _unclear(recording: Recording) -> set[int]:
    """Return the stamps that several images share of which only some were answered."""
    sent = Counter(stamp for stamp, _ in recording.sent)
    received = Counter(stamp for stamp, _ in recording.received)
    return {stamp for stamp, count in received.items() if 1 < sent[stamp] != count}


def _percentiles(nanoseconds: Sequence[int], *shares: int) -> dict[str, float]:
    """Return milliseconds by name, as p50."""
    values = np.percentile(nanoseconds, shares) / 1e6
    return {f"p{share}": float(value) for share, value in zip(shares, values, strict=True)}


def _last_diagnostic(bag: Path) -> dict[str, str]:
    """Return the values of the node's last status, empty where none was recorded."""
    found: dict[str, str] = {}
    with BagReader(bag) as reader:
        known = [topic for topic in reader.topics if topic == "/diagnostics"]
        for array in reader.messages(known) if known else ():
            for status in array.status:
                if status.name.startswith(NODE):
                    found = {value.key: value.value for value in status.values}
    return found
