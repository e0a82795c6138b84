"""What the labels of an image should be: a folder, a label topic, or another network's opinion."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import messages
from seg_perception.bags.frames import Frame, Key
from seg_perception.bags.image_files import read_image
from seg_perception.errors import DataError
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import Manifest

Labels = NDArray[np.uint8]
LABEL_ENCODINGS = ("mono8", "8UC1")
PNG, DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24  # how the files begin; the byte with their bits a sample


class Truth(Protocol):
    """Gives labels by image; `example` is a key that it has, for errors.

    `teacher` is the name of the network whose opinion it is, None for ground truth.
    """

    @property
    def name(self) -> str: ...
    @property
    def teacher(self) -> str | None: ...
    @property
    def example(self) -> Key | None: ...

    def of(self, frame: Frame) -> Labels | None:
        """Return uint8 (H,W) ids, None for an image of which nothing is known."""
        ...


class FolderTruth:
    """PNGs in a folder, named as the images: their stamps in nanoseconds, or their names.

    A grey PNG holds ids, one in colours those of the manifest's palette.
    """

    teacher = None

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """List the files; DataError for no folder or one without PNGs."""
        if not path.is_dir():
            raise DataError(f"{path} is no folder; give one that holds label PNGs")
        self.name = str(path)
        self._files = {p.stem: p for p in path.iterdir() if p.suffix.lower() == ".png"}
        if not self._files:
            raise DataError(f"{path} holds no PNGs; name them STAMP.png or as the images")
        self.example: Key | None = min(self._files)
        self._palette = manifest.palette

    def of(self, frame: Frame) -> Labels | None:
        """Read the file of the image's key; DataError names one that cannot be read."""
        path = self._files.get(str(frame.key))
        return None if path is None else read_labels(path, self._palette)


class TopicTruth:
    """Label messages next to the images, which the source has paired by stamp."""

    teacher = None
    example = None

    def __init__(self, topic: str) -> None:
        """Name the topic."""
        self.name = topic

    def of(self, frame: Frame) -> Labels | None:
        """Return the ids of the image's mask; DataError for another encoding than mono8."""
        if frame.mask is None:
            return None
        encoding = getattr(frame.mask, "encoding", "a compressed image")
        if encoding not in LABEL_ENCODINGS:
            raise DataError(
                f"{self.name} is {encoding}, which holds no ids; labels are mono8 or 8UC1"
            )
        return messages.to_array(frame.mask)


class TeacherTruth:
    """The labels of a larger network; to agree with it is not to be right."""

    example = None

    def __init__(self, setting: ModelSetting, manifest: Manifest) -> None:
        """Load it, and check that both know the same classes; DataError names the first other."""
        teacher = setting.load()
        self.name = self.teacher = teacher.manifest.name
        self._segmenter, self._least = teacher, setting.min_confidence
        ours, theirs = manifest.classes, teacher.manifest.classes
        if ours != theirs:
            other = next((t for o, t in zip(ours, theirs, strict=False) if o != t), "more or fewer")
            raise DataError(
                f"the teacher {self.name!r} has {len(theirs)} classes, {manifest.name!r} "
                f"{len(ours)}; they differ from {other!r} on: choose a teacher of the same classes"
            )

    def of(self, frame: Frame) -> Labels:
        """Segment the image; what the teacher does not know (255) is void."""
        least = self._least
        answer = self._segmenter(frame.image, "bgr8", confidence=False, min_confidence=least)
        return answer.labels


def default_void(manifest: Manifest) -> tuple[int, ...]:
    """Return the ids of the truth that are ignored unless somebody says otherwise."""
    return tuple(sorted({*manifest.void_ids, UNKNOWN}))


def read_labels(path: Path, palette: Collection[tuple[int, int, int]] | None) -> Labels:
    """Return uint8 (H,W) ids of a PNG: as they are, or by the RGB colours of `palette`.

    Raises DataError for a file that cannot be read, ids above 255 and unknown colours.
    """
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path} cannot be read: truncated, or no PNG; write it again")
    if image.ndim == 3:
        return _by_colour(np.asarray(image[..., 2::-1]), palette, path)
    if image.max(initial=0) > UNKNOWN:
        raise DataError(f"{path} holds id {image.max()}; a label image holds 0 to 255")
    return np.asarray(image // _brightening(path), np.uint8)


def _brightening(path: Path) -> int:
    """Return what a decoder multiplies the ids of a grey PNG with: those below 8 bits fill 0..255.

    Source: PNG specification, 11.2.1 (IHDR) and 13.12 (sample depth scaling).
    """
    with path.open("rb") as file:
        head = file.read(DEPTH_AT + 1)
    bits = head[DEPTH_AT] if head.startswith(PNG) else 8
    return 255 // (2**bits - 1) if bits < 8 else 1


def _by_colour(
    rgb: NDArray[np.uint8], palette: Collection[tuple[int, int, int]] | None, path: Path
) -> Labels:
    if not palette:
        raise DataError(f"{path} is in colours, but the model has no palette; write grey id PNGs")
    if rgb.dtype != np.uint8:
        raise DataError(f"{path} is an image of {rgb.dtype}; write 8-bit PNGs")
    packed = rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    known = np.array(list(palette), np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    colours, first = np.unique(known, return_index=True)
    at = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)
    strange = np.unique(packed[colours[at] != packed])
    if strange.size:
        named = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in strange[:5]]
        raise DataError(
            f"{path} holds {strange.size} colours that are not in the model's palette, such as "
            f"{named}; write grey id PNGs, or a card with this palette"
        )
    return np.asarray(first[at], np.uint8)
