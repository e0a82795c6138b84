"""seg-perception predict: what a network sees in images, videos and cameras."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.cli.arguments import Commands, add_model
from seg_perception.errors import UsageError

if TYPE_CHECKING:
    from seg_perception.predict import Predicted


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("predict", help="label images, videos and cameras")
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="SOURCE",
        help="images, folders of images, videos, /dev/videoN until Ctrl-C",
    )  # fmt: skip
    add_model(parser)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="OUT",
        help="folder: OUT/NAME.jpg overlays, a video of them OUT/NAME.mp4 (default: a contact "
        "sheet in a temporary folder)",
    )  # fmt: skip
    parser.add_argument(
        "--masks", action="store_true", help="write OUT/NAME.png too: ids, 255 unknown"
    )
    parser.add_argument(
        "--color", action="store_true", help="masks with a palette of the classes' colours"
    )
    parser.add_argument(
        "--json", action="store_true", help="one line of JSON for each image, in place of the table"
    )
    parser.set_defaults(command=run, extra="evaluate")


def run(options: argparse.Namespace) -> int:
    """Label everything, print the shares of the classes, and return the exit status."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    from seg_perception.interrupts import until_interrupted
    from seg_perception.predict import ContactSheet, Outputs, predict
    from seg_perception.segmenter import Segmenter

    if options.out is None and (options.masks or options.color):
        raise UsageError("--masks and --color go with -o OUT, the folder of the masks")
    if options.color and not options.masks:
        raise UsageError("--color is of masks; give --masks with it")
    sheet, table = ContactSheet(), _Table()
    unreadable: list[str] = []
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn())
    with (
        Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as progress,
        until_interrupted() as interrupted,
    ):
        task = progress.add_task("labelling", total=None)

        def show(predicted: "Predicted", overlay: Any) -> None:
            progress.advance(task)
            if options.json:
                print(json.dumps(predicted._asdict()), flush=True)
            table.add(predicted)
            sheet.add(overlay)

        outputs = Outputs(options.out, options.masks, options.color, show, unreadable.append)
        damage = predict(
            Segmenter.load(options.model, input_size=options.input_size),
            options.sources,
            outputs,
            is_over=interrupted.is_set,
        )
    if not options.json:
        table.print()
        written = options.out if options.out is not None else sheet.write()
        if written is not None and table.images:
            print(f"open {written}")
    for problem in [*unreadable, *damage]:
        print(f"seg-perception: {problem}", file=sys.stderr)
    return 1 if unreadable or damage or not table.images else 0


class _Table:
    """The share of each class over all images, and in how many of them it is."""

    def __init__(self) -> None:
        self.images = 0
        self._shares: Counter[str] = Counter()
        self._holding: Counter[str] = Counter()

    def add(self, predicted: "Predicted") -> None:
        self.images += 1
        self._shares.update(predicted.shares)
        self._holding.update(predicted.shares.keys())

    def print(self) -> None:
        from rich.console import Console
        from rich.table import Table

        if not self.images:
            return
        table = Table("class", "share", "images")
        for name, total in self._shares.most_common():
            table.add_row(name, f"{100 * total / self.images:.1f} %", str(self._holding[name]))
        Console().print(table)
