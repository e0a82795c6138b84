"""Ends a process whose interpreter hangs, so that its launch file starts it again.

Fast DDS (3.2 to 3.6 at least) can loop for ever while a message is taken: a reliable reader holds a
part of a large message, its writer declares that message irrelevant, and the part stays listed
without its content. It was seen once in about 60 restarts next to peers that had been killed. The
loop holds Python's lock, so no Python code can notice; faulthandler's timer is a thread in C.
"""

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

VARIABLE = "SEG_PERCEPTION_HANG_TIMEOUT"
TIMEOUT_S = 30.0
FEED_PERIOD_S = 1.0


class Watchdog:
    """Exits with status 1, and every thread's stack on stderr, when no Python code runs for long.

    There is one timer in a process, so there is one watchdog.
    """

    def __init__(self) -> None:
        self._timeout_s = 0.0
        self._paused = 0
        self._lock = Lock()
        self._is_over = Event()

    def start(self) -> None:
        """Begin, with the environment's timeout in seconds; 0 switches it off, as for a debugger.

        Raises SystemExit when the variable holds no number.
        """
        try:
            self._timeout_s = float(os.environ.get(VARIABLE) or TIMEOUT_S)
        except ValueError:
            raise SystemExit(
                f"{VARIABLE} is {os.environ[VARIABLE]!r}; give seconds, 0 switches it off"
            ) from None
        Thread(target=self._feed_regularly, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._is_over.set()
        with self._lock:
            self._timeout_s = 0.0
            faulthandler.cancel_dump_traceback_later()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Watch nothing meanwhile: an engine that is built may hold the lock for minutes."""
        with self._lock:
            self._paused += 1
            faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            with self._lock:
                self._paused -= 1

    def _feed_regularly(self) -> None:
        while not self._is_over.wait(FEED_PERIOD_S):
            with self._lock:
                if self._timeout_s > 0 and not self._paused:
                    faulthandler.dump_traceback_later(self._timeout_s, exit=True)


WATCHDOG = Watchdog()
