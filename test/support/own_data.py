"""Folders of images and labels of one's own: three classes, images of two sizes, drives by name."""

from pathlib import Path

import cv2
import numpy as np
import yaml

CLASSES = ["floor", "wall", "person"]
COLOURS = np.array([[60, 60, 60], [40, 160, 200], [220, 40, 60]], np.uint8)  # RGB
SIZES = ((32, 48), (48, 40))


def labels(random: np.random.Generator, size: tuple[int, int], classes: int = 3) -> np.ndarray:
    """Return blocks of 8x8 pixels of one class each, all classes among them."""
    cells = random.integers(0, classes, (size[0] // 8, size[1] // 8))
    cells.flat[:classes] = range(classes)
    return np.kron(cells, np.ones((8, 8))).astype(np.uint8)


def image(ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return BGR pixels in the classes' colours, with noise."""
    rgb = COLOURS[ids % len(COLOURS)] + random.normal(0, 8, (*ids.shape, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)[..., ::-1]


def write_pair(
    folder: Path, name: str, random: np.random.Generator, size: tuple[int, int],
    labels_in: str = "labels",
) -> np.ndarray:  # fmt: skip
    ids = labels(random, size)
    for kind, content, suffix in (
        ("images", image(ids, random), ".jpg"),
        (labels_in, ids, ".png"),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / kind / (name + suffix)), content)
    return ids


def write_drives(folder: Path, *, drives: int = 5, frames: int = 3) -> Path:
    """Write drives of a few images each, every second image of another size."""
    random = np.random.default_rng(0)
    for d in range(drives):
        for i in range(frames):
            write_pair(folder, f"drive{chr(97 + d)}_{i:04d}", random, SIZES[i % 2])
    return folder


def write_card(path: Path, **keys: object) -> Path:
    groups = {"floor": "drivable", "wall": "obstacle", "person": "person"}
    path.write_text(yaml.safe_dump({"classes": CLASSES, "groups": groups, **keys}))
    return path
