"""How fast is an evaluation, compared with the bare network, and two workers with one?

python benchmarks/evaluate.py [--model M] [--rounds N] [--pictures P]    prints JSON: medians of
ratios, spread

A round evaluates the first P images of the bundled clip, from the bag's jpegs to the confusion
matrix, on one thread of the network plus the one that decodes; and gives the bare network as many
images that lie ready. Workers: the same bag in eight spans, on clusters that are warm.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_perception.bags.bag import BagReader, BagWriter
from seg_perception.bags.clip import bundled_images
from seg_perception.bench.bench import measure, ratio
from seg_perception.evaluation.cluster import Cluster, connected, count_spans
from seg_perception.evaluation.evaluator import Evaluator
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.evaluation.plan import Images, Plan
from seg_perception.evaluation.progress import Progress
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.weights import resolve

IMAGES = 40
SPANS = 8


@contextmanager
def short_clip(count: int) -> Iterator[tuple[str, str]]:
    """Give a bag of the clip's first images, and the folder of their truth."""
    clip = resources.files("seg_perception") / "clip"
    with resources.as_file(clip) as folder, tempfile.TemporaryDirectory() as place:
        path = Path(place) / "short.mcap"
        with BagReader(folder / "bag") as reader, BagWriter(path) as writer:
            for record in islice(reader.raw(["/camera/image/compressed"]), count):
                writer.write(record)
        yield str(path), str(folder / "truth")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--pictures", type=int, default=IMAGES)
    options = parser.parse_args()
    with short_clip(options.pictures) as (bag, labels):
        plan = Plan((ModelSetting(options.model),), (Images("bag", bag),), labels=labels)
        found = {
            **alone(plan, options.rounds, options.pictures),
            **together(plan, options.rounds, options.pictures),
        }
    print(json.dumps({"model": options.model, "images": options.pictures, **found}, indent=2))


def alone(plan: Plan, rounds: int, images: int) -> dict[str, Any]:
    """Return evaluated images a second over those of the bare network."""
    evaluator, bare = Evaluator(plan), OnnxRuntime(resolve(plan.models[0].model))
    size = bare.manifest.input.size
    inputs = [cv2.resize(p, size[::-1])[None] for p in bundled_images(images)]
    counted = []

    def evaluate(_: int) -> None:
        accumulators = evaluator.accumulators()
        evaluator.count(plan.images[0].open(), accumulators)
        counted.append(accumulators[0].frames_scored)

    def run(_: int) -> None:
        for x in inputs:
            bare.run(x)

    times = measure({"bare": run, "evaluate": evaluate}, rounds, warm_ups=1)
    assert set(counted) == {images}
    return {
        "evaluate_over_bare": ratio(times["bare"] / times["evaluate"]),
        "images_a_second": {k: round(images / float(np.median(t)), 1) for k, t in times.items()},
    }


def together(plan: Plan, rounds: int, images: int) -> dict[str, Any]:
    """Return how many times faster two workers are than one."""
    evaluator, source = Evaluator(plan), plan.images[0].open()

    def count(client: Any) -> None:
        progress = Progress(source.spans(SPANS), evaluator.accumulators())
        count_spans(client, plan, [progress], on_span=lambda _: None, is_over=lambda: False)
        assert progress.accumulators[0].frames_scored == images

    with connected(Cluster(1)) as one, connected(Cluster(2)) as two:
        times = measure(
            {"one": lambda _: count(one), "two": lambda _: count(two)}, rounds, warm_ups=2
        )
    return {"two_workers_over_one": ratio(times["one"] / times["two"])}


if __name__ == "__main__":
    main()
