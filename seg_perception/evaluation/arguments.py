"""Options of the command line; free to import."""

import argparse
from pathlib import Path


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the options of seg-perception evaluate."""
    parser.add_argument("--model", action="append", required=True, help="a model file or name")
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--bag", type=Path, help="a bag of ROS 2 or ROS 1")
    pictures.add_argument("--images", type=Path, metavar="DIR", help="a folder of pictures")
    pictures.add_argument("--video", type=Path, metavar="FILE")
    parser.add_argument("--image-topic", help="pictures, where the bag has several topics")
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        "--labels", metavar="DIR|TOPIC", help="truth: PNGs named as the pictures, or a bag's topic"
    )
    truth.add_argument("--teacher", metavar="MODEL", help="agree with this network instead")
    parser.add_argument(
        "--void", type=ids, metavar="IDS", help="ids of the truth to ignore, as in 11,255"
    )
    parser.add_argument(
        "--stamps", type=Path, metavar="RESULT.mcap", help="count what was answered there alone"
    )
    parser.add_argument(
        "--require", action="append", default=[], metavar="'miou>=0.6'",
        help="exit with 1 where a value of report.json is otherwise; may be repeated",
    )  # fmt: skip
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--threads", type=whole_number, default=1, help="of the network")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reports")


def ids(text: str) -> tuple[int, ...]:
    """Return ids 0..255 that commas part, or the error that argparse shows."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= 255 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no ids from 0 to 255; write them as 11,255")
    return tuple(map(int, parts))


def whole_number(text: str) -> int:
    """Return a number of at least 1, or the error that argparse shows."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
