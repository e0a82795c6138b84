"""One thread for the heavy work, and a callback group that holds messages back meanwhile."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread, current_thread
from typing import Any, Protocol

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

Taken = tuple[Any, dict[str, Any]]  # a message, and what the middleware knows of it


class Source(Protocol):
    """A stream of messages that the worker serves."""

    def take(self) -> Taken | None:
        """Return the waiting message, if one waits."""

    def handle(self, message: Any, info: dict[str, Any]) -> None:
        """Do the work of one message; errors are handled inside."""


class Worker(CallbackGroup):
    """Run one job at a time next to the executor; of several sources serve each in its turn.

    While a job runs, the group is shut: the executor does not take its subscriptions' messages, so
    they stay in the middleware, where a depth of 1 keeps the newest. Everything else (services,
    timers, /clock) goes on. rclpy's MultiThreadedExecutor does the same with a loop heavy enough to
    starve the work of Python's lock: 16 images of 101 came through, against 100 this way.

    The executor only wakes an idle worker. While messages wait, the worker itself takes the next,
    from the source that was served longest ago: the executor would always prefer the first.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self._job: Future[None] | None = None
        self._thread: Thread | None = None  # of the jobs
        self._is_busy = False
        self._sources: list[Source] = []  # the one served longest ago first

    def open(self, sources: Sequence[Source]) -> None:
        """Serve these sources from now on."""
        self._sources = list(sources)

    def close(self) -> None:
        """Serve nothing more, and return when the running job has ended, or is the caller."""
        self._sources = []
        if self._job is not None and self._thread is not current_thread():
            self._job.result()

    def serve(self, source: Source, message: Any, info: dict[str, Any]) -> None:
        """Handle a message that the executor took, then those that wait."""
        self.submit(self._serve, source, message, info)

    def submit(self, job: Callable[..., None], *arguments: Any) -> None:
        """Start a job, which handles its own errors."""
        self._is_busy = True
        self._job = self._pool.submit(self._run, job, *arguments)

    def end(self) -> None:
        """Wait for the running job and end the thread."""
        self._sources = []
        self._pool.shutdown()

    def can_execute(self, entity: Any) -> bool:
        return not self._is_busy

    def beginning_execution(self, entity: Any) -> bool:
        return not self._is_busy

    def ending_execution(self, entity: Any) -> None:
        pass

    def _run(self, job: Callable[..., None], *arguments: Any) -> None:
        self._thread = current_thread()
        try:
            job(*arguments)
        finally:
            self._is_busy = False
            if self._node.executor is not None:
                self._node.executor.wake()

    def _serve(self, source: Source, message: Any, info: dict[str, Any]) -> None:
        waiting: tuple[Source, Taken] | None = (source, (message, info))
        while waiting is not None:
            source, (message, info) = waiting
            source.handle(message, info)
            waiting = self._next(source)

    def _next(self, served: Source) -> tuple[Source, Taken] | None:
        """Return the waiting message of the source served longest ago."""
        sources = self._sources
        if served in sources:
            sources.remove(served)
            sources.append(served)
        for source in sources:
            taken = source.take()
            if taken is not None:
                return source, taken
        return None
