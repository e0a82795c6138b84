"""Options that several commands have, and what their texts mean; free to import."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.errors import UsageError
from seg_perception.offline.placement import Placement

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

# Where a camera is on its robot, besides its height.
MOUNT = {
    "x": "metres forward of the base",
    "y": "metres to its left",
    "roll": "radians around the forward axis",
    "pitch": "radians, positive looks down",
    "yaw": "radians, positive looks to the left",
}


def add_placement(parser: argparse.ArgumentParser) -> None:
    """Add where a camera is on its robot, for maps."""
    parser.add_argument(
        "--camera-z", type=float, metavar="M",
        help="metres above the ground (default: where the bag's tf says)",
    )  # fmt: skip
    for name, text in MOUNT.items():
        parser.add_argument(f"--camera-{name}", type=float, help=f"{text}, with --camera-z")
    parser.add_argument(
        "--base-frame", metavar="FRAME",
        help="of the robot on the ground, in the bag's tf (default: base_footprint or base_link)",
    )  # fmt: skip
    parser.add_argument(
        "--odom-frame", metavar="FRAME", help="in which it drives, in the bag's tf (default: odom)"
    )
    parser.add_argument("--rectified", action="store_true", help="the images are rectified")


def placement(options: argparse.Namespace) -> Placement:
    """Return what the options of `add_placement` say; UsageError for half a place."""
    given = {name: getattr(options, f"camera_{name}") for name in ("z", *MOUNT)}
    mount = None
    if given["z"] is not None:
        x, y, z, roll, pitch, yaw = (
            given[name] or 0.0 for name in ("x", "y", "z", "roll", "pitch", "yaw")
        )
        mount = (x, y, z, roll, pitch, yaw)
    elif any(value is not None for value in given.values()):
        name = next(name for name, value in given.items() if value is not None)
        raise UsageError(f"--camera-{name} says half of where the camera is; give --camera-z too")
    return Placement(mount, options.base_frame, options.odom_frame, options.rectified)


def ids(text: str) -> tuple[int, ...]:
    """Return ids 0..255, separated by commas, or the error that argparse shows."""
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


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add which network runs, and at which size."""
    parser.add_argument("--model", default="default", help="a model file or name")
    parser.add_argument(
        "--input-size", default="auto", metavar="auto|HEIGHTxWIDTH",
        help="size that the network runs at; auto has the images' shape where the file allows it",
    )  # fmt: skip


def size(text: str) -> tuple[int, int]:
    """Return (height, width), or the error that argparse shows."""
    height, separator, width = text.partition("x")
    if not separator or not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HEIGHTxWIDTH, as in 480x640")
    return int(height), int(width)


def resolved(path_or_name: str) -> Path:
    """Return the path of a model file or of a bundled name."""
    from seg_perception import weights

    return weights.resolve(path_or_name)
