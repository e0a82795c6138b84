"""From what a network gives to labels of the picture's size, as its manifest says."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import decoding
from seg_perception.errors import ModelError
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import Manifest
from seg_perception.runtimes.agreement import label_axes


def decode(
    y: NDArray[Any],
    manifest: Manifest,
    inside: tuple[int, int],
    size: tuple[int, int],
    *,
    with_confidence: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return model classes uint8 (H,W) of `size`, and confidence uint8 (H,W) where asked for.

    `y` covers the network's input, of which `inside` (height, width) from the top left is picture.
    A network that gives labels has no confidence to ask for.
    """
    spec, whole = manifest.output, manifest.input.size
    if spec.kind == "labels":
        plane = _cropped(_label_plane(y, spec.layout), inside, whole)
        return decoding.decode_labels(plane, size), None
    scores = np.ascontiguousarray(_cropped(class_scores(y, manifest), inside, whole))
    labels = decoding.decode_scores(scores, size, align_corners=spec.align_corners)
    if not with_confidence:
        return labels, None
    probabilities = spec.kind == "probabilities"
    sure = decoding.decode_confidence(
        scores, size, probabilities=probabilities, align_corners=spec.align_corners
    )
    return labels, sure


def class_scores(y: NDArray[Any], manifest: Manifest) -> NDArray[np.float32]:
    """Return (K,h,w) of a network's logits or probabilities, a view where the layout allows."""
    if manifest.output.layout == "NCHW":
        return np.asarray(y[0], np.float32)
    height, width, count = y[0].shape
    flat = np.asarray(cv2.transpose(y[0].reshape(-1, count)), np.float32)
    return flat.reshape(count, height, width)


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


def _cropped(plane: NDArray[Any], inside: tuple[int, int], whole: tuple[int, int]) -> NDArray[Any]:
    """Cut the padding off the last two axes of a map that covers `whole` input pixels."""
    if inside == whole:
        return plane
    rows, columns = inside_of(plane.shape[-2:], inside, whole)
    return plane[..., :rows, :columns]


def inside_of(
    shape: tuple[int, ...], inside: tuple[int, int], whole: tuple[int, int]
) -> tuple[int, int]:
    """Return how many rows and columns of a map of `shape` (h,w) show picture, not padding."""
    return (
        max(1, round(shape[0] * inside[0] / whole[0])),
        max(1, round(shape[1] * inside[1] / whole[1])),
    )
