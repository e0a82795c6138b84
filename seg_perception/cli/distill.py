"""seg-perception distill: large networks teach a light one what they know of your world."""

import argparse

from seg_perception.cli.arguments import Commands, positive, whole_number
from seg_perception.cli.train import add_training, changes


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("distill", help="teach a light network by large ones")
    parser.add_argument(
        "--teacher", action="append", required=True, metavar="MODEL[,KEY=VALUE...]",
        help="a model file or name, may be repeated. Keys: provider, threads, precision, mode",
    )  # fmt: skip
    parser.add_argument(
        "--student",
        required=True,
        metavar="ARCH|FILE",
        help="an architecture, or what to start from",
    )
    parser.add_argument(
        "--bag", action="append", metavar="BAG[,KEY=VALUE...]",
        help="a recording, may be repeated. Keys: weight, labels, topic (of the images)",
    )  # fmt: skip
    parser.add_argument(
        "--images", action="append", metavar="DIR[,KEY=VALUE...]",
        help="a folder of images, may be repeated. Keys: weight, labels",
    )  # fmt: skip
    parser.add_argument(
        "--labels", metavar="DIR|TOPIC", default="",
        help="what people labelled: PNGs named as images or stamps, or a topic",
    )  # fmt: skip
    parser.add_argument(
        "--data", action="append", metavar="DIR[,KEY=VALUE...]",
        help="labelled folders to train on as well, as of train",
    )  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="ask teachers for mirror images, too")
    parser.add_argument(
        "--frames", type=whole_number, default=2000, metavar="N",
        help="that are labelled at most, chosen to differ (default 2000)",
    )  # fmt: skip
    parser.add_argument(
        "--label-weight", type=positive, default=3.0, metavar="W",
        help="what a pixel counts that people labelled, one of a teacher at most 1 (default 3)",
    )  # fmt: skip
    cluster = parser.add_mutually_exclusive_group()
    cluster.add_argument(
        "--workers", type=whole_number, metavar="N", help="processes that label for the teachers"
    )
    cluster.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that labels")
    parser.add_argument("--int8", action="store_true", help="write OUT_int8.onnx, too")
    add_training(parser)
    parser.set_defaults(command=run, extra="train,evaluate,cluster", init=None)


def run(options: argparse.Namespace) -> int:
    """Distil, and print whether the new network is better."""
    from seg_perception.evaluation.cluster import Cluster
    from seg_perception.training.config import read_config
    from seg_perception.training.distill import DEFAULTS, Task, distill

    cluster = None
    if options.workers or options.scheduler:
        cluster = Cluster(options.workers or 0, options.scheduler)
    task = Task(
        teachers=tuple(options.teacher),
        student=options.student,
        bags=tuple(options.bag or ()),
        images=tuple(options.images or ()),
        labels=options.labels,
        flip=options.flip,
        count=options.frames,
        label_weight=options.label_weight,
        int8=options.int8,
        cluster=cluster,
    )
    given = {k: v for k, v in changes(options).items() if k != "bags"}
    config = read_config(options.config, defaults=DEFAULTS, **given)
    line = distill(task, config, dry_run=options.dry_run)
    if line:
        print(line)
    return 0
