"""seg-perception quantize: a model in 8 bit, and what that costs."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.cli.arguments import Commands, resolved, whole_number

if TYPE_CHECKING:
    from seg_perception.bags.sources import Source
    from seg_perception.quantization.quantize import Comparison

MAX_LOSS = 0.005  # half a point of mean IoU
IMAGES = 32


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("quantize", help="write an ONNX model in 8 bit, and its cost")
    parser.add_argument("model", help="an ONNX model file or name")
    parser.add_argument(
        "--calibrate", type=Path, metavar="BAG|DIR", required=True,
        help="images as the robot sees them; labels are not needed",
    )  # fmt: skip
    parser.add_argument("--image-topic", help="images, where the bag has several topics")
    parser.add_argument(
        "--pictures", type=whole_number, default=IMAGES,
        help=f"to calibrate on, evenly spread (default {IMAGES})",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="PNGs named as the images, to score both on"
    )
    parser.add_argument(
        "--max-loss", type=share, default=MAX_LOSS, metavar="SHARE",
        help=f"of mean IoU, above which nothing is written (default {MAX_LOSS})",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="OUT.onnx")
    parser.set_defaults(command=run, extra="export,evaluate")


def run(options: argparse.Namespace) -> int:
    """Quantise, print the comparison, and return the exit status."""
    from seg_perception.quantization.quantize import quantize

    source = _source(options.calibrate, options.image_topic)
    path = resolved(options.model)
    quantize(
        path,
        source,
        options.out,
        labels=options.labels,
        max_loss=options.max_loss,
        count=options.pictures,
        on_comparison=_print,
    )
    if source.damage:
        print(source.damage, file=sys.stderr)
    sizes = [file.stat().st_size / 1e6 for file in (path, options.out)]
    print(f"{options.out}: {sizes[1]:.1f} MB, the float file {sizes[0]:.1f} MB")
    return 0


def _source(path: Path, topic: str | None) -> "Source":
    """Open a folder that holds images, or a bag; DataError says what there is not."""
    from seg_perception.bags.bag_files import is_bag
    from seg_perception.bags.sources import BagSource, FolderSource

    return BagSource(path, topic) if is_bag(path) else FolderSource(path)


def _print(comparison: "Comparison", classes: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    share = comparison.same / comparison.labels
    print(
        f"{share:.2%} of the labels of {comparison.images} images, {comparison.calibrated} of "
        "which calibrated it, are the float model's"
    )
    if comparison.scores is None:
        print("accuracy was not measured: give --labels")
        return
    before, after = comparison.scores
    table = Table("IoU", "float", "int8", "lost")
    rows = [*zip(classes, before.iou(), after.iou(), strict=True)]
    for name, *values in [*rows, ("mean", before.miou(), after.miou())]:
        columns = (values[0], values[1], values[0] - values[1])
        table.add_row(name, *("-" if math.isnan(v) else f"{v:.4f}" for v in columns))
    Console().print(table)


def share(text: str) -> float:
    """Return a number from 0 to 1, or the error that argparse shows."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 0 to 1, as in 0.005")
    return value
