"""What does the map cost, compared with the bare run of the default model?

python benchmarks/occupancy.py [--rounds N]    prints JSON: medians of ratios and their spread

One thread, 640x480 masks of a road with the labels of a real image, grids of 200x200 cells.
"""

import argparse
import json

import cv2
import numpy as np

from seg_perception import weights
from seg_perception.bags.clip import bundled_images
from seg_perception.bench.bench import measure, ratio
from seg_perception.labels import GROUPS
from seg_perception.occupancy.camera import Camera, Pose, ground_points
from seg_perception.occupancy.mapper import LabelFrame, Mapper, Pose2D, StillCamera
from seg_perception.occupancy.settings import Settings
from seg_perception.occupancy.validity import plane_validity
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.segmenter import Segmenter

SIZE = (480, 640)
MOUNT = Pose.from_rpy(0.0, 0.0, 1.2, 0.0, 0.2, 0.0)


class Driving(StillCamera):
    """A robot that moves 5 cm between looks."""

    def robot(self, stamp: int) -> Pose2D:
        """Return where it is in odom."""
        return Pose2D(stamp * 5e-10, 0.0, 0.1)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=120)
    rounds = parser.parse_args().rounds
    bare, segmenter = OnnxRuntime(weights.DEFAULT), Segmenter.load("default")
    image = cv2.resize(bundled_images(1)[0], SIZE[::-1])
    result = segmenter(image, "bgr8")
    groups = segmenter.manifest.label_space("groups").lut[result.labels]
    size = bare.manifest.input.size
    x = cv2.resize(image, size[::-1])[None]
    camera = Camera(SIZE[1], SIZE[0], 500.0, 500.0, 320.0, 240.0)
    mapper = Mapper(Settings(), Driving(MOUNT))
    pose = Driving(MOUNT).camera("", "", 0)
    points = ground_points(camera, pose).points
    share = plane_validity(camera, pose, 0.1, 20.0).share

    def update(r: int) -> None:
        stamp = 1_000_000_000 + (r + 100) * 100_000_000
        mapper.update(LabelFrame(groups, result.confidence, camera, "", "camera", stamp))
        mapper.grid.shares()
        mapper.costs()

    times = measure(
        {
            "bare": lambda r: bare.run(x),
            "counts": lambda r: mapper.grid.add(points, groups, share, (0.0, 0.0, 0.1)),
            "update": update,
        },
        rounds,
    )
    print(
        json.dumps(
            {
                "counts_over_bare": ratio(times["counts"] / times["bare"]),
                "update_over_bare": ratio(times["update"] / times["bare"]),
                "times_ms": {k: round(float(np.median(t)) * 1e3, 3) for k, t in times.items()},
                "pixels": {name: int((groups == i).sum()) for i, name in enumerate(GROUPS)},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
