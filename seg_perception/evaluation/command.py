"""What seg-perception evaluate does with its options."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from seg_perception.errors import UsageError
from seg_perception.evaluation.arguments import mount
from seg_perception.evaluation.evaluate import evaluate
from seg_perception.evaluation.fleet import Fleet
from seg_perception.evaluation.networks import Live, Network
from seg_perception.evaluation.plan import Pictures, Plan
from seg_perception.evaluation.report import Report
from seg_perception.evaluation.require import Requirement
from seg_perception.evaluation.results import Outcome
from seg_perception.evaluation.settings import ModelSetting

INTERRUPTED = 130  # as shells say of a command that was interrupted


def run(options: argparse.Namespace) -> int:
    """Evaluate, print a table and the verdicts, and return the exit status."""
    requirements = [Requirement.parse(text) for text in options.require]
    _check(options)
    plan = _plan(options)
    fleet = None
    if options.workers or options.scheduler:
        fleet = Fleet(options.workers or 0, options.scheduler)
    with ExitStack() as nodes:

        def live() -> list[Network]:
            """Play the bag for one model after the other."""
            folders = [options.out] if len(plan.models) == 1 else _numbered(options.out, plan)
            played: list[Network] = []
            for setting, folder in zip(plan.models, folders, strict=True):
                network = Live(setting, plan.pictures[0], folder, rate=options.rate or 1)
                played.append(nodes.enter_context(network))
                if "interrupted" in network.measured and len(plan.models) > 1:
                    raise KeyboardInterrupt  # nothing to compare with
            return played

        outcome = evaluate(
            plan,
            options.out,
            requirements=requirements,
            networks=live if options.live else None,
            fleet=fleet,
            resume=options.resume,
        )
    _print(outcome)
    print(f"open {options.out / 'report.html'}")
    report = outcome.reports[0]
    if report.interrupted:
        rest = "play the bag again" if options.live else "go on with the same command and --resume"
        print(f"interrupted: the numbers are of the pictures up to then; {rest}", file=sys.stderr)
        return INTERRUPTED
    good = all(verdict["holds"] for verdict in outcome.verdicts)
    return 0 if good and not report.damage else 1


def _numbered(out: Path, plan: Plan) -> list[Path]:
    """Return a folder for what each model's nodes write."""
    return [out / f"live{at}" for at, _ in enumerate(plan.models)]


def _check(options: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if not options.bag and (options.image_topic or options.stamps):
        raise UsageError("--image-topic and --stamps go with --bag")
    if options.void and not (options.labels or options.teacher):
        raise UsageError("--void is of the truth; give --labels or --teacher with it")
    if options.live and (not options.bag or len(options.bag) > 1):
        raise UsageError("--live plays one bag; give it as --bag")
    if options.live and (options.workers or options.scheduler or options.resume):
        raise UsageError(
            "--live runs once, in real time; leave out --workers, --scheduler, --resume"
        )
    if options.rate and not options.live:
        raise UsageError("--rate is of playing; give --live with it")
    if "occupancy" in options.measure and (options.camera_z is None or not options.bag):
        raise UsageError("--measure occupancy needs a --bag with CameraInfo, and --camera-z")
    needy = [m for m in options.measure if m != "flicker"]
    if needy and not (options.labels or options.teacher):
        raise UsageError(f"--measure {needy[0]} needs truth; give --labels or --teacher")


def _plan(options: argparse.Namespace) -> Plan:
    topic = None
    if options.bag and options.labels and not Path(options.labels).is_dir():
        topic = options.labels
    if options.bag:
        pictures = [Pictures("bag", str(p), options.image_topic, topic) for p in options.bag]
    elif options.images:
        pictures = [Pictures("images", str(options.images))]
    else:
        pictures = [Pictures("video", str(options.video))]
    models = [
        ModelSetting.parse(text, provider=options.provider, threads=options.threads)
        for text in [*options.model, *([options.teacher] if options.teacher else [])]
    ]
    titles = [setting.title for setting in models[: len(options.model)]]
    if len(set(titles)) < len(titles):
        raise UsageError(f"--model {titles[-1]} is given twice; give another, or other settings")
    return Plan(
        models=tuple(models[: len(options.model)]),
        pictures=tuple(pictures),
        labels=options.labels,
        teacher=models[-1] if options.teacher else None,
        void=options.void,
        stamps=str(options.stamps) if options.stamps else None,
        measures=tuple(dict.fromkeys(options.measure)),
        mount=mount(options) if options.camera_z is not None else None,
    )


def _print(outcome: Outcome) -> None:
    Console().print(_table(outcome.reports))
    base, *others = outcome.reports
    for report, difference in zip(others, outcome.differences, strict=False):
        print(f"{report.model} against {base.model}: mean IoU {difference.miou.text() or '-'}")
    for verdict in outcome.verdicts:
        said = "holds" if verdict["holds"] else "FAILS"
        of = f" ({verdict['model']})" if len(outcome.reports) > 1 and "model" in verdict else ""
        print(f"{verdict['require']}{of}: {verdict['value']:.6g}, {said}")
    for reason, count in (base.skipped or {}).items():
        print(f"{count} pictures have no score: {reason}", file=sys.stderr)
    if base.damage:
        print(base.damage, file=sys.stderr)


def _table(reports: Sequence[Report]) -> Table:
    """Return what was measured, a column for each model."""
    columns = [_rows(report) for report in reports]
    table = Table("", *(report.model for report in reports), title=reports[0].source)
    for name in dict.fromkeys(name for rows in columns for name in rows):
        table.add_row(name, *(rows.get(name, "-") for rows in columns))
    return table


def _rows(report: Report) -> dict[str, str]:
    scores = report.scores
    rows = {"pictures in / masks out": f"{report.frames_in} / {report.frames_out}"}
    if report.rate_hz is not None:
        rows["pictures a second"] = f"{report.rate_hz:.1f}"
    if report.age_ms:
        rows["age p50 / p95 / p99"] = " / ".join(f"{v:.0f}" for v in report.age_ms.values()) + " ms"
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
    return rows | _measured(report) | {f"  {n}": f"{t:.1f} ms" for n, t in report.stage_ms.items()}


def _measured(report: Report) -> dict[str, str]:
    """Return a line for each measure, if it was counted."""
    rows = {}
    if report.boundary:
        rows["boundary IoU"] = _share(report.boundary["iou"])
    if report.calibration:
        rows["calibration error (ECE)"] = _share(report.calibration["ece"])
    if report.flicker:
        rows["labels that flicker"] = _share(report.flicker["share"])
    if report.occupancy:
        rows["map cells wrong / missed / phantom"] = " / ".join(
            _share(report.occupancy[key]) for key in ("error", "missed", "phantom")
        )
    return rows


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
