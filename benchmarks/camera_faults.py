"""How far are good images from the limits of faulty cameras, which faults are found, at what cost?

python benchmarks/camera_faults.py [FOLDER ...]    the bundled clip, and folders of good images

Prints the figures' range over good images next to each limit, the false alarms, and the share of
rendered faults that is found; then milliseconds an image at 640x480 (median and 10th to 90th
percentile of 200) next to a run of the bundled tiny network, interleaved.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bags.clip import bundled_images
from seg_perception.camera_faults import CameraWatch, Figures, find_fault
from seg_perception.images import DecodedImage, resized
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmenter

LIMITS = SegmentationParameters()
LIMIT_OF = {
    "dark": "max_dark",
    "saturated": "max_saturated",
    "structure": "min_structure",
    "sharpness": "min_sharpness",
}
ROUNDS = 200
RANDOM = np.random.default_rng(0)
Image = np.ndarray


def noisy(image: Image, level: float = 2.0) -> Image:
    """Return an image with the noise of a sensor, in grey levels."""
    return np.clip(image + RANDOM.normal(0, level, image.shape), 0, 255).astype(np.uint8)


def light_leak(image: Image) -> Image:
    """Return what a covered lens shows where light comes in from the right."""
    return noisy(np.zeros_like(image) + np.linspace(0, 20, image.shape[1])[:, None])


def blurred(image: Image, share: float) -> Image:
    """Return an image out of focus: sigma as a share of its width."""
    return noisy(cv2.GaussianBlur(image, (0, 0), share * image.shape[1]), 1)


def moved(image: Image, share: float) -> Image:
    """Return an image that moved sideways while it was exposed, by a share of its width."""
    count = max(1, round(share * image.shape[1]))
    return noisy(cv2.filter2D(image, -1, np.full((1, count), 1 / count)), 1)


FAULTS: dict[str, Callable[[Image], Image]] = {
    "black": lambda i: noisy(np.zeros_like(i)),
    "white": lambda i: noisy(np.full_like(i, 253)),
    "covered, light leaks in": light_leak,
    "one grey": lambda i: noisy(np.full_like(i, 120), 4),
    "fog, 5 % of the contrast": lambda i: noisy(i * 0.05 + 190),
    "fog, 15 % of the contrast": lambda i: noisy(i * 0.15 + 170),
    "blur, sigma 1/160 of the width": lambda i: blurred(i, 1 / 160),
    "blur, sigma 1/100": lambda i: blurred(i, 1 / 100),
    "blur, sigma 1/80": lambda i: blurred(i, 1 / 80),
    "moved by 1/30 of the width": lambda i: moved(i, 1 / 30),
    "overexposed four times": lambda i: np.clip(i.astype(np.uint16) * 4, 0, 255).astype(np.uint8),
    "night: gamma 5": lambda i: np.asarray(255 * (i / 255.0) ** 5, np.uint8),
}


def figures(image: Image) -> Figures:
    """Return the figures of one image by itself."""
    return CameraWatch().observe(DecodedImage(image, "bgr8"), 0)


def report(name: str, images: Sequence[Image]) -> None:
    """Print what is measured of good images and of their faults."""
    found = [figures(image) for image in images]
    alarms = sum(bool(find_fault(f, LIMITS)) for f in found)
    print(f"{name}: {len(images)} good images, {alarms} false alarms")
    for key, limit in LIMIT_OF.items():
        values = [getattr(f, key) for f in found]
        bound = getattr(LIMITS, limit)
        print(f"  {key:<12}{min(values):8.3f} to {max(values):8.3f}   {limit} {bound:g}")
    some = images[:: max(1, len(images) // 50)]
    for fault, render in FAULTS.items():
        hits = sum(bool(find_fault(figures(render(image)), LIMITS)) for image in some)
        print(f"  {fault:<34}{hits / len(some):6.0%} found")


def cost(image: Image) -> None:
    """Print milliseconds of the watch and of the tiny network, in a node's order."""
    watch, segmenter = CameraWatch(), Segmenter.load("tiny")
    times = np.empty((ROUNDS, 2))
    message = cv2.imencode(".jpg", image)[1]
    for i in range(ROUNDS):
        image = cv2.imdecode(message, cv2.IMREAD_UNCHANGED)
        start = time.perf_counter()
        watch.observe(DecodedImage(image, "bgr8"), i)
        middle = time.perf_counter()
        segmenter(image, "bgr8")
        times[i] = (middle - start) * 1e3, (time.perf_counter() - middle) * 1e3
    low, median, high = np.percentile(times[:, 0], (10, 50, 90))
    share = np.median(times[:, 0] / times[:, 1])
    print(f"{median:.3f} ms ({low:.3f} to {high:.3f}) at 640x480, {share:.1%} of a run of tiny")


def main() -> None:
    """Report on the clip and on the folders that are named."""
    clip = bundled_images(101)
    report("bundled clip", clip)
    for folder in map(Path, sys.argv[1:]):
        files = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))
        report(folder.name, [cv2.imread(str(file)) for file in files])
    cost(resized(clip[0], (480, 640)))


if __name__ == "__main__":
    main()
