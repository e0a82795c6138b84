"""seg-perception verify: whether a model file is whole, and equals its checkpoint."""

import argparse
from pathlib import Path

from seg_perception.cli.arguments import Commands, resolved


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("verify", help="check a model file, and against its checkpoint")
    parser.add_argument("model", help="a model file or name")
    parser.add_argument("--against", type=Path, metavar="CKPT", help="the checkpoint it is of")
    parser.add_argument("--ema", action="store_true", help="compare with its moving averages")
    parser.set_defaults(command=run, extra="evaluate,export,train")


def run(options: argparse.Namespace) -> int:
    """Check, print the verdict, and return the exit status."""
    from seg_perception.checkpoints.verify import verify

    verdict = verify(resolved(options.model), against=options.against, ema=options.ema)
    print("\n".join(verdict.lines))
    return 0 if verdict.is_good else 1
