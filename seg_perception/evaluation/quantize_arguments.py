"""Options of seg-perception quantize; free to import."""

import argparse
from pathlib import Path

from seg_perception.evaluation.arguments import whole_number

MAX_LOSS = 0.005  # half a point of mean IoU
PICTURES = 32


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """Add the options of seg-perception quantize."""
    parser.add_argument("model", help="an ONNX model file or name")
    parser.add_argument(
        "--calibrate", type=Path, metavar="BAG|DIR", required=True,
        help="pictures as the robot sees them; labels are not needed",
    )  # fmt: skip
    parser.add_argument("--image-topic", help="pictures, where the bag has several topics")
    parser.add_argument(
        "--pictures", type=whole_number, default=PICTURES,
        help=f"to calibrate on, evenly spread (default {PICTURES})",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="PNGs named as the pictures, to score both on"
    )
    parser.add_argument(
        "--max-loss", type=share, default=MAX_LOSS, metavar="SHARE",
        help=f"of mean IoU, above which nothing is written (default {MAX_LOSS})",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="OUT.onnx")


def share(text: str) -> float:
    """Return a number from 0 to 1, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 0 to 1, as in 0.005")
    return value
