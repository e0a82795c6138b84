"""From what a network gives to labels of the image's size, as its manifest says."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import decoding
from seg_perception.errors import ModelError
from seg_perception.labels import UNKNOWN
from seg_perception.manifest import Manifest, OutputSpec

Floats = NDArray[np.float32]
Shape = tuple[int | str | None, ...]  # a name or None: known at run time alone


class Masks(NamedTuple):
    """What a network of queries gives: masks in the manifest's layout, class logits (1,Q,K+1).

    Arrays, or tensors where torch runs it.
    """

    planes: Any
    class_logits: Any


def arrays(y: Any) -> tuple[NDArray[Any], ...]:
    """Return all arrays of what a network gave."""
    return tuple(np.asarray(part) for part in (y if isinstance(y, Masks) else (y,)))


def decode(
    y: NDArray[Any] | Masks,
    manifest: Manifest,
    inside: tuple[int, int],
    size: tuple[int, int],
    *,
    with_confidence: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return model classes uint8 (H,W) of `size`, and confidence uint8 (H,W) where asked for.

    `y` covers the network's input, of which `inside` (height, width) from the top left is image.
    A network that gives labels has no confidence to ask for.
    """
    spec, whole = manifest.output, manifest.input.size
    corners = spec.align_corners
    if isinstance(y, Masks):
        planes = _cropped(planes_first(y.planes, spec.layout), inside, whole)
        return decoding.decode_masks(
            planes, shares(y), size, align_corners=corners, with_confidence=with_confidence
        )
    if spec.kind == "labels":
        plane = _cropped(_label_plane(y, spec.layout), inside, whole)
        return decoding.decode_labels(plane, size), None
    scores = np.ascontiguousarray(_cropped(planes_first(y, spec.layout), inside, whole))
    way = spec.interpolation
    labels = decoding.decode_scores(scores, size, align_corners=corners, interpolation=way)
    if not with_confidence:
        return labels, None
    sure = decoding.decode_confidence(
        scores, size, kind=spec.kind, align_corners=corners, interpolation=way
    )
    return labels, sure


def class_scores(y: NDArray[Any] | Masks, manifest: Manifest) -> Floats:
    """Return (K,h,w) of a network's scores, a view where the layout allows.

    Masks of queries become scores of classes only after their resize: here, to the input's size.
    """
    spec = manifest.output
    if not isinstance(y, Masks):
        return planes_first(y, spec.layout)
    planes = planes_first(y.planes, spec.layout)
    full = decoding.resize_scores(planes, manifest.input.size, align_corners=spec.align_corners)
    scores = shares(y).T @ decoding.sigmoid(full).reshape(len(full), -1)
    return np.asarray(scores.reshape(-1, *manifest.input.size), np.float32)


def shares(y: Masks) -> Floats:
    """Return (Q,K): how much of each query's mask is of each class, by the softmax."""
    logits = np.asarray(y.class_logits[0], np.float32)
    e = np.exp(logits - logits.max(1, keepdims=True))
    return np.ascontiguousarray((e / e.sum(1, keepdims=True))[:, :-1])


def planes_first(y: NDArray[Any], layout: str) -> Floats:
    """Return (C,h,w) of an output of one image, a view where the layout allows."""
    if layout == "NCHW":
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
    """Return how many rows and columns of a map of `shape` (h,w) show image, not padding."""
    return (
        max(1, round(shape[0] * inside[0] / whole[0])),
        max(1, round(shape[1] * inside[1] / whole[1])),
    )


def label_axes(shape: Shape, layout: str = OutputSpec.layout) -> tuple[int, int] | None:
    """Return the axes of height and width of a label map, None where it is not one.

    Of (1,1,H,W) and (1,H,W,1) the extents tell; `layout` decides where both fit.
    """
    places = {2: [(0, 1)], 3: [(1, 2)], 4: [(2, 3), (1, 2)]}.get(len(shape), [])
    if layout == "NHWC":
        places.reverse()
    for axes in places:
        if agrees([n for i, n in enumerate(shape) if i not in axes], [1] * (len(shape) - 2)):
            return axes
    return None


def agrees(shape: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether the extents that both know are equal."""
    return len(shape) == len(wanted) and all(
        n == m or not isinstance(n, int) or m is None for n, m in zip(shape, wanted, strict=True)
    )
