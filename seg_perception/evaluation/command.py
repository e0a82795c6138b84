"""What seg-perception evaluate does with its options."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from seg_perception.errors import UsageError
from seg_perception.evaluation.evaluate import evaluate
from seg_perception.evaluation.report import Report
from seg_perception.evaluation.require import Requirement
from seg_perception.evaluation.sources import (
    BagSource,
    FolderSource,
    Source,
    VideoSource,
    answered_stamps,
)
from seg_perception.evaluation.truth import (
    FolderTruth,
    TeacherTruth,
    TopicTruth,
    Truth,
    default_void,
)
from seg_perception.segmenter import Segmenter

INTERRUPTED = 130  # as shells say of a command that was interrupted


def run(options: argparse.Namespace) -> int:
    """Evaluate, print a table and the verdicts, and return the exit status."""
    requirements = [Requirement.parse(text) for text in options.require]
    _check(options)
    topic = options.labels if options.labels and not Path(options.labels).is_dir() else None
    source = _source(options, topic)
    segmenter = Segmenter.load(options.model[0], provider=options.provider, threads=options.threads)
    report = evaluate(
        segmenter,
        source,
        options.out,
        truth=_truth(options, segmenter, topic),
        void_ids=options.void or default_void(segmenter.manifest),
        stamps=answered_stamps(options.stamps) if options.stamps else None,
        requirements=requirements,
        threads=options.threads,
    )
    _print(report)
    print(f"open {options.out / 'report.html'}")
    if report.interrupted:
        return INTERRUPTED
    good = all(verdict["holds"] for verdict in report.verdicts or ())
    return 0 if good and not report.damage else 1


def _check(options: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if len(options.model) > 1:
        raise UsageError(f"{len(options.model)} models were given; evaluate takes one at a time")
    if not options.bag and (options.image_topic or options.stamps):
        raise UsageError("--image-topic and --stamps go with --bag")
    if options.void and not (options.labels or options.teacher):
        raise UsageError("--void is of the truth; give --labels or --teacher with it")


def _source(options: argparse.Namespace, labels: str | None) -> Source:
    if options.bag:
        return BagSource(options.bag, options.image_topic, labels=labels)
    return FolderSource(options.images) if options.images else VideoSource(options.video)


def _truth(options: argparse.Namespace, segmenter: Segmenter, topic: str | None) -> Truth | None:
    if options.teacher:
        teacher = Segmenter.load(
            options.teacher, provider=options.provider, threads=options.threads
        )
        return TeacherTruth(teacher, segmenter.manifest)
    if topic and options.bag:
        return TopicTruth(topic)
    return FolderTruth(Path(options.labels), segmenter.manifest) if options.labels else None


def _print(report: Report) -> None:
    table = Table(title=f"{report.model} on {report.source}", show_header=False)
    scores = report.scores
    rows = {
        "pictures in / masks out": f"{report.frames_in} / {report.frames_out}",
        "pictures a second": f"{report.rate_hz:.1f}",
    }
    if scores:
        rows["pictures compared"] = str(report.frames_scored)
        name = f"mean IoU with {report.teacher}" if report.teacher else "mean IoU (void ignored)"
        rows[name] = _share(scores["miou"])
        name, key = (
            ("pixels that agree", "pixel_agreement")
            if report.teacher
            else ("pixel accuracy", "pixel_accuracy")
        )
        rows[name] = _share(scores[key])
        rows |= {f"  IoU {n}": _share(v) for n, v in scores["per_class_iou"].items()}
    rows |= {f"  {n}": f"{ms:.1f} ms" for n, ms in report.stage_ms.items()}
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    for verdict in report.verdicts or ():
        said = "holds" if verdict["holds"] else "FAILS"
        print(f"{verdict['require']}: {verdict['value']:.6g}, {said}")
    for reason, count in (report.skipped or {}).items():
        print(f"{count} pictures have no score: {reason}", file=sys.stderr)
    if report.damage:
        print(report.damage, file=sys.stderr)
    if report.interrupted:
        print("interrupted: the numbers are of the pictures up to then", file=sys.stderr)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
