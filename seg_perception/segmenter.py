"""An image in, a label image of the image's own size out.

`Segmenter.load(path_or_name)` returns something callable; it knows no ROS and no torch.
"""

import time
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import decoding, images, input_sizes, runtimes, weights
from seg_perception.decoding import official_mode
from seg_perception.errors import ManifestError, ModelError
from seg_perception.input_sizes import AUTO, Size, Sizes
from seg_perception.manifest import InputSpec, Manifest
from seg_perception.runtimes import Runtime

WARM_UPS = 3  # ONNX Runtime still lays out its memory in the second run
MODES = ("fast", "official")


Bytes = NDArray[np.uint8]
Decoded = tuple[Bytes, Bytes | None]  # labels, confidence


class Segmentation(NamedTuple):
    """Labels uint8 (H,W), 255 unknown; confidence uint8 (H,W) or None; stage times in ms."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None
    timing: dict[str, float]


class Segmenter:
    """Run one model: fit the image, run the network, decode exact labels."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        label_space: str = "model",
        mode: str = "fast",
        input_size: str | Size = AUTO,
    ) -> None:
        """Wrap a loaded runtime and warm everything that the first image would wait for.

        `mode` fast resizes once, straight to the network and back; official does what the code
        that published the network's scores does, and takes its time. `input_size` is the size that
        the network runs at, (height, width) or "HEIGHTxWIDTH"; auto follows the image's aspect
        ratio where the file allows it.
        """
        runtime = _sized(runtime, input_size)
        self._runtime = runtime
        self.manifest: Manifest = runtime.manifest
        self.provider: str = runtime.provider
        self.space = self.manifest.label_space(label_space)
        self.mode = mode
        _check_mode(mode, runtime)
        self._normalised = _normalised(self.manifest.input)
        decoding.warm_up()
        self._follows_image = input_size == AUTO and mode == "fast"
        self._sizes = Sizes(runtime, self._set_up)
        if mode == "fast":
            self._warm(runtime, runs=WARM_UPS)

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        *,
        provider: str = "cpu",
        threads: int = 1,
        precision: str = "fp32",
        label_space: str = "model",
        mode: str = "fast",
        input_size: str | Size = AUTO,
    ) -> "Segmenter":
        """Load a model file, .onnx or .pt, or a bundled model by its name: `default`, `tiny`.

        Raises ModelError, ManifestError or ProviderError; each says what to do.
        """
        path = weights.resolve(path_or_name)
        runtime = runtimes.load(path, provider=provider, threads=threads, precision=precision)
        return cls(runtime, label_space=label_space, mode=mode, input_size=input_size)

    @property
    def gives_confidence(self) -> bool:
        """Whether the model's output tells more than labels."""
        return self.manifest.output.kind != "labels"

    def input_size(self, image: Size) -> Size:
        """Return the input size for images of `image`; both are (height, width)."""
        spec = self.manifest.input
        return input_sizes.choose(spec, image) if self._follows_image else spec.size

    def prepare(self, image: Size) -> "Future[Runtime] | None":
        """Set up what images of `image` (height, width) need, in a thread of its own.

        Returns None where it is ready. An image that comes earlier waits for it.
        """
        future = self._sizes.start(self.input_size(image))
        return None if future is None or future.done() else future

    def check_min_confidence(self, min_confidence: float) -> None:
        """Raise ModelError when `min_confidence` is set for a model that gives labels alone."""
        if min_confidence > 0 and not self.gives_confidence:
            raise ModelError(
                f"min_confidence is {min_confidence} but the model {self.manifest.name!r} gives "
                "labels without confidence; set it to 0"
            )

    def __call__(
        self,
        image: NDArray[np.uint8],
        encoding: str = "rgb8",
        *,
        confidence: bool = True,
        min_confidence: float = 0.0,
    ) -> Segmentation:
        """Segment one image, uint8 (H,W,C) or (H,W) in `encoding`.

        Labels below `min_confidence` (0..1) become 255; `confidence` is None when it was not asked
        for or the model gives labels alone. Raises ImageError for an image that does not fit,
        ModelError when min_confidence is set for a model without confidence.
        """
        self.check_min_confidence(min_confidence)
        clock = _Stages()
        converted = images.convert(image, encoding, self.manifest.input.color)
        wanted = self.gives_confidence and (confidence or min_confidence > 0)
        segment = self._fast if self.mode == "fast" else self._official
        labels, sure = segment(converted, wanted, clock)
        labels = np.asarray(cv2.LUT(labels, self.space.lut), np.uint8)
        if sure is not None and min_confidence > 0:
            labels[sure < min_confidence * 255] = 255
        clock.stage("decode")
        return Segmentation(labels, sure if confidence else None, clock.times)

    def _fast(self, image: Bytes, with_confidence: bool, clock: "_Stages") -> Decoded:
        """Resize once to the network, and its scores once to the image."""
        spec, size = self.manifest.input, (image.shape[0], image.shape[1])
        chosen = self.input_size(size)
        runtime = self._sizes.get(chosen)
        fitted = images.fit(image, chosen, spec.resize, spec.pad_value)
        x = self.to_input(fitted.image)
        clock.stage("preprocess")
        y = runtime.run(x)
        clock.stage("network")
        return runtime.decode(y, fitted.inside, size, with_confidence=with_confidence)

    def _official(self, image: Bytes, with_confidence: bool, clock: "_Stages") -> Decoded:
        """Do as the official code does in tests."""
        assert self.manifest.official is not None
        clock.stage("preprocess")

        def run(part: Bytes) -> NDArray[np.float32]:
            return self._runtime.scores(self.to_input(part))

        output, spec = self.manifest.output, self.manifest.official
        decoded = official_mode.segment(image, spec, output, run, with_confidence=with_confidence)
        clock.stage("network")
        return decoded

    def _set_up(self, size: Size) -> Runtime:
        """Return the network for inputs of `size`, run once: an image waits for it."""
        runtime = self._runtime.at(size)
        self._warm(runtime, runs=1)
        return runtime

    def _warm(self, runtime: Runtime, *, runs: int) -> None:
        size = runtime.manifest.input.size
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        for _ in range(runs):
            y = runtime.run(self.to_input(noise))
        runtime.decode(y, size, size, with_confidence=self.gives_confidence)

    def to_input(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Normalise and lay out an image as the manifest says; a view when it takes bytes.

        `image` is uint8 (H,W,3) in the network's colour order.
        """
        spec, table = self.manifest.input, self._normalised
        planes = () if spec.layout == "NHWC" else cv2.split(image)
        if spec.dtype == "uint8":
            return np.asarray(np.stack(planes), np.uint8)[None] if planes else image[None]
        if not planes:
            return np.asarray(cv2.LUT(image, table), np.float32)[None]
        x = np.empty((1, 3, *image.shape[:2]), np.float32)
        for c, plane in enumerate(planes):
            cv2.LUT(plane, table[:, :, c].copy(), dst=x[0, c])
        return x


def _normalised(spec: InputSpec) -> NDArray[np.float32]:
    """Return float32 (256,1,3): what each of 256 bytes becomes in each channel."""
    byte = np.arange(256.0)[:, None, None]
    mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
    return np.asarray((spec.scale * byte - mean) / std, np.float32)


def _sized(runtime: Runtime, wanted: str | Size) -> Runtime:
    """Return a runtime of the size that is wanted; ModelError where the network takes no such."""
    size, manifest = input_sizes.parse(wanted), runtime.manifest
    if size is None or size == manifest.input.size:
        return runtime
    if not runtime.takes_any_size:
        input_sizes.check(manifest.name, manifest.input, size)
    return runtime.at(size)


def _check_mode(mode: str, runtime: Runtime) -> None:
    manifest = runtime.manifest
    if mode not in MODES:
        raise ModelError(f"mode {mode!r} is neither of {', '.join(MODES)}")
    if mode == "fast":
        return
    spec, size = manifest.official, manifest.input.size
    if spec is None:
        raise ManifestError(
            f"the model {manifest.name!r} does not say how its official code tests it; set mode to "
            "fast"
        )
    if manifest.output.kind == "labels":
        raise ManifestError(
            f"the model {manifest.name!r} gives labels, and the official mode resizes scores; set "
            "mode to fast"
        )
    if not runtime.takes_any_size and not official_mode.can_feed(spec, size):
        raise ModelError(
            f"the official tests of {manifest.name!r} never show it images of {size[0]}x"
            f"{size[1]}, and this file takes no others: import its checkpoint as .pt, which takes "
            "any size, or set mode to fast"
        )


class _Stages:
    """Times of consecutive stages in milliseconds."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.times[name] = (now - self._last) * 1000
        self._last = now
