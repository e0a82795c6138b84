"""Write the labels of the bundled models on one machine, and compare them on another.

python test/arm_labels.py write FOLDER      # images, labels and scores, as this machine has them
python test/arm_labels.py compare FOLDER    # exit 1 where a label differs that is no tie
"""

import platform
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import images
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.segmenter import Segmenter
from seg_perception.weights import BUNDLED

IMAGES = 5
TIE = 1e-4  # two logits this close are a tie: either label is right


def write(folder: Path) -> None:
    """Write one file a model: uint8 images (N,H,W,3) BGR, labels (N,H,W), logits (N,K,h,w)."""
    from seg_perception.bags.clip import bundled_images  # reads bags; the other end cannot

    folder.mkdir(parents=True)
    clip_images = bundled_images(IMAGES)
    for name in BUNDLED:
        network = Network(name)
        seen = [network(image) for image in clip_images]
        labels, logits = (np.stack(part) for part in zip(*seen, strict=True))
        np.savez(folder / f"{name}.npz", images=np.stack(clip_images), labels=labels, logits=logits)
    (folder / "machine").write_text(platform.machine())


def compare(folder: Path) -> bool:
    """Print what differs of each model; whether all labels are equal but for ties."""
    there, here = (folder / "machine").read_text(), platform.machine()
    good = True
    for file in sorted(folder.glob("*.npz")):
        given, network = np.load(file), Network(file.stem)
        differ = ties = 0
        away = 0.0
        for image, labels, logits in zip(
            given["images"], given["labels"], given["logits"], strict=True
        ):
            ours, scores = network(image)
            unlike = ours != labels
            differ += int(unlike.sum())
            ties += int((unlike & (lead(logits, labels.shape) < TIE)).sum())
            away = max(away, float(np.abs(scores - logits).max()))
        print(
            f"{file.stem}: {len(given['clip_images'])} images, {given['labels'].size} labels, "
            f"{differ} differ between {there} and {here}, {ties} of them ties (lead below {TIE}); "
            f"largest difference of logits {away:.1e}",
            flush=True,
        )
        good &= differ == ties
    return good


class Network:
    """A bundled model; called with a BGR image it gives labels (H,W) and logits (K,h,w)."""

    def __init__(self, name: str) -> None:
        self._runtime = OnnxRuntime(BUNDLED[name])
        self._segmenter = Segmenter(self._runtime)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        spec = self._runtime.manifest.input
        fitted = images.fit(image, spec.size, spec.resize, spec.pad_value)
        logits = self._runtime.scores(self._segmenter.to_input(fitted.image))
        return self._segmenter(image, "bgr8", confidence=False).labels, logits


def lead(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return by how much the best logit of each pixel (H,W) leads the second."""
    full = np.stack([cv2.resize(plane, size[::-1]) for plane in logits])
    two = np.partition(full, -2, axis=0)[-2:]
    return np.asarray(two[1] - two[0])


if __name__ == "__main__":
    verb, place = sys.argv[1], Path(sys.argv[2])
    if verb == "write":
        write(place)
    else:
        sys.exit(0 if compare(place) else 1)
