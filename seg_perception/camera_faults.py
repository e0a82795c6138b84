"""Cameras that lie: frozen, dark, saturated, covered or blurred images that arrive on time.

Each image is judged by itself, so that the first good one counts again; only `frozen_s` looks back.
All figures are of one channel, green or luma, at a fixed number of samples: a larger image costs no
more.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding.cells import compiled
from seg_perception.images import DecodedImage

Plane = NDArray[np.uint8]

DARK, BRIGHT = 16, 245  # grey levels: below and from there on nothing is seen
COLUMNS = 128  # of the thumbnail that all figures are of
AVERAGED = 4  # pixels of a row that make one of the thumbnail: it hides sensor noise
COARSE = 8  # thumbnail pixels; the farther of the two distances of sharpness
# Luma of packed YUV is the second or the first byte of a pixel.
LUMA_CHANNEL = {"uyvy": 1, "yuv422": 1, "yuyv": 0, "yuv422_yuy2": 0}
GREEN = 1  # of rgb, bgr, rgba, bgra alike
PLANAR = ("nv12", "nv21")
# Luma of YUV goes from 16 to 235 where other channels go from 0 to 255 (ITU-R BT.601).
BLACK, RANGE = 16, 219


class Limits(Protocol):
    """What is still taken for a good image; each limit has a value that switches it off."""

    @property
    def frozen_after(self) -> float:
        """Seconds of stamps over which the image may stay the same; 0 is off."""

    @property
    def max_dark(self) -> float:
        """Share 0..1 of pixels that may be dark; 1 is off."""

    @property
    def max_saturated(self) -> float:
        """Share 0..1 of pixels that may be saturated; 1 is off."""

    @property
    def min_structure(self) -> float:
        """Grey levels between the darker and the brighter parts; 0 is off."""

    @property
    def min_sharpness(self) -> float:
        """Fine contrast over coarse contrast; 0 is off."""


class Figures(NamedTuple):
    """What was measured of an image.

    `frozen_s`: seconds of stamps since the image last changed. `dark`, `saturated`: shares of it
    below DARK, from BRIGHT on. `structure`: grey levels between its 5th and 95th percentile.
    `sharpness`: the root mean square difference of places 1/128 of the width apart, over that of
    places eight times as far apart: isolated steps give 0.35, wide ramps 0.125, noise 1.
    """

    frozen_s: float
    dark: float
    saturated: float
    structure: float
    sharpness: float

    def values(self) -> dict[str, str]:
        """Return the figures by name, formatted for a diagnostic."""
        return {
            "frozen_s": f"{self.frozen_s:.1f}",
            "dark": f"{self.dark:.3f}",
            "saturated": f"{self.saturated:.3f}",
            "structure": f"{self.structure:.0f}",
            "sharpness": f"{self.sharpness:.3f}",
        }


class CameraWatch:
    """Measure the images of one camera."""

    def __init__(self) -> None:
        """Start without a previous image, and compile what the first one would wait for."""
        self._last = np.empty((0, 0), np.uint8)
        self._since = 0  # stamp of the first image of those that are alike, ns
        self.figures: Figures | None = None  # of the newest image
        for plane in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)[..., 1]):
            measure(plane, self._last)

    def observe(self, image: DecodedImage, stamp: int) -> Figures:
        """Return the figures of an image with its stamp in ns."""
        is_yuv = image.encoding in PLANAR or image.encoding in LUMA_CHANNEL
        small, is_same, dark, saturated, structure, sharpness = measure(
            luma(image), self._last, is_yuv=is_yuv
        )
        if not is_same or stamp < self._since:  # a stamp that jumps back starts again
            self._last, self._since = small, stamp
        frozen_s = (stamp - self._since) / 1e9
        self.figures = Figures(frozen_s, dark, saturated, structure, sharpness)
        return self.figures


def find_fault(figures: Figures, limits: Limits) -> str:
    """Return the first fault with its figure, limit and remedy, or an empty string."""
    f, of = figures, limits
    if 0 < of.frozen_after <= f.frozen_s:
        return (
            f"frozen: the same image for {f.frozen_s:.1f} s (frozen_after {of.frozen_after:g}); "
            "restart the camera (a simulated one without noise looks so: frozen_after 0)"
        )
    for name, value, limit, remedy in (
        ("dark", f.dark, of.max_dark, "is the lens covered, or is it night?"),
        ("saturated", f.saturated, of.max_saturated, "check exposure and what blinds it"),
    ):
        if value > limit:
            return f"{name}: {value:.1%} of the image (max_{name} {limit:g}); {remedy}"
    for name, value, limit, remedy in (
        ("structure", f.structure, of.min_structure, "is the lens covered, or is it fog?"),
        ("sharpness", f.sharpness, of.min_sharpness, "clean the lens, check focus and exposure"),
    ):
        if value < limit:
            return f"no {name}: {value:.3g} (min_{name} {limit:g}); {remedy}"
    return ""


def luma(image: DecodedImage) -> Plane:
    """Return a view (H,W) of the channel that brightness is judged by; of a mosaic one colour."""
    pixels, encoding = image
    if encoding.startswith("bayer"):
        return pixels[::2, ::2]
    if encoding in PLANAR:
        return pixels[: pixels.shape[0] * 2 // 3]
    return pixels if pixels.ndim == 2 else pixels[..., LUMA_CHANNEL.get(encoding, GREEN)]


def measure(
    plane: Plane, last: Plane, *, is_yuv: bool = False
) -> tuple[Plane, bool, float, float, float, float]:
    """Return the thumbnail of a plane (H,W), whether it equals `last`, and the other figures.

    The thumbnail has about COLUMNS columns: of every n-th row the mean of AVERAGED pixels, or of as
    many as there are, every n columns.
    """
    step = max(1, plane.shape[1] // COLUMNS)
    bits = 2 if step >= AVERAGED else step // 2
    apart = np.arange(1 << bits) * step >> bits
    small = np.empty((-(-plane.shape[0] // step), plane.shape[1] // step), np.uint8)
    counts = np.zeros(256, np.int64)
    is_same = _reduce(plane, step, apart, bits, small, last, counts)
    dark, bright = ((BLACK + n * RANGE // 255 if is_yuv else n) for n in (DARK, BRIGHT))
    low, high, structure = _shares(counts, small.size, dark, bright)
    structure *= 255 / RANGE if is_yuv else 1.0
    return small, is_same, low, high, structure, _sharpness(small)


@compiled
def _reduce(
    plane: Any, step: int, apart: Any, bits: int, small: Any, last: Any, counts: Any
) -> bool:
    """Fill `small`, count its grey levels; return whether it equals `last`."""
    is_same = small.shape == last.shape
    for v in range(small.shape[0]):
        row, to = plane[v * step], small[v]
        for u in range(to.size):
            total = np.uint32(0)
            for i in range(apart.size):
                total += row[u * step + apart[i]]
            to[u] = total >> np.uint32(bits)
            counts[to[u]] += 1
            is_same = is_same and to[u] == last[v, u]
    return bool(is_same)


@compiled
def _shares(counts: Any, size: int, dark: int, bright: int) -> tuple[float, float, float]:
    """Return the shares below `dark` and from `bright` on, and the 95th less the 5th percentile."""
    seen, low, high = 0, 0, 0
    for level in range(256):
        if seen < 0.05 * size:
            low = level
        if seen < 0.95 * size:
            high = level
        seen += counts[level]
    return counts[:dark].sum() / size, counts[bright:].sum() / size, float(high - low)


@compiled
def _sharpness(small: Any) -> float:
    fine = _energy(small, 1)
    coarse = _energy(small, COARSE)
    return float(np.sqrt(fine / coarse)) if coarse > 0 else 0.0


@compiled
def _energy(small: Any, apart: int) -> Any:
    """Return the mean squared difference of places `apart`, along rows plus along columns."""
    height, width = small.shape
    along_rows, along_columns = np.int64(0), np.int64(0)
    for v in range(height):
        for u in range(apart, width):
            along_rows += (np.int32(small[v, u]) - np.int32(small[v, u - apart])) ** 2
    for v in range(apart, height):
        for u in range(width):
            along_columns += (np.int32(small[v, u]) - np.int32(small[v - apart, u])) ** 2
    rows, columns = max(1, height * (width - apart)), max(1, (height - apart) * width)
    return along_rows / rows + along_columns / columns
