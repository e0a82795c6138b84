"""seg-perception label: a bag in, the same bag with masks next to its images out."""

import argparse
import sys
from pathlib import Path

from seg_perception.cli.arguments import Commands, add_model


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("label", help="copy a bag, with masks next to its images")
    parser.add_argument("bag", type=Path, help="rosbag2: a folder, or an mcap or db3 file")
    add_model(parser)
    parser.add_argument("--image-topic", help="images, where the bag has several topics")
    parser.add_argument("-o", "--out", type=Path, required=True, help="OUT.mcap")
    parser.set_defaults(command=run, extra="evaluate")


def run(options: argparse.Namespace) -> int:
    """Label the bag, and print what has no labels."""
    from rich.console import Console
    from rich.progress import Progress

    from seg_perception.offline.label_bag import label_bag
    from seg_perception.segmenter import Segmenter

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("labelling", total=None)
        labelled = label_bag(
            options.bag,
            Segmenter.load(options.model, input_size=options.input_size),
            options.out,
            image_topic=options.image_topic,
            on_image=lambda done, of: progress.update(task, completed=done, total=of),
        )
    print(f"{options.out}: {labelled.images} images have labels")
    for reason in labelled.reasons:
        print(f"not labelled: {reason}", file=sys.stderr)
    further = labelled.unreadable - len(labelled.reasons)
    if further:
        print(f"not labelled: {further} further images", file=sys.stderr)
    return 0
