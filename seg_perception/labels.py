"""Label spaces: what the ids of a label image mean, and the shares of each id."""

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

UNKNOWN = 255
GROUPS = (
    "other",
    "drivable",
    "sidewalk",
    "obstacle",
    "person",
    "vehicle",
    "vegetation",
    "sky",
)
GROUP_COLOURS = (
    (110, 110, 110),
    (128, 64, 128),
    (244, 35, 232),
    (230, 150, 50),
    (220, 20, 60),
    (0, 60, 200),
    (107, 142, 35),
    (70, 130, 180),
)


@dataclass(frozen=True)
class LabelSpace:
    """Ids that a label image may hold: names and RGB colours by id, and how they come from classes.

    `names[id]` is empty for an id that is never published (a model's void class). `lut` is
    uint8 (256,): model class -> id, 255 for void and for everything that is no class.
    """

    names: tuple[str, ...]
    colours: NDArray[np.uint8]  # 256 3
    lut: NDArray[np.uint8]  # 256

    def class_map(self) -> list[tuple[int, str]]:
        """Return (id, name) of every id that LabelInfo lists; 255 is never among them."""
        return [(i, name) for i, name in enumerate(self.names) if name]


def class_shares(
    labels: NDArray[np.uint8], *, classes: int, rows: int = 1, columns: int = 1
) -> NDArray[np.float32]:
    """Return the share of each id among all pixels of each cell, float32 (rows, columns, classes).

    Cells are as equal as whole pixels allow; unknown pixels count in the total alone, so the
    shares of a cell may sum to less than 1. Source: CONTRACTS `~/class_grid`.
    """
    height, width = labels.shape
    edges_y = [round(i * height / rows) for i in range(rows + 1)]
    edges_x = [round(i * width / columns) for i in range(columns + 1)]
    shares = np.zeros((rows, columns, classes), np.float32)
    for r in range(rows):
        for c in range(columns):
            cell = labels[edges_y[r] : edges_y[r + 1], edges_x[c] : edges_x[c + 1]]
            if cell.size:
                counts = cv2.calcHist([cell], [0], None, [256], [0, 256])
                shares[r, c] = counts[:classes, 0] / cell.size
    return shares


def distinct_colours(count: int) -> NDArray[np.uint8]:
    """Return `count` RGB colours (count,3) that differ well, for a model without a palette.

    Hues step by the golden ratio; brightness alternates.
    """
    hue = (np.arange(count) * 0.61803398875 % 1.0 * 180).astype(np.uint8)
    value = np.where(np.arange(count) % 2, 170, 235).astype(np.uint8)
    hsv = np.stack([hue, np.full(count, 190, np.uint8), value], axis=1)[None]
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0], np.uint8)


def counted_ids(classes: int, void_ids: Collection[int] = ()) -> NDArray[np.uint8]:
    """Return a table uint8 (256,): ids 0..classes-1 as they are, void and all others 255."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[:classes] = np.arange(classes)
    table[list(void_ids)] = UNKNOWN
    return table
