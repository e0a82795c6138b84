"""Evaluate a model on recorded pictures: every one of them, the same numbers each time."""

import resource
import signal
import sys
import threading
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg_perception.errors import DataError, ImageError, UsageError, first_line
from seg_perception.evaluation.measure import Key
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.evaluation.report import Report, write_html, write_json
from seg_perception.evaluation.require import Requirement
from seg_perception.evaluation.samples import Samples
from seg_perception.evaluation.sources import Frame, Source, ahead
from seg_perception.evaluation.truth import Labels, Truth
from seg_perception.files import check_output
from seg_perception.manifest import Manifest
from seg_perception.segmenter import Segmenter

MAX_REASONS = 20  # why pictures were skipped; what comes later is counted together
OTHERS = "other reasons"
NO_TRUTH = "no truth of its key"
COMPARED = ("miou", "miou_void_counted", "pixel_accuracy", "per_class_iou")
WRITTEN = ("report.json", "report.html")


class Prepared(NamedTuple):
    """What the decoding thread hands over: a picture and its truth, or why there is none."""

    key: Key
    image: NDArray[np.uint8] | None
    truth: Labels | None
    problem: str = ""


def evaluate(
    segmenter: Segmenter,
    source: Source,
    out: Path,
    *,
    truth: Truth | None = None,
    void_ids: Collection[int] = (255,),
    stamps: Collection[Key] | None = None,
    requirements: Sequence[Requirement] = (),
    threads: int = 1,
    console: Console | None = None,
) -> Report:
    """Segment every picture, compare it with its truth, write out/report.json and report.html.

    Pictures without truth are not segmented where there is a truth at all; with `stamps` only
    those pictures count. After Ctrl-C the report holds what was done. Raises DataError where
    nothing could be compared, and for truth that does not fit its picture or the model's classes.
    """
    _check_requirements(requirements, truth)
    for name in WRITTEN:
        check_output(out / name)  # now rather than when all is done
    for name in WRITTEN:  # what an earlier run left is not taken for this one's
        (out / name).unlink(missing_ok=True)
    run = Run(segmenter, truth, void_ids)
    with _until_interrupted() as interrupted, _progress(console) as progress:
        total = source.total if stamps is None else len(stamps)
        task = progress.add_task("evaluating", total=total)
        with closing(ahead(_prepare(source, truth, stamps))) as pictures:
            for prepared in pictures:
                run.add(prepared)
                progress.advance(task)
                if interrupted.is_set():
                    break
    if interrupted.is_set() and not run.frames_out:
        raise KeyboardInterrupt
    run.check(source, truth, stamps)
    report = run.report(source, truth, threads=threads, interrupted=interrupted.is_set())
    return _write(out, report, run, requirements)


class Run:
    """Counts what comes out, picture by picture, in memory that does not grow with them."""

    def __init__(
        self, segmenter: Segmenter, truth: Truth | None, void_ids: Collection[int]
    ) -> None:
        """Begin with nothing counted."""
        self._segmenter, self._truth = segmenter, truth
        self.space = segmenter.space
        self.matrix = ConfusionMatrix(len(segmenter.manifest.classes), void_ids)
        self.samples = Samples()
        self.frames_in = self.frames_out = self.frames_scored = 0
        self._skipped: Counter[str] = Counter()
        # Four bytes a stage and picture are all that grows; percentiles need them.
        self._times: dict[str, array[float]] = defaultdict(lambda: array("f"))
        self._started = time.perf_counter()
        self._example: Key | None = None

    def add(self, prepared: Prepared) -> None:
        """Take one picture; DataError where its truth does not fit."""
        self.frames_in += 1
        self._example = prepared.key if self._example is None else self._example
        if prepared.image is None:
            self._skip(prepared.problem)
            return
        try:
            result = self._segmenter(prepared.image, "bgr8", confidence=False)
        except ImageError as error:
            self._skip(first_line(error))
            return
        self.frames_out += 1
        for stage, milliseconds in result.timing.items():
            self._times[stage].append(milliseconds)
        if prepared.truth is not None:
            self._score(prepared.key, prepared.truth, result.labels)
        self.samples.offer(
            str(prepared.key), prepared.image, result.labels, prepared.truth, self.space
        )

    def check(self, source: Source, truth: Truth | None, stamps: Collection[Key] | None) -> None:
        """Raise DataError where no picture was segmented or none could be compared."""
        why = "; ".join(f"{count} times: {text}" for text, count in self._skipped.items())
        if stamps is not None and not self.frames_in:
            raise DataError(
                f"none of the {len(stamps)} stamps is among the pictures of {source.name}; "
                "give the bag that the recording was made from"
            )
        if truth is not None and not self.frames_scored and set(self._skipped) <= {NO_TRUTH}:
            example = f", the truth is named {truth.example}" if truth.example is not None else ""
            raise DataError(
                f"no picture of {source.name} has its truth in {truth.name}: pictures are named "
                f"{self._example}{example}; they must be the same stamps (ns) or names"
            )
        if not self.frames_out:
            raise DataError(
                f"no picture of {source.name} could be segmented: "
                f"{why or source.damage or 'there is none'}"
            )

    def report(
        self, source: Source, truth: Truth | None, *, threads: int, interrupted: bool
    ) -> Report:
        """Return the numbers."""
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        return Report(
            **(_scores(self.matrix, self._segmenter.manifest, truth) if truth else {}),
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            frames_scored=self.frames_scored if truth else None,
            dropped=self.frames_in - self.frames_out,
            skipped=dict(self._skipped),
            damage=source.damage or None,
            interrupted=interrupted or None,
            rate_hz=self.frames_out / elapsed,
            stage_ms={k: float(np.percentile(v, 50)) for k, v in self._times.items()},
            stage_p95_ms={k: float(np.percentile(v, 95)) for k, v in self._times.items()},
            peak_memory_mb=_peak_memory_mb(),
            model=self._segmenter.manifest.name,
            provider=self._segmenter.provider,
            threads=threads,
            source=source.name,
            truth=truth.name if truth else None,
        )

    def _score(self, key: Key, truth: Labels, labels: Labels) -> None:
        assert self._truth is not None
        try:
            self.matrix.add(truth, labels)
        except DataError as error:
            raise DataError(f"{self._truth.name}, of {key}: {error}") from error
        self.frames_scored += 1

    def _skip(self, reason: str) -> None:
        known = reason in self._skipped or len(self._skipped) < MAX_REASONS
        self._skipped[reason if known else OTHERS] += 1


def _prepare(
    source: Source, truth: Truth | None, stamps: Collection[Key] | None
) -> Iterator[Prepared]:
    """Decode what will be segmented; runs in a thread of its own."""
    for frame in source.frames():
        if stamps is not None and frame.key not in stamps:
            continue
        yield _prepared(frame, truth)


def _prepared(frame: Frame, truth: Truth | None) -> Prepared:
    try:
        labels = truth.of(frame) if truth else None
        if truth and labels is None:
            return Prepared(frame.key, None, None, NO_TRUTH)
        return Prepared(frame.key, frame.image, labels)
    except ImageError as error:
        return Prepared(frame.key, None, None, first_line(error))


def _scores(matrix: ConfusionMatrix, manifest: Manifest, truth: Truth) -> dict[str, Any]:
    """Return the keys of Report that compare; another network's labels are never called truth."""
    values = zip(manifest.classes, matrix.iou(), strict=True)
    scores = {
        "miou": _number(matrix.miou()),
        "miou_void_counted": _number(matrix.miou(void_counted=True)),
        "per_class_iou": {name: _number(value) for name, value in values},
    }
    accuracy = _number(matrix.pixel_accuracy())
    common = {"confusion_matrix": matrix.counts.tolist(), "void_ids": sorted(matrix.void_ids)}
    if truth.teacher is None:
        return {**scores, "pixel_accuracy": accuracy, **common}
    agreement = {**scores, "pixel_agreement": accuracy}
    return {"agreement_with": agreement, "teacher": truth.teacher, **common}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _write(out: Path, report: Report, run: Run, requirements: Sequence[Requirement]) -> Report:
    """Write the report with its verdicts; UsageError, after that, for what was not measured."""
    content = report.content()
    verdicts, missing = [], []
    for requirement in requirements:
        try:
            verdicts.append(requirement.judge(content))
        except UsageError as error:
            missing.append(str(error))
    report = replace(report, verdicts=verdicts or None)
    write_json(out / "report.json", report)
    write_html(
        out / "report.html",
        report,
        samples=run.samples.chosen(),
        confusion=run.matrix.counts if report.scores else None,
        space=run.space,
    )
    if missing:
        raise UsageError("; ".join(missing))
    return report


def _check_requirements(requirements: Sequence[Requirement], truth: Truth | None) -> None:
    """Raise UsageError, before anything is done, for a key that such a run never measures."""
    never = {"age_ms"}
    if truth is None:
        never |= {*COMPARED, "agreement_with", "frames_scored"}
    else:
        never |= {*COMPARED} if truth.teacher else {"agreement_with"}
    for requirement in requirements:
        requirement.check({field.name for field in fields(Report)} - never)


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


def _peak_memory_mb() -> float:
    """Return the most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
