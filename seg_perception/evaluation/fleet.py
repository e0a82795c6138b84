"""Count spans of recordings on many processes: Dask distributed runs them and redoes lost ones."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from multiprocessing import resource_tracker
from secrets import token_hex
from typing import Any, NamedTuple

from seg_perception.errors import DataError
from seg_perception.evaluation.counting import Counting
from seg_perception.evaluation.ledger import Progress
from seg_perception.evaluation.measure import State
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.sources import Span

SPANS_A_WORKER = 4  # so that all end at about the same time
LOSSES = 3  # workers that may die over one span before it is taken for the cause
LOST = "the Dask scheduler was lost; start it again, and go on with --resume"
POLL = 0.5  # seconds between looks at Ctrl-C


class Fleet(NamedTuple):
    """Processes of this machine, or a scheduler's address such as tcp://10.0.0.5:8786."""

    workers: int = 0
    scheduler: str | None = None


class Counted(NamedTuple):
    """What a worker sends back: a state for each network, and what the source lacks."""

    states: list[State]
    damage: str


@contextmanager
def connected(fleet: Fleet) -> Iterator[Any]:
    """Give a Dask client of the fleet; DataError for a scheduler that does not answer."""
    import dask
    from distributed import Client, LocalCluster

    settings = {"distributed.scheduler.allowed-failures": LOSSES}
    with dask.config.set(settings):
        if fleet.scheduler is not None:
            try:
                client = Client(fleet.scheduler, timeout="10s")
            except OSError as error:
                raise DataError(
                    f"no Dask scheduler answers at {fleet.scheduler} ({error}); start one with: "
                    "dask scheduler"
                ) from error
            with client:
                yield client
            return
        with ExitStack() as opened:
            with _deaf_to_interrupts():
                cluster = LocalCluster(  # one thread each; nothing listens beyond this machine
                    n_workers=fleet.workers, threads_per_worker=1, processes=True,
                    host="127.0.0.1", dashboard_address="127.0.0.1:0",
                )  # fmt: skip
                opened.enter_context(cluster)
            yield opened.enter_context(Client(cluster))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from the processes and threads that begin in the block, and from their children.

    A shell sends it to them, too, and workers would fail of it; here it is heard after the block.
    """
    resource_tracker.ensure_running()  # which would undo this when it starts later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def count_spans(
    client: Any,
    plan: Plan,
    recordings: Sequence[Progress],
    *,
    on_span: Callable[[int], None],
    is_over: Callable[[], bool],
) -> None:
    """Count what is missing of the recordings; `on_span` is told how many pictures came back.

    Ends early, with what was counted till then, when `is_over`. What a worker raises is raised
    here; a span whose workers die again and again raises DataError.
    """
    from distributed import wait

    run = token_hex(8)
    spans = {
        client.submit(
            count_span, plan, run, at, progress.spans[number], progress.skip(number), pure=False
        ): (progress, number)
        for at, progress in enumerate(recordings)
        for number in progress.missing()
    }
    pending = set(spans)
    try:
        while pending and not is_over():
            for future in _finished(pending, wait):
                progress, number = spans[future]
                counted = _result(future, progress.spans[number])
                pending.discard(future)
                progress.damage = progress.damage or counted.damage
                progress.finish(number, counted.states)
                on_span(counted.states[0]["frames_in"])
    finally:
        client.cancel(list(pending))


def count_span(plan: Plan, run: str, at: int, span: Span | None, skip: int) -> Counted:
    """Count a span of the recording `at`; runs in a worker. Each `run` has a name of its own."""
    counting, source = _ready(plan, run), plan.pictures[at].open()
    tallies = counting.tallies(at)
    counting.count(source, tallies, span=span, skip=skip)
    return Counted([tally.state() for tally in tallies], source.damage)


@lru_cache(maxsize=1)
def _ready(plan: Plan, run: str) -> Counting:
    """Load a plan's networks, once in a run: workers outlive it, and files change in between."""
    return Counting(plan)


def _finished(pending: set[Any], wait: Callable[..., Any]) -> list[Any]:
    try:
        return list(wait(pending, timeout=POLL, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return []
    except CancelledError as error:
        raise DataError(LOST) from error


def _result(future: Any, span: Span | None) -> Counted:
    from distributed import KilledWorker

    try:
        counted: Counted = future.result()
    except CancelledError as error:
        raise DataError(LOST) from error
    except KilledWorker as error:
        raise DataError(
            f"{LOSSES} workers died while they counted {span or 'a recording'}: {error}; look for "
            "too little memory, or count without --workers"
        ) from error
    return counted
