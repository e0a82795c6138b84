"""What do the decoders of cubic scores and of masks gain over resizing everything?

python benchmarks/decoders.py [--rounds N]    prints JSON: medians of ratios and their spread

One thread; logits of the default model on the bundled clip, 11 classes and seeded mixes to 19 and
150, grown to 480x640. Cubic is compared with OpenCV's INTER_CUBIC class by class, masks of queries
with torch's resize, sigmoid, product and argmax. `bounds_over_bilinear` is the share of the
bilinear label stage that finds what can win: its time where one class always does.
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from seg_perception import weights
from seg_perception.bench.bench import (
    IMAGES,
    MIXES,
    SIZE,
    Contender,
    Ratio,
    measure,
    mixed,
    ratio,
    resized_images,
)
from seg_perception.decoding import decode_masks, decode_scores
from seg_perception.decoding.official_mode import cubic_labels
from seg_perception.runtimes.onnx import OnnxRuntime

Floats = NDArray[np.float32]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    runtime = OnnxRuntime(weights.DEFAULT)
    own = [runtime.scores(p[None]) for p in resized_images(runtime.manifest.input.size)]
    result: dict[str, Any] = {"rounds": rounds}
    for classes in (len(own[0]), *MIXES):
        planes = [p if len(p) == classes else mixed(p, classes) for p in own]
        result[str(classes)] = {
            "cubic": compared(cubic(planes), rounds),
            "masks": compared(masks(planes), rounds),
            "bounds_over_bilinear": bounds_share(planes, rounds),
        }
    print(json.dumps(result, indent=2))


def compared(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Any]:
    """Return how many times faster ours is, its time, and the share of labels that differ."""
    times = measure(contenders, rounds)
    pairs = [[np.asarray(contender(r)) for contender in contenders.values()] for r in range(3)]
    return {
        "theirs_over_ours": ratio(times["theirs"] / times["ours"]),
        "ours_ms": round(float(np.median(times["ours"])) * 1e3, 3),
        "labels_differ": round(float(np.mean([a != b for a, b in pairs])), 7),
    }


def bounds_share(planes: list[Floats], rounds: int) -> Ratio:
    """Return the time of the same scores with one class far above the others, over their own."""
    lift = 1000 * np.eye(len(planes[0]), 1, dtype=np.float32)[:, :, None]
    sure = [p + lift for p in planes]
    contenders: dict[str, Contender] = {
        "bounds": lambda r: decode_scores(sure[r % IMAGES], SIZE),
        "all": lambda r: decode_scores(planes[r % IMAGES], SIZE),
    }
    times = measure(contenders, rounds)
    return ratio(times["bounds"] / times["all"])


def cubic(planes: list[Floats]) -> dict[str, Contender]:
    """Return both ways from scores to labels by a cubic."""

    def theirs(r: int) -> Any:
        scores = planes[r % IMAGES]
        return cubic_labels(scores, SIZE, kind="logits", with_confidence=False)[0]

    return {
        "ours": lambda r: decode_scores(planes[r % IMAGES], SIZE, interpolation="cubic"),
        "theirs": theirs,
    }


def masks(planes: list[Floats]) -> dict[str, Contender]:
    """Return both ways from masks to labels; each query is mostly of a class of its own."""
    count = len(planes[0])
    logits = 6 * np.eye(count) + np.random.default_rng(0).normal(size=(count, count))
    shares = torch.from_numpy(logits.astype(np.float32)).softmax(1)

    @torch.inference_mode()
    def theirs(r: int) -> Any:
        coarse = torch.from_numpy(planes[r % IMAGES])[None]
        full = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")[0].sigmoid()
        return (shares.T @ full.flatten(1)).argmax(0).view(SIZE).numpy()

    def ours(r: int) -> Any:
        return decode_masks(planes[r % IMAGES], shares.numpy(), SIZE, with_confidence=False)[0]

    return {"ours": ours, "theirs": theirs}


if __name__ == "__main__":
    main()
