"""seg-perception map: the map from above that a bag's images give."""

import argparse
import sys
from pathlib import Path

from seg_perception.cli.arguments import Commands, add_model, add_placement, placement


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("map", help="draw the map from above that a bag's images give")
    parser.add_argument("bag", type=Path, help="rosbag2: a folder, or an mcap or db3 file")
    add_model(parser)
    parser.add_argument("--image-topic", help="images, where the bag has several topics")
    add_placement(parser)
    parser.add_argument("--resolution", type=float, default=0.1, help="metres a cell")
    parser.add_argument("--width", type=float, default=20.0, help="metres along the map")
    parser.add_argument("--height", type=float, default=20.0, help="metres across the map")
    parser.add_argument("--half-life", type=float, default=2.0, help="seconds")
    parser.add_argument(
        "--nav2", type=Path, metavar="PARAMS.yaml",
        help="draw what Nav2's local costmap with these parameters would hold, too",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for map.mp4, map.png")
    parser.set_defaults(command=run, extra="evaluate")


def run(options: argparse.Namespace) -> int:
    """Map the bag, and print what was used and what is missing."""
    from seg_perception.nav2.costmap import Costmap
    from seg_perception.occupancy.settings import Settings
    from seg_perception.offline.map_bag import map_bag
    from seg_perception.segmenter import Segmenter

    costmap = Costmap.read(options.nav2) if options.nav2 is not None else None
    mapped = map_bag(
        options.bag,
        Segmenter.load(options.model, input_size=options.input_size),
        placement(options),
        options.out,
        settings=Settings(
            resolution=options.resolution,
            width=options.width,
            height=options.height,
            half_life=options.half_life,
        ),
        image_topic=options.image_topic,
        costmap=costmap,
    )
    print(f"{options.out / 'map.mp4'}: {mapped.images} images\n{mapped.sources}")
    if costmap is not None:
        print(f"costmap: {costmap.name}; its traps: seg-perception doctor --yaml {options.nav2}")
        for reason in costmap.left_out:
            print(f"not in the costmap: {reason}", file=sys.stderr)
    for warning in mapped.warnings:
        print(warning, file=sys.stderr)
    for reason, count in mapped.skipped.items():
        print(f"{count} images are not in the map: {reason}", file=sys.stderr)
    return 0
