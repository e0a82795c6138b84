"""Evaluate networks on recorded images: every one of them, the same numbers each time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg_perception import weights
from seg_perception.bags.sources import Source
from seg_perception.errors import DataError, ModelError, UsageError
from seg_perception.evaluation import results
from seg_perception.evaluation.accumulator import Accumulator
from seg_perception.evaluation.cluster import SPANS_A_WORKER, Cluster, connected, count_spans
from seg_perception.evaluation.evaluator import Evaluator, check
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.predictors import Predictor
from seg_perception.evaluation.progress import Progress as Recording
from seg_perception.evaluation.progress import SavedProgress
from seg_perception.evaluation.requirements import Requirement
from seg_perception.evaluation.results import Outcome
from seg_perception.files import check_output
from seg_perception.interrupts import until_interrupted


class Run(NamedTuple):
    """What one evaluation works with."""

    evaluator: Evaluator
    sources: list[Source]
    saved_progress: SavedProgress


def evaluate(
    plan: Plan,
    out: Path,
    *,
    requirements: Sequence[Requirement] = (),
    networks: Callable[[], Sequence[Predictor]] | None = None,
    cluster: Cluster | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Segment every image, compare it with its truth, write out/report.json and report.html.

    Images without truth are not segmented where there is a truth and no measure that does
    without. After Ctrl-C the report holds what was done, and `resume` goes on from there.
    What `networks` returns answers in place of the plan's models; a `cluster` counts in other
    processes. Raises DataError where nothing could be compared, and for truth that does not fit its
    image or the classes, UsageError for requirements that such a run never measures, or, when
    all else is done, has not measured.
    """
    results.check_requirements(requirements, plan, is_live=networks is not None)
    for name in results.WRITTEN:
        check_output(out / name)  # now rather than when all is done
    for name in results.WRITTEN:  # what an earlier run left is not taken for this one's
        (out / name).unlink(missing_ok=True)
    run = _prepare(plan, out, networks() if networks else None, cluster, resume=resume)
    with until_interrupted() as interrupted:
        try:
            _count(run, cluster, interrupted.is_set, console)
        except BaseException:
            with suppress(ModelError):  # what went wrong first is what is told
                run.saved_progress.save(at_once=True)
            raise
    totals = _totals(run)
    if interrupted.is_set():
        run.saved_progress.save(at_once=True)
        if not totals[0].frames_out:
            raise KeyboardInterrupt
    else:
        _check(run)
    outcome = results.write(
        out,
        run.evaluator,
        totals,
        run.saved_progress.recordings,
        requirements,
        seconds=run.saved_progress.seconds,
        interrupted=interrupted.is_set(),
    )
    if not interrupted.is_set():
        run.saved_progress.remove()  # and not before its counts are in the reports
        if outcome.missing:
            raise UsageError("; ".join(outcome.missing))
    return outcome


def _prepare(
    plan: Plan,
    out: Path,
    networks: Sequence[Predictor] | None,
    cluster: Cluster | None,
    *,
    resume: bool,
) -> Run:
    """Open everything, and find what an earlier run has counted."""
    evaluator = Evaluator(plan, networks)
    sources = [images.open() for images in plan.images]
    cuts = max(cluster.workers, 1) * SPANS_A_WORKER if cluster else 1
    recordings = [
        Recording(source.spans(cuts), evaluator.accumulators(at))
        for at, source in enumerate(sources)
    ]
    described = {
        **_described(evaluator),
        "source of labels": "live nodes" if networks else "models",
    }
    saved_progress = SavedProgress(out, described, recordings)
    if resume:
        saved_progress.resume()
    return Run(evaluator, sources, saved_progress)


def _count(
    run: Run, cluster: Cluster | None, is_over: Callable[[], bool], console: Console | None
) -> None:
    """Count what is missing, in this process or by the cluster."""
    stamps, saved_progress = run.evaluator.stamps, run.saved_progress
    known = [source.total for source in run.sources] if stamps is None else [len(stamps)]
    with _progress(console) as progress:
        task = progress.add_task(
            "evaluating",
            total=None if None in known else sum(n for n in known if n),
            completed=sum(t.frames_in for t in _totals(run)[:1]),
        )

        def advance(images: int = 1) -> None:
            progress.advance(task, images)
            saved_progress.save()

        if cluster is not None:
            with connected(cluster) as client:
                count_spans(
                    client,
                    run.evaluator.plan,
                    saved_progress.recordings,
                    on_span=advance,
                    is_over=is_over,
                )
            return
        for source, recording in zip(run.sources, saved_progress.recordings, strict=True):
            _count_here(run.evaluator, source, recording, advance, is_over)


def _count_here(
    evaluator: Evaluator,
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
        evaluator.count(
            source,
            recording.accumulators,
            span=recording.spans[at],
            skip=recording.skip(at),
            on_image=note,
            is_over=is_over,
        )
        recording.damage = recording.damage or source.damage
        if not is_over():
            recording.finish(at)


def _check(run: Run) -> None:
    """Raise DataError where no recording could be compared; of a few it is said as damage."""
    problems = {}
    for at, (source, recording) in enumerate(
        zip(run.sources, run.saved_progress.recordings, strict=True)
    ):
        try:
            check(recording, source.name, run.evaluator.truth, run.evaluator.stamps)
        except DataError as error:
            problems[at] = str(error)
    if len(problems) == len(run.sources):
        raise DataError("; ".join(problems.values()))
    for at, problem in problems.items():
        run.saved_progress.recordings[at].damage = problem


def _totals(run: Run) -> list[Accumulator]:
    """Return the accumulators of all recordings together, one for each network."""
    totals = run.evaluator.accumulators()
    for recording in run.saved_progress.recordings:
        later = [recording.waiting[at] for at in sorted(recording.waiting)]
        for states in ([t.state() for t in recording.accumulators], *later):
            for total, state in zip(totals, states, strict=True):
                total.merge(state)
    return totals


def _described(evaluator: Evaluator) -> dict[str, str]:
    """Return what must be the same for an interrupted run to go on, each under its name."""
    plan = evaluator.plan
    settings = [*plan.models, *([plan.teacher] if plan.teacher else [])]
    files = {
        "images": [
            f"{_stamped(Path(p.path))} {p.topic or ''} {p.labels or ''}" for p in plan.images
        ],
        "weights": [_stamped(weights.resolve(setting.model)) for setting in settings],
    }
    return {name: str(value) for name, value in {**asdict(plan), **files}.items()}


def _stamped(path: Path) -> str:
    """Return a file or folder and when it was last changed."""
    return f"{path} of {path.stat().st_mtime_ns}"


def _progress(console: Console | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=console or Console(stderr=True))
