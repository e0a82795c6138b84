"""A picture in, a label image of the picture's own size out.

`Segmenter.load(path_or_name)` returns something callable; it knows no ROS and no torch.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import decoding, images, weights
from seg_perception.errors import ModelError
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import InputSpec, Manifest
from seg_perception.runtimes import Runtime
from seg_perception.runtimes.agreement import label_axes
from seg_perception.runtimes.onnx import OnnxRuntime

WARM_UPS = 3  # ONNX Runtime still lays out its memory in the second run


class Segmentation(NamedTuple):
    """Labels uint8 (H,W), 255 unknown; confidence uint8 (H,W) or None; stage times in ms."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None
    timing: dict[str, float]


class Segmenter:
    """Run one model: fit the picture, run the network, decode exact labels."""

    def __init__(self, runtime: Runtime, *, label_space: str = "model") -> None:
        """Wrap a loaded runtime and warm everything that the first picture would wait for."""
        self._runtime = runtime
        self.manifest: Manifest = runtime.manifest
        self.provider: str = runtime.provider
        self.space = self.manifest.label_space(label_space)
        self._normalised = _normalised(self.manifest.input)
        decoding.warm_up()
        noise = np.random.default_rng(0).integers(0, 256, (*self.manifest.input.size, 3))
        for _ in range(WARM_UPS):
            self(noise.astype(np.uint8))

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        *,
        provider: str = "cpu",
        threads: int = 1,
        label_space: str = "model",
    ) -> "Segmenter":
        """Load a model file, or the bundled model by the name `default`.

        Raises ModelError, ManifestError or ProviderError; each says what to do.
        """
        runtime = OnnxRuntime(weights.resolve(path_or_name), provider=provider, threads=threads)
        return cls(runtime, label_space=label_space)

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
        """Segment one picture, uint8 (H,W,C) or (H,W) in `encoding`.

        Labels below `min_confidence` (0..1) become 255; `confidence` is None when it was not asked
        for or the model gives labels alone. Raises ImageError for a picture that does not fit,
        ModelError when min_confidence is set for a model without confidence.
        """
        self.check_min_confidence(min_confidence)
        clock = _Stages()
        spec = self.manifest.input
        picture = images.convert(image, encoding, spec.color)
        fitted = images.fit(picture, spec.size, spec.resize, spec.pad_value)
        x = self.to_input(fitted.image)
        clock.stage("preprocess")
        y = self._runtime.run(x)
        clock.stage("network")
        wanted = self.gives_confidence and (confidence or min_confidence > 0)
        labels, sure = self._decode(y, fitted.inside, picture.shape[:2], wanted)
        labels = np.asarray(cv2.LUT(labels, self.space.lut), np.uint8)
        if sure is not None and min_confidence > 0:
            labels[sure < min_confidence * 255] = 255
        clock.stage("decode")
        return Segmentation(labels, sure if confidence else None, clock.times)

    def to_input(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Normalise and lay out a picture as the manifest says; a view when it takes bytes.

        `image` is uint8 (H,W,3) of the network's size and in its colour order.
        """
        spec, table = self.manifest.input, self._normalised
        planes = () if spec.layout == "NHWC" else cv2.split(image)
        if spec.dtype == "uint8":
            return np.asarray(np.stack(planes), np.uint8)[None] if planes else image[None]
        if not planes:
            return np.asarray(cv2.LUT(image, table), np.float32)[None]
        x = np.empty(spec.shape, np.float32)
        for c, plane in enumerate(planes):
            cv2.LUT(plane, table[:, :, c].copy(), dst=x[0, c])
        return x

    def _decode(
        self,
        y: NDArray[np.float32],
        inside: tuple[int, int],
        size: tuple[int, int],
        with_confidence: bool,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Turn the network's output into model classes and confidence of the picture's size."""
        spec, whole = self.manifest.output, self.manifest.input.size
        if spec.kind == "labels":
            plane = _cropped(_label_plane(y, spec.layout), inside, whole)
            return decoding.decode_labels(plane, size), None
        scores = y[0] if spec.layout == "NCHW" else _channels_first(y[0])
        scores = np.ascontiguousarray(_cropped(scores, inside, whole))
        labels = decoding.decode_scores(scores, size, align_corners=spec.align_corners)
        if not with_confidence:
            return labels, None
        sure = decoding.decode_confidence(
            scores,
            size,
            probabilities=spec.kind == "probabilities",
            align_corners=spec.align_corners,
        )
        return labels, sure


def _normalised(spec: InputSpec) -> NDArray[np.float32]:
    """Return float32 (256,1,3): what each of 256 bytes becomes in each channel."""
    byte = np.arange(256.0)[:, None, None]
    mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
    return np.asarray((spec.scale * byte - mean) / std, np.float32)


def _label_plane(y: NDArray[Any], layout: str) -> NDArray[np.uint8]:
    """Return uint8 (h,w) of a label map of any shape and type; what is no byte becomes 255."""
    axes = label_axes(y.shape, layout)
    if axes is None:
        raise ModelError(f"the network gave labels of shape {y.shape}; import the model again")
    plane = y.reshape([y.shape[axis] for axis in axes])
    if plane.dtype == np.uint8:
        return plane
    unsigned = plane.view(f"u{plane.itemsize}")  # a negative id becomes a large one
    return np.asarray(np.minimum(unsigned, UNKNOWN), np.uint8)


def _channels_first(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (K,h,w) of (h,w,K)."""
    height, width, count = scores.shape
    flat = np.asarray(cv2.transpose(scores.reshape(-1, count)), np.float32)
    return flat.reshape(count, height, width)


def _cropped(plane: NDArray[Any], inside: tuple[int, int], whole: tuple[int, int]) -> NDArray[Any]:
    """Cut the padding off the last two axes of a map that covers `whole` input pixels."""
    if inside == whole:
        return plane
    height, width = plane.shape[-2:]
    rows = max(1, round(height * inside[0] / whole[0]))
    columns = max(1, round(width * inside[1] / whole[1]))
    return plane[..., :rows, :columns]


class _Stages:
    """Times of consecutive stages in milliseconds."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.times[name] = (now - self._last) * 1000
        self._last = now
