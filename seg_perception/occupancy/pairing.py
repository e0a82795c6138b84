"""Which mask, confidence and CameraInfo belong together: those of one stamp and one frame."""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple, TypeVar

from seg_perception.messages import stamp_ns

KEPT_CONFIDENCES = 4  # that may come before their mask
KEPT_FRAMES = 8  # whose CameraInfo is remembered

Key = TypeVar("Key")


class Match(NamedTuple):
    """Messages of one picture. `tag` is what came along with the mask."""

    mask: Any
    confidence: Any | None
    info: Any | None
    tag: Any


class Pairing:
    """Match the messages of one camera; methods may be called from several threads.

    A mask waits for the confidence of its stamp while somebody publishes confidence, and until the
    next mask comes; then it goes without. One match waits to be taken: the newest. Messages are
    matched by their header alone, in the order of their arrival, so time may jump.
    """

    def __init__(self) -> None:
        """Start with nothing, and expect no confidence."""
        self._lock = threading.Lock()
        self._expects_confidence = False
        self._infos: OrderedDict[str, Any] = OrderedDict()
        self._confidences: OrderedDict[int, Any] = OrderedDict()
        self._mask: tuple[Any, Any] | None = None
        self._ready: tuple[Any, Any | None, Any] | None = None

    def expect_confidence(self, expected: bool) -> None:
        """Say whether somebody publishes confidence."""
        with self._lock:
            self._expects_confidence = expected
            if not expected and self._mask is not None:
                self._release(None)

    def on_info(self, info: Any) -> None:
        """Keep the newest CameraInfo of each frame."""
        with self._lock:
            _keep(self._infos, str(info.header.frame_id), info, KEPT_FRAMES)

    def on_confidence(self, confidence: Any) -> None:
        """Take a confidence; it completes the mask of its stamp, or waits for it."""
        stamp = stamp_ns(confidence.header)
        with self._lock:
            if self._mask is not None and stamp_ns(self._mask[0].header) == stamp:
                self._release(confidence)
            else:
                _keep(self._confidences, stamp, confidence, KEPT_CONFIDENCES)

    def on_mask(self, mask: Any, tag: Any) -> None:
        """Take a mask; the one before it waits no longer."""
        with self._lock:
            if self._mask is not None:
                self._release(None)
            self._mask = mask, tag
            confidence = self._confidences.pop(stamp_ns(mask.header), None)
            if confidence is not None or not self._expects_confidence:
                self._release(confidence)

    def take(self) -> Match | None:
        """Return the newest match that nobody took, if there is one."""
        with self._lock:
            ready, self._ready = self._ready, None
            if ready is None:
                return None
            mask, confidence, tag = ready
            return Match(mask, confidence, self._infos.get(str(mask.header.frame_id)), tag)

    @property
    def has_match(self) -> bool:
        """Whether `take` would return one."""
        return self._ready is not None

    def info_frames(self) -> tuple[str, ...]:
        """Return the frames whose CameraInfo has come."""
        with self._lock:
            return tuple(self._infos)

    def _release(self, confidence: Any | None) -> None:
        """Make the waiting mask the match to be taken."""
        if self._mask is not None:
            mask, tag = self._mask
            self._ready, self._mask = (mask, confidence, tag), None


def _keep(kept: "OrderedDict[Key, Any]", key: Key, value: Any, count: int) -> None:
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > count:
        kept.popitem(last=False)  # the one that came first
