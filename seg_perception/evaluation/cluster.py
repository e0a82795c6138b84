"""Count spans of recordings on many processes: Dask distributed runs them and redoes lost ones."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from multiprocessing import resource_tracker
from secrets import token_hex
from typing import Any, NamedTuple

from seg_perception.bags.sources import Span
from seg_perception.errors import DataError
from seg_perception.evaluation.evaluator import Evaluator
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.progress import Progress
from seg_perception.metrics.metric import State

SPANS_A_WORKER = 4  # so that all end at about the same time
LOSSES = 3  # workers that may die over one span before it is taken for the cause
LOST = "the Dask scheduler was lost; start it again, and go on with --resume"
POLL_S = 0.5  # seconds between looks at Ctrl-C


class Cluster(NamedTuple):
    """Processes of this machine, or a scheduler's address such as tcp://10.0.0.5:8786."""

    workers: int = 0
    scheduler: str | None = None


class Counted(NamedTuple):
    """What a worker sends back: a state for each network, and what the source lacks."""

    states: list[State]
    damage: str


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Give a Dask client of the cluster; DataError for a scheduler that does not answer."""
    import dask
    from distributed import Client, LocalCluster

    settings = {"distributed.scheduler.allowed-failures": LOSSES}
    with dask.config.set(settings):
        if cluster.scheduler is not None:
            try:
                client = Client(cluster.scheduler, timeout="10s")
            except OSError as error:
                raise DataError(
                    f"no Dask scheduler answers at {cluster.scheduler} ({error}); start one with: "
                    "dask scheduler"
                ) from error
            with client:
                yield client
            return
        with ExitStack() as opened:
            with _sigint_blocked():
                local = LocalCluster(  # one thread each; nothing listens beyond this machine
                    n_workers=cluster.workers, threads_per_worker=1, processes=True,
                    host="127.0.0.1", dashboard_address="127.0.0.1:0",
                )  # fmt: skip
                opened.enter_context(local)
            yield opened.enter_context(Client(local))


@contextmanager
def _sigint_blocked() -> Iterator[None]:
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
    """Count what is missing of the recordings; `on_span` is told how many images came back.

    Ends early, with what was counted till then, when `is_over`. What a worker raises is raised
    here; a span whose workers die again and again raises DataError.
    """
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
            for future in finished(pending):
                progress, number = spans[future]
                counted: Counted = result(future, str(progress.spans[number] or "a recording"))
                pending.discard(future)
                progress.damage = progress.damage or counted.damage
                progress.finish(number, counted.states)
                on_span(counted.states[0]["frames_in"])
    finally:
        client.cancel(list(pending))


def count_span(plan: Plan, run: str, at: int, span: Span | None, skip: int) -> Counted:
    """Count a span of the recording `at`; runs in a worker. Each `run` has a name of its own."""
    evaluator, source = _ready(plan, run), plan.images[at].open()
    accumulators = evaluator.accumulators(at)
    evaluator.count(source, accumulators, span=span, skip=skip)
    return Counted([accumulator.state() for accumulator in accumulators], source.damage)


@lru_cache(maxsize=1)
def _ready(plan: Plan, run: str) -> Evaluator:
    """Load a plan's networks, once in a run: workers outlive it, and files change in between."""
    return Evaluator(plan)


def finished(pending: set[Any]) -> list[Any]:
    """Return the futures that ended within a short while; DataError for a lost scheduler."""
    from distributed import wait

    try:
        return list(wait(pending, timeout=POLL_S, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return []
    except CancelledError as error:
        raise DataError(LOST) from error


def result(future: Any, what: str) -> Any:
    """Return what a worker sent back, or raise what it raised; `what` it was asked for.

    DataError for a lost scheduler, and for work over which workers die again and again.
    """
    from distributed import KilledWorker

    try:
        return future.result()
    except CancelledError as error:
        raise DataError(LOST) from error
    except KilledWorker as error:
        raise DataError(
            f"{LOSSES} workers died over {what}: {error}; look for too little memory, or leave out "
            "--workers"
        ) from error
