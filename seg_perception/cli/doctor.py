"""seg-perception doctor: what keeps the nodes from their work."""

import argparse
import os
from pathlib import Path

from seg_perception.cli.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("doctor", help="find what keeps the nodes from their work")
    parser.add_argument("--json", action="store_true", help="machine-readable findings")
    parser.add_argument(
        "--topic", action="append", default=[], metavar="T",
        help="images to listen to, may be repeated (default: all but the nodes' own)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=seconds, default=5.0, help="how long to listen (default: 5)"
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="M",
        help="a model file to load besides the bundled ones, may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--nav2", nargs="*", metavar="NODE",
        help="judge Nav2's parameters and topics instead (default: both of its costmaps and the "
        "collision monitor)",
    )  # fmt: skip
    parser.add_argument(
        "--yaml", type=Path, metavar="FILE", help="a parameters file of Nav2, without a robot"
    )
    parser.add_argument("--provider", default="cpu", help="what models are loaded with")
    parser.set_defaults(command=run, extra="")


def run(options: argparse.Namespace) -> int:
    """Print every finding; 0 when none is an error, 1 otherwise."""
    from seg_perception.doctor.as_json import to_json
    from seg_perception.doctor.examine import examine
    from seg_perception.doctor.printing import print_findings

    findings = list(examine(options))
    print(to_json(findings, os.environ)) if options.json else print_findings(findings)
    return int(any(f.level == "error" for f in findings))


def seconds(text: str) -> float:
    """Return a time above 0, at most an hour, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 3600")
    return value
