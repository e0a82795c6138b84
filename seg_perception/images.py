"""Image encodings and sizes: arrays in, arrays out."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ImageError

MAX_PIXELS = 50_000_000  # larger claims are refused before anything is allocated


class DecodedImage(NamedTuple):
    """A decoded image: uint8 (H,W) or (H,W,C), and the encoding of its channels."""

    image: NDArray[np.uint8]
    encoding: str


class Encoding(NamedTuple):
    """A raw encoding: bytes a pixel, OpenCV's conversions (None: as it is), and its sizes.

    Height and width must be multiples of `unit`. `chroma`: rows of colour follow the image's
    rows, half as many.
    """

    channels: int
    to_bgr: int | None
    to_rgb: int | None
    unit: tuple[int, int] = (1, 1)
    chroma: bool = False

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the array of an image of this size; ImageError if none has it."""
        if height % self.unit[0] or width % self.unit[1]:
            raise ImageError(
                f"the image is {width}x{height}, but this encoding needs a width that divides by "
                f"{self.unit[1]} and a height that divides by {self.unit[0]}"
            )
        rows = height * 3 // 2 if self.chroma else height
        return (rows, width) if self.channels == 1 else (rows, width, self.channels)


# Names: sensor_msgs/image_encodings; yuv422 and yuv422_yuy2 are older names of uyvy and yuyv.
# An image of 8UC does not tell its colours: it is taken for mono, bgr or bgra, OpenCV's order.
_BGR = Encoding(3, None, cv2.COLOR_BGR2RGB)
_BGRA = Encoding(4, cv2.COLOR_BGRA2BGR, cv2.COLOR_BGRA2RGB)
_MONO = Encoding(1, cv2.COLOR_GRAY2BGR, cv2.COLOR_GRAY2RGB)
_UYVY = Encoding(2, cv2.COLOR_YUV2BGR_UYVY, cv2.COLOR_YUV2RGB_UYVY, (1, 2))
_YUYV = Encoding(2, cv2.COLOR_YUV2BGR_YUYV, cv2.COLOR_YUV2RGB_YUYV, (1, 2))
ENCODINGS = {
    "rgb8": Encoding(3, cv2.COLOR_RGB2BGR, None),
    "bgr8": _BGR,
    "rgba8": Encoding(4, cv2.COLOR_RGBA2BGR, cv2.COLOR_RGBA2RGB),
    "bgra8": _BGRA,
    "mono8": _MONO,
    "8UC1": _MONO,
    "8UC3": _BGR,
    "8UC4": _BGRA,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Encoding(1, cv2.COLOR_YUV2BGR_NV12, cv2.COLOR_YUV2RGB_NV12, (2, 2), chroma=True),
    "nv21": Encoding(1, cv2.COLOR_YUV2BGR_NV21, cv2.COLOR_YUV2RGB_NV21, (2, 2), chroma=True),
    "bayer_rggb8": Encoding(1, cv2.COLOR_BayerRGGB2BGR, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": Encoding(1, cv2.COLOR_BayerBGGR2BGR, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": Encoding(1, cv2.COLOR_BayerGBRG2BGR, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": Encoding(1, cv2.COLOR_BayerGRBG2BGR, cv2.COLOR_BayerGRBG2RGB),
}


def encoding_of(name: str) -> Encoding:
    """Return the entry of an encoding; raises ImageError that lists the known ones."""
    if name not in ENCODINGS:
        raise ImageError(
            f"encoding {name[:40]!r} is not supported; use one of {', '.join(ENCODINGS)}"
        )
    return ENCODINGS[name]


def check_size(height: int, width: int) -> None:
    """Raise ImageError for an empty image, or one that claims more than MAX_PIXELS."""
    if height < 1 or width < 1:
        raise ImageError(f"the image is {width}x{height}: empty")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"the image claims {width}x{height}, more than {MAX_PIXELS} pixels; reduce it "
            "before segmentation"
        )


def size_of(image: NDArray[np.uint8], encoding: str) -> tuple[int, int]:
    """Return (height, width) of the image that an array of `encoding` holds; (0, 0) of none."""
    rows, width = image.shape[:2] if image.ndim >= 2 else (0, 0)
    return (rows * 2 // 3 if encoding_of(encoding).chroma else rows), width


def convert(image: NDArray[np.uint8], encoding: str, color: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) in `color` order (RGB or BGR); a view when nothing has to change.

    `image` is uint8 (H,W) or (H,W,C) in `encoding`; nv12 and nv21 are (3H/2,W).
    """
    known = encoding_of(encoding)
    height, width = size_of(image, encoding)
    expected = known.shape(height, width)
    if image.dtype != np.uint8 or image.size == 0 or image.shape != expected:
        raise ImageError(
            f"the {encoding} image is {image.dtype} {image.shape}; give uint8 "
            + ("(H,W)" if known.channels == 1 else f"(H,W,{known.channels})")
            + (" with H = 3/2 of the image's height" if known.chroma else "")
        )
    code = known.to_bgr if color == "BGR" else known.to_rgb
    return image if code is None else np.asarray(cv2.cvtColor(image, code), np.uint8)


def to_bgr(image: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) in BGR order."""
    return convert(image, encoding, "BGR")


def to_rgb(image: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) in RGB order."""
    return convert(image, encoding, "RGB")


class Fitted(NamedTuple):
    """An image at the network's size, and the part of it (height, width) that is image."""

    image: NDArray[np.uint8]
    inside: tuple[int, int]


def fit(
    image: NDArray[np.uint8], size: tuple[int, int], resize: str, pad_value: float = 0.0
) -> Fitted:
    """Bring uint8 (H,W,3) to `size` (height, width) by `resize`; INTER_LINEAR on uint8.

    `stretch` ignores the aspect, `keep_ratio_pad` puts the image top left and pads right and
    below, `none` refuses another size with ImageError.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return Fitted(image, size)
    if resize == "none":
        raise ImageError(
            f"the image is {width}x{height} but the network takes {size[1]}x{size[0]} and its "
            "manifest says resize: none; set the camera to that size"
        )
    if resize == "stretch":
        return Fitted(resized(image, size), size)
    ratio = min(size[0] / height, size[1] / width)
    inside = (max(1, int(height * ratio + 0.5)), max(1, int(width * ratio + 0.5)))
    padded = np.full((*size, 3), round(pad_value), np.uint8)
    padded[: inside[0], : inside[1]] = resized(image, inside)
    return Fitted(padded, inside)


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (H,W,3) at `size` (height, width) by OpenCV's INTER_LINEAR."""
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
