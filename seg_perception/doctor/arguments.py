"""Options of seg-perception doctor; free to import."""

import argparse


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the options of seg-perception doctor."""
    parser.add_argument("--json", action="store_true", help="machine-readable findings")
    parser.add_argument(
        "--topic", action="append", default=[], metavar="T",
        help="pictures to listen to, may be repeated (default: all but the nodes' own)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=seconds, default=5.0, help="how long to listen (default: 5)"
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="M",
        help="a model file to load besides the bundled ones, may be repeated",
    )  # fmt: skip
    parser.add_argument("--provider", default="cpu", help="what models are loaded with")


def seconds(text: str) -> float:
    """Return a time above 0, at most an hour, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 3600")
    return value
