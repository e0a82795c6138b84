"""An image in, a label image of the image's own size out.

`Segmenter.load(path_or_name)` returns something callable; it knows no ROS and no torch.
"""

import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import decoding, images, runtimes, weights
from seg_perception.decoding import official_mode
from seg_perception.errors import ManifestError, ModelError
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

    def __init__(self, runtime: Runtime, *, label_space: str = "model", mode: str = "fast") -> None:
        """Wrap a loaded runtime and warm everything that the first image would wait for.

        `mode` fast resizes once, straight to the network and back; official does what the code
        that published the network's scores does, and takes its time.
        """
        self._runtime = runtime
        self.manifest: Manifest = runtime.manifest
        self.provider: str = runtime.provider
        self.space = self.manifest.label_space(label_space)
        self.mode = mode
        _check_mode(mode, runtime)
        self._normalised = _normalised(self.manifest.input)
        decoding.warm_up()
        noise = np.random.default_rng(0).integers(0, 256, (*self.manifest.input.size, 3))
        for _ in range(WARM_UPS if mode == "fast" else 0):
            self(noise.astype(np.uint8))

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
    ) -> "Segmenter":
        """Load a model file, .onnx or .pt, or a bundled model by its name: `default`, `tiny`.

        Raises ModelError, ManifestError or ProviderError; each says what to do.
        """
        path = weights.resolve(path_or_name)
        runtime = runtimes.load(path, provider=provider, threads=threads, precision=precision)
        return cls(runtime, label_space=label_space, mode=mode)

    @property
    def gives_confidence(self) -> bool:
        """Whether the model's output tells more than labels."""
        return self.manifest.output.kind != "labels"

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
        spec = self.manifest.input
        fitted = images.fit(image, spec.size, spec.resize, spec.pad_value)
        x = self.to_input(fitted.image)
        clock.stage("preprocess")
        y = self._runtime.run(x)
        clock.stage("network")
        size = (image.shape[0], image.shape[1])
        return self._runtime.decode(y, fitted.inside, size, with_confidence=with_confidence)

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
