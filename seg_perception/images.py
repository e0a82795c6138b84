"""Picture encodings and sizes: arrays in, arrays out."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ImageError


class Encoding(NamedTuple):
    """A raw encoding: bytes a pixel and the OpenCV conversions to BGR and RGB (None: as it is)."""

    channels: int
    to_bgr: int | None
    to_rgb: int | None


ENCODINGS = {
    "rgb8": Encoding(3, cv2.COLOR_RGB2BGR, None),
    "bgr8": Encoding(3, None, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2BGR, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2BGR, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, cv2.COLOR_GRAY2BGR, cv2.COLOR_GRAY2RGB),
}


def encoding_of(name: str) -> Encoding:
    """Return the entry of an encoding; raises ImageError that lists the known ones."""
    if name not in ENCODINGS:
        raise ImageError(f"encoding {name!r} is not supported; use one of {', '.join(ENCODINGS)}")
    return ENCODINGS[name]


def convert(image: NDArray[np.uint8], encoding: str, color: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) in `color` order (RGB or BGR); a view when nothing has to change."""
    known = encoding_of(encoding)
    expected = 2 if known.channels == 1 else 3
    if image.dtype != np.uint8 or image.ndim != expected or image.size == 0:
        raise ImageError(
            f"{encoding} picture is {image.dtype} {image.shape}; give uint8 "
            + ("(H,W)" if expected == 2 else f"(H,W,{known.channels})")
        )
    if expected == 3 and image.shape[2] != known.channels:
        raise ImageError(f"{encoding} has {known.channels} channels, the picture {image.shape[2]}")
    code = known.to_bgr if color == "BGR" else known.to_rgb
    return image if code is None else np.asarray(cv2.cvtColor(image, code), np.uint8)


def to_bgr(image: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) in BGR order."""
    return convert(image, encoding, "BGR")


def to_rgb(image: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) in RGB order."""
    return convert(image, encoding, "RGB")


class Fitted(NamedTuple):
    """A picture at the network's size, and the part of it (height, width) that is picture."""

    image: NDArray[np.uint8]
    inside: tuple[int, int]


def fit(
    image: NDArray[np.uint8], size: tuple[int, int], resize: str, pad_value: float = 0.0
) -> Fitted:
    """Bring uint8 (H,W,3) to `size` (height, width) by `resize`; INTER_LINEAR on uint8.

    `stretch` ignores the aspect, `keep_ratio_pad` puts the picture top left and pads right and
    below, `none` refuses another size with ImageError.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return Fitted(image, size)
    if resize == "none":
        raise ImageError(
            f"the picture is {width}x{height} but the network takes {size[1]}x{size[0]} and its "
            "manifest says resize: none; set the camera to that size"
        )
    if resize == "stretch":
        return Fitted(_resized(image, size), size)
    ratio = min(size[0] / height, size[1] / width)
    inside = (max(1, int(height * ratio + 0.5)), max(1, int(width * ratio + 0.5)))
    padded = np.full((*size, 3), round(pad_value), np.uint8)
    padded[: inside[0], : inside[1]] = _resized(image, inside)
    return Fitted(padded, inside)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
