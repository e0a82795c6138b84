"""seg-perception demo: the bundled drive through real ROS nodes."""

import argparse
from pathlib import Path

from seg_perception.cli.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("demo", help="play the bundled clip through real ROS nodes")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to write")
    parser.set_defaults(command=run, extra="ros,evaluate")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from seg_perception.demo import run_demo

    run_demo(options.out)
    return 0
