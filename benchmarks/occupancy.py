"""What does the map cost, compared with the bare run of the default model?

python benchmarks/occupancy.py [--rounds N]    prints JSON: medians of ratios and their spread

One thread, 640x480 masks of a road with the labels of a real picture, grids of 200x200 cells.
"""

import argparse
import json

import cv2
import numpy as np

from seg_perception import weights
from seg_perception.evaluation.bench import measure, ratio
from seg_perception.evaluation.birdseye import StillCamera
from seg_perception.evaluation.clip import bundled_pictures
from seg_perception.labels import GROUPS
from seg_perception.occupancy.camera import Camera, Pose, ground_points
from seg_perception.occupancy.mapper import Look, Mapper, Planar, Settings
from seg_perception.occupancy.trust import trusted
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.segmenter import Segmenter

SIZE = (480, 640)
MOUNT = Pose.from_rpy(0.0, 0.0, 1.2, 0.0, 0.2, 0.0)


class Driving(StillCamera):
    """A robot that moves 5 cm between looks."""

    def robot(self, stamp: int) -> Planar:
        """Return where it is in odom."""
        return Planar(stamp * 5e-10, 0.0, 0.1)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=120)
    rounds = parser.parse_args().rounds
    bare, segmenter = OnnxRuntime(weights.DEFAULT), Segmenter.load("default")
    picture = cv2.resize(bundled_pictures(1)[0], SIZE[::-1])
    result = segmenter(picture, "bgr8")
    groups = segmenter.manifest.label_space("groups").lut[result.labels]
    size = bare.manifest.input.size
    x = cv2.resize(picture, size[::-1])[None]
    camera = Camera(SIZE[1], SIZE[0], 500.0, 500.0, 320.0, 240.0)
    mapper = Mapper(Settings(), Driving(MOUNT))
    pose = Driving(MOUNT).camera("", "", 0)
    points = ground_points(camera, pose).points
    share = trusted(camera, pose, 0.1, 20.0).share

    def update(r: int) -> None:
        stamp = 1_000_000_000 + (r + 100) * 100_000_000
        mapper.update(Look(groups, result.confidence, camera, "", "camera", stamp))
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
