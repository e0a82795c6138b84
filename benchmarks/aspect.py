"""What does a network lose on wide images that are squashed, and what does its own shape cost?

python benchmarks/aspect.py CAMVID [--model MODEL ...] [--rounds N]

CAMVID has images/ and labels/, as CamVid's val has. The middle of each image is cut to 4:3, 16:9,
2:1 and 3.3:1. Each cut runs at the file's own size (squashed) and at the size that input_size: auto
chooses. Prints mIoU (void ignored) of both over all images; milliseconds an image, medians of
interleaved rounds; milliseconds of the first image of the shape, which waits for a network of its
size; and the ratio of the two times a pixel of input, median [10th to 90th percentile].
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bench.bench import measure, ratio
from seg_perception.input_sizes import Size, text_of
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.segmenter import Segmenter

SHAPES = {"4:3": 4 / 3, "16:9": 16 / 9, "2:1": 2.0, "3.3:1": 3.3}
ROUNDS = 60
WAYS = ("squashed", "auto")
Image = np.ndarray
Pair = tuple[Image, Image]  # image, labels


def read(folder: Path) -> list[Pair]:
    """Return every image, BGR, and its labels."""
    paths = sorted((folder / "images").iterdir())
    labels = [folder / "labels" / f"{path.stem}.png" for path in paths]
    return [
        (cv2.imread(str(i)), cv2.imread(str(t), -1)) for i, t in zip(paths, labels, strict=True)
    ]


def cut(image: Image, aspect: float) -> Image:
    """Return the middle rows of an image, as many as make it `aspect` times as wide as high."""
    rows = min(image.shape[0], round(image.shape[1] / aspect))
    first = (image.shape[0] - rows) // 2
    return np.ascontiguousarray(image[first : first + rows])


def loaded(model: str) -> dict[str, Segmenter]:
    """Return the model squashing every image, and following its shape."""
    own = Segmenter.load(model).manifest.input.size
    return {"squashed": Segmenter.load(model, input_size=own), "auto": Segmenter.load(model)}


def score(segmenter: Segmenter, pairs: list[Pair]) -> float:
    """Return the mIoU in per cent."""
    manifest = segmenter.manifest
    counts = ConfusionMatrix(len(manifest.classes), {*manifest.void_ids, 255})
    for image, truth in pairs:
        counts.add(truth, segmenter(image, "bgr8", confidence=False).labels)
    return 100 * counts.miou()


def contender(segmenter: Segmenter, pairs: list[Pair]) -> Callable[[int], object]:
    """Return what `measure` calls: one image."""
    return lambda r: segmenter(pairs[r % len(pairs)][0], "bgr8", confidence=False)


def row(name: str, ways: dict[str, Segmenter], pairs: list[Pair], rounds: int) -> str:
    """Measure one shape."""
    height, width = pairs[0][0].shape[:2]
    size: Size = (height, width)
    sizes = [ways[way].input_size(size) for way in WAYS]
    started = time.perf_counter()
    contender(ways["auto"], pairs)(0)
    first = 1000 * (time.perf_counter() - started)
    scores = [score(ways[way], pairs) for way in WAYS]
    times = measure({way: contender(ways[way], pairs) for way in WAYS}, rounds)
    squashed, auto = (times[way] / np.prod(s) for way, s in zip(WAYS, sizes, strict=True))
    middle, (low, high) = ratio(auto / squashed)
    ms = [1000 * float(np.median(times[way])) for way in WAYS]
    return (
        f"| {name} | {text_of(sizes[0])}, {text_of(sizes[1])} | {scores[0]:.1f} | {scores[1]:.1f} "
        f"| {ms[0]:.1f} | {ms[1]:.1f} | {first:.0f} | {middle:.3f} [{low:.3f}, {high:.3f}] |"
    )


def main() -> None:
    """Print one table a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", type=Path, metavar="CAMVID")
    parser.add_argument("--model", action="append", help="file or name (default, tiny)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    whole = read(options.camvid)
    for model in options.model or ("default", "tiny"):
        ways = loaded(model)
        print(f"\n{model}, {len(whole)} images, {options.rounds} rounds\n")
        print("| shape | input | mIoU squashed | auto | ms squashed | auto | first | a pixel |")
        print("|---|---|---:|---:|---:|---:|---:|---|")
        for name, aspect in SHAPES.items():
            pairs = [(cut(image, aspect), cut(truth, aspect)) for image, truth in whole]
            print(row(name, ways, pairs, options.rounds), flush=True)


if __name__ == "__main__":
    main()
