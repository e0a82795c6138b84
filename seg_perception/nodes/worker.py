"""One thread for the heavy work, and a callback group that holds messages back meanwhile."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock, Thread, current_thread
from typing import Any, Generic, Protocol, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

POLL_S = 0.01  # between looks at the other sources while one waits
Info = dict[str, Any]  # what the middleware knows of a message
Taken = tuple[Any, Info]


class Source(Protocol):
    """A stream of messages that the worker processes."""

    def take(self) -> Taken | None:
        """Return the waiting message, if one waits."""


AnySource = TypeVar("AnySource", bound=Source)


class Worker(CallbackGroup, Generic[AnySource]):
    """Process one message at a time next to the executor, each source in its turn.

    While it works, the group is shut: the executor does not take its subscriptions' messages, so
    they stay in the middleware, where a depth of 1 keeps the newest. Everything else (services,
    timers, /clock) goes on. rclpy's MultiThreadedExecutor does the same with a loop heavy enough to
    starve the work of Python's lock: 16 images of 101 came through, against 100 this way.

    A callback only wakes an idle worker. While messages wait, the worker itself takes the next,
    from the source that was served longest ago: the executor would always prefer the first.
    """

    def __init__(self, node: Node, process: Callable[[AnySource, Any, Info], None]) -> None:
        """Hand every message to `process`, which handles its own errors."""
        super().__init__()
        self._node, self._process = node, process
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self._job: Future[None] | None = None
        self._thread: Thread | None = None  # of the jobs
        self._lock = Lock()
        self._is_busy = False
        self._sources: list[AnySource] = []  # the one served longest ago first
        self._waiting: list[AnySource] = []  # whose message is being processed and waits

    def open(self, sources: Sequence[AnySource]) -> None:
        """Serve these sources from now on."""
        self._sources = list(sources)

    def close(self) -> None:
        """Serve nothing more, and return when the running job has ended, or is the caller."""
        with self._lock:
            self._sources = []
        if self._job is not None and self._thread is not current_thread():
            self._job.result()

    def serve(self, source: AnySource, message: Any, info: Info) -> None:
        """Process a message that the executor took, then those that wait."""
        with self._lock:
            self._is_busy = True
            self._job = self._pool.submit(self._serve, (source, (message, info)))

    def notify(self, source: AnySource) -> None:
        """Process what waits of a source, if anything does; a busy worker looks before it rests."""
        with self._lock:
            taken = None if self._is_busy or source not in self._sources else source.take()
            if taken is not None:
                self._is_busy = True
                self._job = self._pool.submit(self._serve, (source, taken))

    def serve_until(self, ready: "Future[Any]", waiting: AnySource) -> None:
        """Process messages of other sources until `ready` is done.

        Called while a message of `waiting` is processed, which needs what `ready` gives.
        """
        self._waiting.append(waiting)
        while not ready.done():
            taken = self._next_other()
            if taken is None:
                wait([ready], POLL_S)
            else:
                source, (message, info) = taken
                self._process(source, message, info)
        self._waiting.remove(waiting)

    def submit(self, job: Callable[[], None]) -> None:
        """Start a job, which handles its own errors."""
        with self._lock:
            self._is_busy = True
            self._job = self._pool.submit(self._run, job)

    def end(self) -> None:
        """Wait for the running job and end the thread."""
        with self._lock:
            self._sources = []
        self._pool.shutdown()

    def can_execute(self, entity: Any) -> bool:
        return not self._is_busy

    def beginning_execution(self, entity: Any) -> bool:
        return not self._is_busy

    def ending_execution(self, entity: Any) -> None:
        pass

    def _run(self, job: Callable[[], None]) -> None:
        self._thread = current_thread()
        try:
            job()
        finally:
            self._serve(self._next())

    def _serve(self, waiting: tuple[AnySource, Taken] | None) -> None:
        try:
            while waiting is not None:
                source, (message, info) = waiting
                self._process(source, message, info)
                waiting = self._next(source)
        finally:
            if waiting is not None:  # an error that was not handled
                self._is_busy = False
            if self._node.executor is not None:
                self._node.executor.wake()

    def _next(self, served: AnySource | None = None) -> tuple[AnySource, Taken] | None:
        """Return the waiting message of the source served longest ago; rest where none waits."""
        with self._lock:
            if served is not None:
                self._move_back(served)
            taken = _take(self._sources)
            self._is_busy = taken is not None
            return taken

    def _next_other(self) -> tuple[AnySource, Taken] | None:
        """Return the waiting message of the first source that does not wait itself."""
        with self._lock:
            taken = _take([source for source in self._sources if source not in self._waiting])
            if taken is not None:
                self._move_back(taken[0])
            return taken

    def _move_back(self, served: AnySource) -> None:
        if served in self._sources:
            self._sources.remove(served)
            self._sources.append(served)


def _take(sources: Sequence[AnySource]) -> tuple[AnySource, Taken] | None:
    for source in sources:
        taken = source.take()
        if taken is not None:
            return source, taken
    return None
