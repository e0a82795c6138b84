"""At which height and width a network runs: near its file's pixel count, in the image's shape."""

import itertools
import math
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from seg_perception.errors import ModelError
from seg_perception.manifest import MAX_SIDE, InputSpec
from seg_perception.runtimes import Runtime

AUTO = "auto"
FORM = r"auto|[1-9]\d{0,4}x[1-9]\d{0,4}"
MAX_SIZES = 4  # kept next to the file's own: a camera may change its size with every image

Size = tuple[int, int]  # height, width


def parse(text: str | Size) -> Size | None:
    """Return (height, width) of HEIGHTxWIDTH or of a pair, None of `auto`; or raise ModelError."""
    if not isinstance(text, str):
        return text
    if not re.fullmatch(FORM, text):
        raise ModelError(
            f"input_size {text!r} is no size: write auto or HEIGHTxWIDTH, as in 448x768"
        )
    if text == AUTO:
        return None
    height, width = map(int, text.split("x"))
    return height, width


def text_of(size: Size) -> str:
    """Return HEIGHTxWIDTH."""
    return f"{size[0]}x{size[1]}"


def freedom(spec: InputSpec) -> str:
    """Say at which sizes a file with this input runs."""
    if spec.multiple is None:
        return f"runs at {text_of(spec.size)}, whatever the shape of the images"
    return (
        f"runs in the shape of the images, {text_of(spec.size)} or as many pixels in multiples of "
        f"{spec.multiple}"
    )


def check(name: str, spec: InputSpec, size: Size) -> None:
    """Raise ModelError where the model `name` cannot run at `size`; it says what can be set."""
    own, multiple = text_of(spec.size), spec.multiple
    if size == spec.size:
        return
    if multiple is None:
        raise ModelError(
            f"input_size is {text_of(size)}, and the file of {name!r} runs at {own} alone: set "
            f"auto or {own}, or export its network at that size"
        )
    if any(side % multiple or side > MAX_SIDE for side in size):
        near = (_nearest(size[0], multiple), _nearest(size[1], multiple))
        raise ModelError(
            f"input_size is {text_of(size)}, and {name!r} takes multiples of {multiple} up to "
            f"{MAX_SIDE}: set auto or {text_of(near)}"
        )


def _nearest(side: int, multiple: int) -> int:
    below, above = _around(side, multiple)
    return below if side - below <= above - side else above


def choose(spec: InputSpec, image: Size) -> Size:
    """Return the input size (height, width) for images of `image` (height, width).

    A file of one size alone gives that. Otherwise one height and width have the image's aspect
    ratio and as many pixels as the file's own size; of the four sizes around them, in multiples,
    it is the one that is off by the smallest factor: of the aspect ratio times that of the pixels.
    """
    if spec.multiple is None:
        return spec.size
    pixels, aspect = math.prod(spec.size), image[1] / image[0]

    def factor(size: Size) -> tuple[float, int]:
        off = abs(math.log(size[1] / size[0] / aspect)) + abs(math.log(math.prod(size) / pixels))
        return round(off, 9), math.prod(size)  # of two that are equally near the cheaper one

    heights = _around(math.sqrt(pixels / aspect), spec.multiple)
    widths = _around(math.sqrt(pixels * aspect), spec.multiple)
    return min(itertools.product(heights, widths), key=factor)


def _around(side: float, multiple: int) -> tuple[int, int]:
    """Return the multiples below and above, inside of what an input may have."""
    below, above = math.floor(side / multiple), math.ceil(side / multiple)
    last = MAX_SIDE // multiple
    return multiple * min(max(1, below), last), multiple * min(max(1, above), last)


class Sizes:
    """One network at the sizes that images need: each is set up when the first image needs it.

    That happens in a thread of its own, so whoever has images of other sizes goes on. The file's
    own size stays; of others the MAX_SIZES that were needed last.
    """

    def __init__(self, own: Runtime, set_up: Callable[[Size], Runtime]) -> None:
        """`own` is of the file's own size, `set_up` makes those of others."""
        self._own, self._set_up = own, set_up
        self._kept: dict[Size, Future[Runtime]] = {}  # the one needed last is the last
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="size")

    def get(self, size: Size) -> Runtime:
        """Return the network at `size`, when it is ready; ModelError says why it never is."""
        future = self.start(size)
        return self._own if future is None else future.result()

    def start(self, size: Size) -> "Future[Runtime] | None":
        """Set the network up at `size` and return what will have it; None of the own size."""
        if size == self._own.manifest.input.size:
            return None
        with self._lock:
            future = self._kept.pop(size, None) or self._pool.submit(self._set_up, size)
            self._kept[size] = future
            while len(self._kept) > MAX_SIZES:
                del self._kept[next(iter(self._kept))]
            return future
