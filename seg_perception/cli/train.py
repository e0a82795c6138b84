"""seg-perception train: images and their labels in, a network out."""

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("train", help="train a network on your own images")
    parser.add_argument(
        "--data", action="append", metavar="DIR[,KEY=VALUE...]",
        help="a folder of images and label PNGs, may be repeated. Keys: weight, labels (name of "
        "the folder of PNGs), card (theirs)",
    )  # fmt: skip
    parser.add_argument(
        "--bag", action="append", metavar="BAG[,KEY=VALUE...]",
        help="a recording, may be repeated. Keys: weight, labels (a folder of STAMP.png or a "
        "topic), topic (of the images), card",
    )  # fmt: skip
    parser.add_argument(
        "--init", metavar="FILE", help="start from a checkpoint, a model file or name"
    )
    add_training(parser)
    parser.set_defaults(command=run, extra="train,evaluate")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add what train and distill have in common."""
    parser.add_argument(
        "--card", metavar="CARD.yaml", help="classes, palette, groups, void_ids, ids, map"
    )
    parser.add_argument(
        "--split", metavar="auto|drives|blocks|FILE", help="how val is held out (default: auto)"
    )
    parser.add_argument(
        "--freeze", action="append", metavar="MODULE",
        help="do not train this part, as in backbone; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--slower", action="append", metavar="MODULE=FACTOR", type=rate,
        help="learn this part at a factor of the rate, as in backbone=0.1; may be repeated",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, help="YAML that overrides training.config.Config")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, take three steps, keep nothing"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="OUT.onnx", help="the model file")


def run(options: argparse.Namespace) -> int:
    """Train, and print the scores."""
    from seg_perception.training.config import read_config
    from seg_perception.training.train import main

    config = read_config(options.config, **changes(options))
    for name, score in main(config, dry_run=options.dry_run).items():
        print(f"{name} {score:.4f}")
    return 0


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the config that the options set."""
    given = {
        "data": options.data,
        "bags": options.bag,
        "card": options.card,
        "split": options.split,
        "init": options.init,
        "freeze": options.freeze,
        "rates": dict(options.slower) if options.slower else None,
    }
    if options.out:
        given |= {"model": str(options.out), "out": str(options.out.with_suffix(".train"))}
    return {name: value for name, value in given.items() if value is not None}


def rate(text: str) -> tuple[str, float]:
    """Return a module and the factor of its learning rate; ArgumentTypeError for another text."""
    name, _, factor = text.partition("=")
    try:
        value = float(factor)
    except ValueError:
        value = 0.0
    if not name or not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no MODULE=FACTOR, as in backbone=0.1")
    return name, value
