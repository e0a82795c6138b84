"""seg-perception evaluate: scores of networks on recorded images."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.cli.arguments import (
    Commands,
    add_placement,
    ids,
    placement,
    positive,
    whole_number,
)
from seg_perception.errors import UsageError
from seg_perception.metrics.registry import METRICS, metric_class

if TYPE_CHECKING:
    from seg_perception.evaluation.plan import Plan
    from seg_perception.evaluation.predictors import Predictor
    from seg_perception.evaluation.results import Outcome

INTERRUPTED = 130  # as shells say of a command that was interrupted


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("evaluate", help="score a model on recorded images")
    parser.add_argument(
        "--model", action="append", required=True, metavar="MODEL[,KEY=VALUE...]",
        help="a model file or name; several are compared with the first. Keys: provider, threads, "
        "precision, mode, input_size, min_confidence",
    )  # fmt: skip
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--bag", type=Path, action="append", help="of ROS 2 or ROS 1; may be repeated"
    )
    images.add_argument("--images", type=Path, metavar="DIR", help="a folder of images")
    images.add_argument("--video", type=Path, metavar="FILE", help="a video")
    parser.add_argument("--image-topic", help="images, where the bag has several topics")
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        "--labels", metavar="DIR|TOPIC", help="truth: PNGs named as the images, or a bag's topic"
    )
    truth.add_argument("--teacher", metavar="MODEL", help="agree with this network instead")
    parser.add_argument(
        "--void", type=ids, metavar="IDS", help="ids of the truth to ignore, as in 11,255"
    )
    parser.add_argument(
        "--stamps", type=Path, metavar="RESULT.mcap", help="count what was answered there alone"
    )
    parser.add_argument(
        "--measure", action="append", default=[], choices=METRICS,
        help="count this too, may be repeated: "
        + "; ".join(f"{name}: {text}" for name, text in METRICS.items()),
    )  # fmt: skip
    add_placement(parser)
    parser.add_argument(
        "--live", action="store_true", help="play the bag through ROS nodes, as a robot would"
    )
    parser.add_argument(
        "--rate", type=positive, help="of the recorded speed, with --live (default: 1)"
    )
    parser.add_argument(
        "--require", action="append", default=[], metavar="'miou>=0.6'",
        help="exit with 1 where a value of report.json is otherwise; may be repeated",
    )  # fmt: skip
    parser.add_argument("--provider", default="cpu", help="where the networks run")
    parser.add_argument("--threads", type=whole_number, default=1, help="of the network")
    parser.add_argument("--resume", action="store_true", help="go on with what was interrupted")
    cluster = parser.add_mutually_exclusive_group()
    cluster.add_argument(
        "--workers", type=whole_number, metavar="N", help="processes to count with"
    )
    cluster.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster to count with")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reports")
    parser.set_defaults(command=run, extra="evaluate,cluster")


def run(options: argparse.Namespace) -> int:
    """Evaluate, print a table and the verdicts, and return the exit status."""
    from seg_perception.evaluation.cluster import Cluster
    from seg_perception.evaluation.evaluate import evaluate
    from seg_perception.evaluation.predictors import LivePredictor
    from seg_perception.evaluation.requirements import Requirement

    requirements = [Requirement.parse(text) for text in options.require]
    _check(options)
    plan = _plan(options)
    cluster = None
    if options.workers or options.scheduler:
        cluster = Cluster(options.workers or 0, options.scheduler)
    with ExitStack() as nodes:

        def live() -> "list[Predictor]":
            """Play the bag for one model after the other."""
            folders = [options.out] if len(plan.models) == 1 else _numbered(options.out, plan)
            played: list[Predictor] = []
            for setting, folder in zip(plan.models, folders, strict=True):
                network = LivePredictor(setting, plan.images[0], folder, rate=options.rate or 1)
                played.append(nodes.enter_context(network))
                if "interrupted" in network.measured and len(plan.models) > 1:
                    raise KeyboardInterrupt  # nothing to compare with
            return played

        outcome = evaluate(
            plan,
            options.out,
            requirements=requirements,
            networks=live if options.live else None,
            cluster=cluster,
            resume=options.resume,
        )
    _print(outcome)
    print(f"open {options.out / 'report.html'}")
    report = outcome.reports[0]
    if report.interrupted:
        rest = "play the bag again" if options.live else "go on with the same command and --resume"
        print(f"interrupted: the numbers are of the images up to then; {rest}", file=sys.stderr)
        return INTERRUPTED
    good = all(verdict["holds"] for verdict in outcome.verdicts)
    return 0 if good and not report.damage else 1


def _numbered(out: Path, plan: "Plan") -> list[Path]:
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
    for name in options.measure:
        if metric_class(name).needs_camera and not options.bag:
            needs = "a --bag with CameraInfo and tf, or --camera-z"
            raise UsageError(f"--measure {name} needs {needs}")
    for name in options.measure:
        if metric_class(name).needs_truth and not (options.labels or options.teacher):
            raise UsageError(f"--measure {name} needs truth; give --labels or --teacher")


def _plan(options: argparse.Namespace) -> "Plan":
    from seg_perception.evaluation.model_setting import ModelSetting
    from seg_perception.evaluation.plan import Images, Plan

    topic = None
    if options.bag and options.labels and not Path(options.labels).is_dir():
        topic = options.labels
    if options.bag:
        images = [Images("bag", str(p), options.image_topic, topic) for p in options.bag]
    elif options.images:
        images = [Images("images", str(options.images))]
    else:
        images = [Images("video", str(options.video))]
    models = [
        ModelSetting.parse(text, provider=options.provider, threads=options.threads)
        for text in [*options.model, *([options.teacher] if options.teacher else [])]
    ]
    titles = [setting.title for setting in models[: len(options.model)]]
    if len(set(titles)) < len(titles):
        raise UsageError(f"--model {titles[-1]} is given twice; give another, or other settings")
    return Plan(
        models=tuple(models[: len(options.model)]),
        images=tuple(images),
        labels=options.labels,
        teacher=models[-1] if options.teacher else None,
        void=options.void,
        stamps=str(options.stamps) if options.stamps else None,
        measures=tuple(dict.fromkeys(options.measure)),
        placement=placement(options),
    )


def _print(outcome: "Outcome") -> None:
    from rich.console import Console

    from seg_perception.reporting.terminal import table

    Console().print(table(outcome.reports))
    base, *others = outcome.reports
    for report, difference in zip(others, outcome.differences, strict=False):
        print(f"{report.model} against {base.model}: mean IoU {difference.miou.text() or '-'}")
    for verdict in outcome.verdicts:
        said = "holds" if verdict["holds"] else "FAILS"
        of = f" ({verdict['model']})" if len(outcome.reports) > 1 and "model" in verdict else ""
        print(f"{verdict['require']}{of}: {verdict['value']:.6g}, {said}")
    for reason, count in (base.skipped or {}).items():
        print(f"{count} images have no score: {reason}", file=sys.stderr)
    if base.damage:
        print(base.damage, file=sys.stderr)
