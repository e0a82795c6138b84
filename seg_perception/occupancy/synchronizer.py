"""Which mask, CameraInfo and companions belong together: those of one stamp and one frame."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from seg_perception.messages import stamp_ns

# How many companions of a mask are kept that come before it. Confidence leaves its node with the
# mask; depth leaves the camera with the image, a whole segmentation before.
COMPANIONS = {"confidence": 4, "depth": 16}
KEPT_FRAMES = 8  # whose CameraInfo is remembered

Key = TypeVar("Key")


class Match(NamedTuple):
    """Messages of one image. `tag` is what came along with the mask."""

    mask: Any
    confidence: Any | None
    info: Any | None
    tag: Any
    depth: Any | None = None


class Pairing:
    """Match the messages of one camera; methods may be called from several threads.

    A mask waits for each companion of its stamp that somebody publishes, and until the next mask
    comes; then it goes without. One match waits to be taken: the newest. Messages are matched by
    their header alone, in the order of their arrival, so time may jump.
    """

    def __init__(self) -> None:
        """Start with nothing, and expect masks alone."""
        self._lock = threading.Lock()
        self._expected: frozenset[str] = frozenset()
        self._infos: OrderedDict[str, Any] = OrderedDict()
        self._early: dict[str, OrderedDict[int, Any]] = {n: OrderedDict() for n in COMPANIONS}
        self._mask: tuple[Any, Any] | None = None
        self._found: dict[str, Any] = {}  # companions of the waiting mask
        self._ready: tuple[Any, Any, dict[str, Any]] | None = None
        self._missed = dict.fromkeys(COMPANIONS, 0)

    def expect(self, companions: Iterable[str]) -> None:
        """Say which companions somebody publishes."""
        with self._lock:
            self._expected = frozenset(companions)
            self._release_if_complete()

    def on_info(self, info: Any) -> None:
        """Keep the newest CameraInfo of each frame."""
        with self._lock:
            _keep(self._infos, str(info.header.frame_id), info, KEPT_FRAMES)

    def on_companion(self, name: str, message: Any) -> None:
        """Take a companion; it joins the waiting mask of its stamp, or waits for it."""
        stamp = stamp_ns(message.header)
        with self._lock:
            if self._mask is not None and stamp_ns(self._mask[0].header) == stamp:
                self._found[name] = message
                self._release_if_complete()
            else:
                _keep(self._early[name], stamp, message, COMPANIONS[name])

    def on_mask(self, mask: Any, tag: Any) -> None:
        """Take a mask; the one before it waits no longer."""
        with self._lock:
            self._release()
            self._mask = mask, tag
            stamp = stamp_ns(mask.header)
            early = {name: kept.pop(stamp, None) for name, kept in self._early.items()}
            self._found = {name: found for name, found in early.items() if found is not None}
            self._release_if_complete()

    def take(self) -> Match | None:
        """Return the newest match that nobody took, if there is one."""
        with self._lock:
            ready, self._ready = self._ready, None
            if ready is None:
                return None
            mask, tag, found = ready
            return Match(
                mask,
                found.get("confidence"),
                self._infos.get(str(mask.header.frame_id)),
                tag,
                found.get("depth"),
            )

    def info_frames(self) -> tuple[str, ...]:
        """Return the frames whose CameraInfo has come."""
        with self._lock:
            return tuple(self._infos)

    def missed(self) -> dict[str, int]:
        """Return by companion how many masks waited for it in vain."""
        with self._lock:
            return dict(self._missed)

    def _release_if_complete(self) -> None:
        if self._expected <= self._found.keys():
            self._release()

    def _release(self) -> None:
        """Make the waiting mask the match to be taken."""
        if self._mask is None:
            return
        for name in self._expected - self._found.keys():
            self._missed[name] += 1
        self._ready = (*self._mask, self._found)
        self._mask, self._found = None, {}


def _keep(kept: "OrderedDict[Key, Any]", key: Key, value: Any, count: int) -> None:
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > count:
        kept.popitem(last=False)  # the one that came first
