"""Evaluate networks on recorded pictures: every one of them, the same numbers each time."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg_perception import weights
from seg_perception.errors import DataError, ModelError, UsageError
from seg_perception.evaluation import results
from seg_perception.evaluation.counting import Counting, check
from seg_perception.evaluation.fleet import SPANS_A_WORKER, Fleet, connected, count_spans
from seg_perception.evaluation.ledger import Ledger
from seg_perception.evaluation.ledger import Progress as Recording
from seg_perception.evaluation.networks import Network
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.require import Requirement
from seg_perception.evaluation.results import Outcome
from seg_perception.evaluation.sources import Source
from seg_perception.evaluation.tally import Tally
from seg_perception.files import check_output


class Run(NamedTuple):
    """What one evaluation works with."""

    counting: Counting
    sources: list[Source]
    ledger: Ledger


def evaluate(
    plan: Plan,
    out: Path,
    *,
    requirements: Sequence[Requirement] = (),
    networks: Callable[[], Sequence[Network]] | None = None,
    fleet: Fleet | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Segment every picture, compare it with its truth, write out/report.json and report.html.

    Pictures without truth are not segmented where there is a truth and no measure that does
    without. After Ctrl-C the report holds what was done, and `resume` goes on from there.
    What `networks` returns answers in place of the plan's models; a `fleet` counts in other
    processes. Raises DataError where nothing could be compared, and for truth that does not fit its
    picture or the classes, UsageError for requirements that such a run never measures, or, when
    all else is done, has not measured.
    """
    results.check_requirements(requirements, plan, is_live=networks is not None)
    for name in results.WRITTEN:
        check_output(out / name)  # now rather than when all is done
    for name in results.WRITTEN:  # what an earlier run left is not taken for this one's
        (out / name).unlink(missing_ok=True)
    run = _prepare(plan, out, networks() if networks else None, fleet, resume=resume)
    with _until_interrupted() as interrupted:
        try:
            _count(run, fleet, interrupted.is_set, console)
        except BaseException:
            with suppress(ModelError):  # what went wrong first is what is told
                run.ledger.save(at_once=True)
            raise
    totals = _totals(run)
    if interrupted.is_set():
        run.ledger.save(at_once=True)
        if not totals[0].frames_out:
            raise KeyboardInterrupt
    else:
        _check(run)
    outcome = results.write(
        out,
        run.counting,
        totals,
        run.ledger.recordings,
        requirements,
        seconds=run.ledger.seconds,
        interrupted=interrupted.is_set(),
    )
    if not interrupted.is_set():
        run.ledger.remove()  # and not before its counts are in the reports
        if outcome.missing:
            raise UsageError("; ".join(outcome.missing))
    return outcome


def _prepare(
    plan: Plan,
    out: Path,
    networks: Sequence[Network] | None,
    fleet: Fleet | None,
    *,
    resume: bool,
) -> Run:
    """Open everything, and find what an earlier run has counted."""
    counting = Counting(plan, networks)
    sources = [pictures.open() for pictures in plan.pictures]
    cuts = max(fleet.workers, 1) * SPANS_A_WORKER if fleet else 1
    recordings = [
        Recording(source.spans(cuts), counting.tallies(at)) for at, source in enumerate(sources)
    ]
    described = {**_described(counting), "source of labels": "live nodes" if networks else "models"}
    ledger = Ledger(out, described, recordings)
    if resume:
        ledger.resume()
    return Run(counting, sources, ledger)


def _count(
    run: Run, fleet: Fleet | None, is_over: Callable[[], bool], console: Console | None
) -> None:
    """Count what is missing, in this process or by the fleet."""
    stamps, ledger = run.counting.stamps, run.ledger
    known = [source.total for source in run.sources] if stamps is None else [len(stamps)]
    with _progress(console) as progress:
        task = progress.add_task(
            "evaluating",
            total=None if None in known else sum(n for n in known if n),
            completed=sum(t.frames_in for t in _totals(run)[:1]),
        )

        def advance(pictures: int = 1) -> None:
            progress.advance(task, pictures)
            ledger.save()

        if fleet is not None:
            with connected(fleet) as client:
                count_spans(
                    client,
                    run.counting.plan,
                    ledger.recordings,
                    on_span=advance,
                    is_over=is_over,
                )
            return
        for source, recording in zip(run.sources, ledger.recordings, strict=True):
            _count_here(run.counting, source, recording, advance, is_over)


def _count_here(
    counting: Counting,
    source: Source,
    recording: Recording,
    advance: Callable[[], None],
    is_over: Callable[[], bool],
) -> None:
    """Count the missing spans of one recording in this process."""

    def note() -> None:
        recording.note()
        advance()

    for at in recording.missing():
        if is_over():
            return
        counting.count(
            source,
            recording.tallies,
            span=recording.spans[at],
            skip=recording.skip(at),
            on_picture=note,
            is_over=is_over,
        )
        recording.damage = recording.damage or source.damage
        if not is_over():
            recording.finish(at)


def _check(run: Run) -> None:
    """Raise DataError where no recording could be compared; of a few it is said as damage."""
    problems = {}
    for at, (source, recording) in enumerate(zip(run.sources, run.ledger.recordings, strict=True)):
        try:
            check(recording, source.name, run.counting.truth, run.counting.stamps)
        except DataError as error:
            problems[at] = str(error)
    if len(problems) == len(run.sources):
        raise DataError("; ".join(problems.values()))
    for at, problem in problems.items():
        run.ledger.recordings[at].damage = problem


def _totals(run: Run) -> list[Tally]:
    """Return the tallies of all recordings together, one for each network."""
    totals = run.counting.tallies()
    for recording in run.ledger.recordings:
        later = [recording.waiting[at] for at in sorted(recording.waiting)]
        for states in ([t.state() for t in recording.tallies], *later):
            for total, state in zip(totals, states, strict=True):
                total.merge(state)
    return totals


def _described(counting: Counting) -> dict[str, str]:
    """Return what must be the same for an interrupted run to go on, each under its name."""
    plan = counting.plan
    settings = [*plan.models, *([plan.teacher] if plan.teacher else [])]
    files = {
        "pictures": [
            f"{_stamped(Path(p.path))} {p.topic or ''} {p.labels or ''}" for p in plan.pictures
        ],
        "weights": [_stamped(weights.resolve(setting.model)) for setting in settings],
    }
    return {name: str(value) for name, value in {**asdict(plan), **files}.items()}


def _stamped(path: Path) -> str:
    """Return a file or folder and when it was last changed."""
    return f"{path} of {path.stat().st_mtime_ns}"


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C sets; the second interrupts as always."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals reach the main thread alone
        return

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _progress(console: Console | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=console or Console(stderr=True))
