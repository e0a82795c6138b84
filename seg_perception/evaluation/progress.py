"""How far a plan is counted: kept in a file, so that an interrupted evaluation goes on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seg_perception.bags.sources import Span
from seg_perception.errors import DataError, UsageError
from seg_perception.evaluation.accumulator import Accumulator
from seg_perception.evaluation.saved_state import read_state, write_state
from seg_perception.metrics.metric import State

NAME = "partial.npz"
SAVE_PERIOD_S = 30.0  # seconds


@dataclass
class Progress:
    """What is counted of one recording, cut into `spans`; a accumulator for each network.

    Spans come back in any order and are merged in their own, so the sums are those of one run.
    """

    spans: Sequence[Span | None]
    accumulators: Sequence[Accumulator]
    done: int = 0  # spans that are in the accumulators
    position: int = 0  # images of the next span that are, too
    waiting: dict[int, list[State]] = field(default_factory=dict)  # later spans
    damage: str = ""
    images: int = 0  # that the accumulators hold

    def missing(self) -> list[int]:
        """Return the spans that nobody has counted to their end."""
        return [at for at in range(self.done, len(self.spans)) if at not in self.waiting]

    def skip(self, at: int) -> int:
        """Return how many images of a span are in the accumulators already."""
        return self.position if at == self.done else 0

    def note(self) -> None:
        """Take note that all accumulators hold another image."""
        self.position, self.images = self.position + 1, self.images + 1

    def is_whole(self) -> bool:
        """Whether the accumulators hold whole images; an error may have come within one."""
        return all(accumulator.frames_in == self.images for accumulator in self.accumulators)

    def finish(self, at: int, states: list[State] | None = None) -> None:
        """Take note that a span is counted; without `states` the accumulators hold it already."""
        if states is not None:
            self.waiting[at] = states
        else:
            self.done, self.position = at + 1, 0
        while self.done in self.waiting:
            counted = self.waiting.pop(self.done)
            for accumulator, state in zip(self.accumulators, counted, strict=True):
                accumulator.merge(state)
            self.images += counted[0]["frames_in"]
            self.done, self.position = self.done + 1, 0

    def state(self) -> State:
        """Return all of it as plain data."""
        return {
            "spans": [span and list(span) for span in self.spans],
            "done": self.done,
            "position": self.position,
            "damage": self.damage,
            "accumulators": [accumulator.state() for accumulator in self.accumulators],
            "waiting": {str(at): states for at, states in self.waiting.items()},
        }

    def restore(self, state: State) -> None:
        """Take over what an earlier run has counted, cut as it was then."""
        self.spans = [span and Span(*span) for span in state["spans"]]
        self.done, self.position = state["done"], state["position"]
        self.damage = state["damage"]
        self.waiting = {int(at): states for at, states in state["waiting"].items()}
        for accumulator, counted in zip(self.accumulators, state["accumulators"], strict=True):
            accumulator.merge(counted)
        self.images = self.accumulators[0].frames_in


class SavedProgress:
    """The progress of all recordings, and its file next to the report."""

    def __init__(
        self, folder: Path, described: Mapping[str, str], recordings: Sequence[Progress]
    ) -> None:
        """Begin with nothing counted; `described` tells one evaluation from another."""
        self._path, self._described = folder / NAME, dict(described)
        self.recordings = recordings
        self._earlier, self._began = 0.0, time.perf_counter()
        self._saved = self._began

    @property
    def seconds(self) -> float:
        """How long counting has taken, that of interrupted runs included."""
        return self._earlier + time.perf_counter() - self._began

    def resume(self) -> bool:
        """Go on from the file, and return whether there is one.

        Raises UsageError where it was written by another evaluation, DataError for damage.
        """
        if not self._path.exists():
            return False
        state = read_state(self._path)
        before = state["described"]
        for name in {**before, **self._described}:
            was, is_now = before.get(name), self._described.get(name)
            if was != is_now:
                raise UsageError(
                    f"{self._path} was interrupted with another {name}: {was}, now {is_now}; give "
                    "the same, or another --out, or leave out --resume to start again"
                )
        try:
            for progress, counted in zip(self.recordings, state["recordings"], strict=True):
                progress.restore(counted)
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{self._path} cannot be read ({error}); remove it") from error
        self._earlier = state["seconds"]
        return True

    def save(self, *, at_once: bool = False) -> None:
        """Write the file, if it was not written lately and there is something to go on from.

        Counts of half an image are none: what was written before them stays.
        """
        now = time.perf_counter()
        counted = any(r.done or r.position or r.waiting for r in self.recordings)
        is_whole = all(recording.is_whole() for recording in self.recordings)
        if counted and is_whole and (at_once or now - self._saved > SAVE_PERIOD_S):
            write_state(
                self._path,
                {
                    "described": self._described,
                    "seconds": self.seconds,
                    "recordings": [progress.state() for progress in self.recordings],
                },
            )
            self._saved = now

    def remove(self) -> None:
        """Remove the file; its counts are in the report."""
        self._path.unlink(missing_ok=True)
