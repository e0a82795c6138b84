"""Options of the command line; free to import."""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

from seg_perception.evaluation.measures import MEASURES

# Where a camera is on its robot, besides its height.
MOUNT = {
    "x": "metres forward of the base",
    "y": "metres to its left",
    "roll": "radians around the forward axis",
    "pitch": "radians, positive looks down",
    "yaw": "radians, positive looks to the left",
}


class Mount(NamedTuple):
    """Where a camera is on its robot: metres and radians, as the occupancy_node's parameters."""

    x: float
    y: float
    z: float
    roll: float
    pitch: float
    yaw: float
    rectified: bool


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the options of seg-perception evaluate."""
    parser.add_argument(
        "--model", action="append", required=True, metavar="MODEL[,KEY=VALUE...]",
        help="a model file or name; several are compared with the first. Keys: provider, threads, "
        "precision, mode, min_confidence",
    )  # fmt: skip
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument(
        "--bag", type=Path, action="append", help="of ROS 2 or ROS 1; may be repeated"
    )
    pictures.add_argument("--images", type=Path, metavar="DIR", help="a folder of pictures")
    pictures.add_argument("--video", type=Path, metavar="FILE", help="a film")
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
        "--measure", action="append", default=[], choices=MEASURES,
        help="count this too, may be repeated: "
        + "; ".join(f"{name}: {text}" for name, text in MEASURES.items()),
    )  # fmt: skip
    add_mount(parser, required=False)
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
    fleet = parser.add_mutually_exclusive_group()
    fleet.add_argument("--workers", type=whole_number, metavar="N", help="processes to count with")
    fleet.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster to count with")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reports")


def add_mount(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add where a camera is on its robot."""
    parser.add_argument(
        "--camera-z", type=float, required=required, help="metres above the ground, for maps"
    )
    for name, text in MOUNT.items():
        parser.add_argument(f"--camera-{name}", type=float, default=0.0, help=text)
    parser.add_argument("--rectified", action="store_true", help="the pictures are rectified")


def mount(options: argparse.Namespace) -> Mount:
    """Return what the options of `add_mount` say; the height must have been given."""
    places = {name: getattr(options, f"camera_{name}") for name in ("z", *MOUNT)}
    return Mount(**places, rectified=options.rectified)


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


def positive(text: str) -> float:
    """Return a number above 0, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value
