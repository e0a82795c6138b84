"""What happened to the images of one stream: counts, drops, ages, stage times."""

import threading
from collections import deque
from collections.abc import Hashable, Mapping

import numpy as np

from seg_perception.clocks import StampWatch

WINDOW = 100  # images that rate, age and stage times look back on
ERROR_SHOWN = 5.0  # seconds that an error keeps the status at a warning
MAX_PUBLISHERS = 100  # whose sequence is remembered: a camera that restarts is a new one


class StreamMonitor:
    """Count one stream of images; methods may be called from several threads.

    Times are steady-clock seconds; ages are seconds between an image's stamp and its mask's
    publication on the node's clock. An image from ahead of that clock, which a bag that loops
    leaves behind, has none; `stamps` tells of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_sequence: dict[Hashable, int] = {}
        self._ages: deque[float] = deque(maxlen=WINDOW)
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._stages: dict[str, deque[float]] = {}
        self.received = 0
        self.published = 0
        self.dropped = 0
        self.unreadable = 0
        self.too_old = 0
        self.held = 0
        self.failed = 0
        self.faulty = 0
        self.last_error = ""
        self.last_error_time = float("-inf")
        self.last_received = float("-inf")
        self.stamps = StampWatch()

    def on_received(self, now: float, publisher: Hashable, sequence: int | None) -> None:
        """Count an image; a gap in its publisher's sequence is drops, a decrease a restart."""
        with self._lock:
            self.received += 1
            self.last_received = now
            before = self._remember(publisher, sequence)
            if sequence is not None and before is not None and sequence > before:
                self.dropped += sequence - before - 1

    def on_ignored(self, publisher: Hashable, sequence: int | None) -> None:
        """Note an image that nobody wants: neither received nor dropped."""
        with self._lock:
            self._remember(publisher, sequence)

    def _remember(self, publisher: Hashable, sequence: int | None) -> int | None:
        """Keep a publisher's sequence and return the one before it."""
        if sequence is None:
            return None
        before = self._last_sequence.pop(publisher, None)
        self._last_sequence[publisher] = sequence
        if len(self._last_sequence) > MAX_PUBLISHERS:
            del self._last_sequence[next(iter(self._last_sequence))]  # silent for longest
        return before

    def on_published(self, now: float, age: float, stages: Mapping[str, float]) -> None:
        """Count a published mask with its age and stage times (milliseconds)."""
        with self._lock:
            self.published += 1
            self._times.append(now)
            if age >= 0:
                self._ages.append(age)
            for name, milliseconds in stages.items():
                self._stages.setdefault(name, deque(maxlen=WINDOW)).append(milliseconds)

    def on_unreadable(self, now: float, reason: str) -> None:
        """Count an image that could not be read."""
        with self._lock:
            self.unreadable += 1
            self.last_error, self.last_error_time = reason, now

    def on_failed(self, now: float, reason: str) -> None:
        """Count an image that the pipeline failed on."""
        with self._lock:
            self.failed += 1
            self.last_error, self.last_error_time = reason, now

    def on_too_old(self) -> None:
        """Count an image that was skipped for its age."""
        with self._lock:
            self.too_old += 1

    def on_faulty(self) -> None:
        """Count an image that shows a fault of its camera, segmented or not."""
        with self._lock:
            self.faulty += 1

    def on_held(self) -> None:
        """Count a mask that was not published: a new subscriber had no names of its ids yet."""
        with self._lock:
            self.held += 1

    def recent_error(self, now: float) -> str:
        """Return the last error where it is of late, or an empty string."""
        return self.last_error if now - self.last_error_time < ERROR_SHOWN else ""

    def values(self, now: float) -> dict[str, str]:
        """Return everything by name, formatted for a diagnostic."""
        with self._lock:
            recent = [t for t in self._times if now - t <= 5.0]
            rate = (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 else 0.0
            values = {
                "received": str(self.received),
                "published": str(self.published),
                "dropped": str(self.dropped),
                "unreadable": str(self.unreadable),
                "too_old": str(self.too_old),
                "held": str(self.held),
                "failed": str(self.failed),
                "faulty": str(self.faulty),
                "rate_hz": f"{rate:.2f}",
            }
            if self._ages:
                p50, p95 = np.percentile(self._ages, (50, 95)) * 1000
                values |= {"age_p50_ms": f"{p50:.1f}", "age_p95_ms": f"{p95:.1f}"}
            for name, times in self._stages.items():
                values[f"stage.{name}_ms"] = f"{np.median(times):.3f}"
            values["last_error"] = self.last_error
            return values


class LabelFrameMonitor(StreamMonitor):
    """Count label images on their way into a map."""

    def __init__(self) -> None:
        super().__init__()
        self.unplaced = 0

    def on_unplaced(self, now: float, reason: str) -> None:
        """Count a label image whose camera or pose gives no map."""
        with self._lock:
            self.unplaced += 1
            self.last_error, self.last_error_time = reason, now

    def on_stale(self, now: float, reason: str) -> None:
        """Count a label image that was skipped for its age."""
        with self._lock:
            self.too_old += 1
            self.last_error, self.last_error_time = reason, now

    def values(self, now: float) -> dict[str, str]:
        """Return everything by name, formatted for a diagnostic."""
        return {**super().values(now), "unplaced": str(self.unplaced)}
