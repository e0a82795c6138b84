"""seg-perception train: images and their labels in, a network out."""

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.arguments import Commands
from seg_perception.errors import SegPerceptionError


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("train", help="train a network from scratch")
    parser.add_argument("--data", required=True, help="folder with train/ and val/")
    parser.add_argument("--config", type=Path, help="YAML that overrides training.train.Config")
    parser.set_defaults(command=run, extra="train,export")


def run(options: argparse.Namespace) -> int:
    """Train, and print the scores."""
    import yaml

    from seg_perception.training.train import Config, main

    changes: dict[str, Any] = {}
    if options.config:
        changes = yaml.safe_load(options.config.read_text("utf-8")) or {}
    known = Config.__dataclass_fields__
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise SegPerceptionError(
            f"{options.config} has unknown keys {unknown}; known are {', '.join(known)}"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    for name, score in main(Config(**{**values, "data": options.data})).items():
        print(f"{name} {score:.4f}")
    return 0
