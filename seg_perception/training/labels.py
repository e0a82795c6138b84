"""Label PNGs as training reads them: ids, indexed colours or colours of a palette, to classes."""

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import Frame
from seg_perception.bags.image_files import read_image
from seg_perception.errors import DataError
from seg_perception.evaluation.ground_truth import TopicTruth, read_labels
from seg_perception.labels import UNKNOWN

Palette = Collection[tuple[int, int, int]] | None
HEAD = 26  # bytes of a PNG up to its colour type; PNG specification, 11.2.1 (IHDR)
INDEXED = 3


def read_ids(path: Path, palette: Palette) -> NDArray[np.uint8]:
    """Return uint8 (H,W): the ids of a grey or indexed PNG, or those of `palette`'s RGB colours.

    DataError names a file that cannot be read, ids above 255 and unknown colours.
    """
    return read_labels(path, _own_colours(path) or palette)


class LabelFolder:
    """PNGs in a folder, named by the stamps or names of images."""

    def __init__(self, path: Path, palette: Palette) -> None:
        """List them; DataError for no folder or one without PNGs."""
        if not path.is_dir():
            raise DataError(f"{path} is no folder; give one that holds label PNGs")
        self._files = {p.stem: p for p in path.iterdir() if p.suffix.lower() == ".png"}
        if not self._files:
            raise DataError(f"{path} holds no PNGs; name them STAMP.png or as the images")
        self._palette = palette

    def of(self, frame: Frame) -> NDArray[np.uint8] | None:
        """Return the ids (H,W) of an image, None where it has no file."""
        path = self._files.get(str(frame.key))
        return None if path is None else read_ids(path, self._palette)


def labels_of(where: str, palette: Palette) -> LabelFolder | TopicTruth | None:
    """Return the labels of a folder of PNGs or a topic, None where nothing is named."""
    if not where:
        return None
    return LabelFolder(Path(where), palette) if Path(where).is_dir() else TopicTruth(where)


def read_classes(path: Path, palette: Palette, table: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return uint8 (H,W) classes by a table of ids; what means nothing is ignored, as 255 is."""
    return np.asarray(cv2.LUT(read_ids(path, palette), as_ignored(table)), np.uint8)


def as_ignored(table: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return a table of ids uint8 (256,) in which ids that mean nothing are ignored."""
    return np.where(table < 0, UNKNOWN, table).astype(np.uint8)


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) RGB; DataError for a file that cannot be read."""
    image = read_image(path, cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} cannot be read: truncated, missing, or not an image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _own_colours(path: Path) -> list[tuple[int, int, int]]:
    """Return the colours that a PNG keeps in a table, by which a decoder hides its ids."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head.startswith(b"\x89PNG") or head[-1] != INDEXED:
                return []
            rest = file.read(1 << 16)  # the table comes before the pixels
    except OSError:
        return []
    at = rest.find(b"PLTE")
    length = int.from_bytes(rest[at - 4 : at], "big") if at >= 4 else 0
    colours = rest[at + 4 : at + 4 + length]
    return [(r, g, b) for r, g, b in zip(colours[::3], colours[1::3], colours[2::3], strict=True)]
