"""How the official code of a network tests it: the mode that published scores were measured in.

The image keeps its ratio, large ones are met by sliding windows, and scores are resized twice: to
what the network saw and from there to the image. The fast mode does one direct resize instead.
Source: the test pipelines and whole and slide inference of mmsegmentation 0.x; openseg's tester.
"""

from collections.abc import Callable, Iterator
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding import decode_confidence, decode_scores, resize_scores, sigmoid
from seg_perception.images import Fitted, resized
from seg_perception.manifest import OfficialSpec, OutputSpec

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Run = Callable[[Bytes], Floats]  # an image (h,w,3) in the network's colour order -> scores (K,_,_)


def segment(
    image: Bytes, spec: OfficialSpec, output: OutputSpec, run: Run, *, with_confidence: bool
) -> tuple[Bytes, Bytes | None]:
    """Return the official labels uint8 (H,W) of uint8 (H,W,3), and confidence where asked for.

    `run` gives the network's scores before any upsampling, for images of the sizes that come up.
    The scores of all classes never exist at the image's size.
    """
    scores = scores_of_what_is_seen(image, spec, output, run)
    size = (image.shape[0], image.shape[1])
    # Of queries the sigmoid and the sum are done, before the scores are resized to the image.
    kind = "probabilities" if output.is_of_queries else output.kind
    if spec.final == "cubic":
        return cubic_labels(scores, size, kind=kind, with_confidence=with_confidence)
    corners = output.align_corners
    labels = decode_scores(scores, size, align_corners=corners)
    if not with_confidence:
        return labels, None
    return labels, decode_confidence(scores, size, kind=kind, align_corners=corners)


def scores_of_what_is_seen(
    image: Bytes, spec: OfficialSpec, output: OutputSpec, run: Run
) -> Floats:
    """Return class scores (K,h,w), one for each pixel of the prepared image, padding cut off."""

    def scores_of(part: Bytes) -> Floats:
        size = (part.shape[0], part.shape[1])
        return resize_scores(run(part), size, align_corners=output.align_corners)

    seen = prepare(image, spec)
    scores = slide(seen.image, spec, scores_of) if spec.crop else scores_of(seen.image)
    return np.ascontiguousarray(scores[:, : seen.inside[0], : seen.inside[1]])


def cubic_labels(
    scores: Floats, size: tuple[int, int], *, kind: str, with_confidence: bool
) -> tuple[Bytes, Bytes | None]:
    """Resize scores (K,h,w) by OpenCV's INTER_CUBIC to `size`, and return labels and confidence.

    Class by class: the best so far is kept and, for the softmax, the sum of exp(score - best).
    """
    best: Floats = np.full(size, -np.inf, np.float32)
    total: Floats = np.zeros(size, np.float32)
    labels = np.zeros(size, np.uint8)
    for k, plane in enumerate(scores):
        score = np.asarray(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_CUBIC))
        better = score > best
        if with_confidence and kind == "logits":
            gap = np.exp(-np.abs(score - best))  # of two scores, the smaller over the larger
            total = np.where(better, total * gap + 1, total + gap)
        labels[better] = k
        np.copyto(best, score, where=better)
    if not with_confidence:
        return labels, None
    share = np.reciprocal(np.maximum(total, 1)) if kind == "logits" else np.clip(best, 0, 1)
    if kind == "masks":
        share = sigmoid(best)
    share[np.isnan(share)] = 0
    return labels, (share * 255 + 0.5).astype(np.uint8)


def can_feed(spec: OfficialSpec, size: tuple[int, int]) -> bool:
    """Whether there may be images that the rules bring to the network at `size` (height, width).

    With windows that is their size, or less where the whole image is smaller than a window.
    """
    short, long = sorted(size)
    if spec.crop:
        if size == spec.crop:
            return True
        if any(side > most for side, most in zip(size, spec.crop, strict=True)):
            return False
        if any(side == most for side, most in zip(size, spec.crop, strict=True)):
            return True
    if short % spec.pad_multiple or long % spec.pad_multiple:
        return False
    if not spec.short:
        return True
    most, limit = (_whole(side, spec) for side in (spec.short, spec.long))
    return (short == most and (long <= limit or not limit)) or (short < most and long == limit)


def _whole(side: int, spec: OfficialSpec) -> int:
    """Return what a side becomes by the two multiples."""
    for multiple in (spec.multiple, spec.pad_multiple):
        side = ceil(side / multiple) * multiple
    return side


def prepare(image: Bytes, spec: OfficialSpec) -> Fitted:
    """Resize uint8 (H,W,3) by the official rules; `inside` is the part that is no padding."""
    height, width = image.shape[:2]
    if spec.short:
        ratio = spec.short / min(height, width)
        if spec.long:
            ratio = min(ratio, spec.long / max(height, width))
        height, width = (max(1, int(side * ratio + 0.5)) for side in (height, width))
        image = resized(image, (height, width))
    if spec.multiple > 1:
        height, width = (ceil(side / spec.multiple) * spec.multiple for side in (height, width))
        image = resized(image, (height, width))
    bottom, right = -height % spec.pad_multiple, -width % spec.pad_multiple
    if bottom or right:
        border = (cv2.BORDER_CONSTANT, None, spec.pad_color)
        image = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, *border), np.uint8)
    return Fitted(image, (height, width))


def slide(image: Bytes, spec: OfficialSpec, scores_of: Run) -> Floats:
    """Return the mean scores (K,h,w) of all windows over uint8 (h,w,3); the last lie inside.

    An image smaller than the window goes in as it is, as in the official code.
    """
    assert spec.crop is not None
    height, width = image.shape[:2]
    total: Floats | None = None
    count = np.zeros((height, width), np.float32)
    for top in _starts(height, spec.crop[0], spec.stride[0]):
        for left in _starts(width, spec.crop[1], spec.stride[1]):
            rows, columns = slice(top, top + spec.crop[0]), slice(left, left + spec.crop[1])
            scores = scores_of(np.ascontiguousarray(image[rows, columns]))
            if total is None:
                total = np.zeros((len(scores), height, width), np.float32)
            total[:, rows, columns] += scores
            count[rows, columns] += 1
    assert total is not None
    total /= count
    return total


def _starts(length: int, crop: int, stride: int) -> Iterator[int]:
    for i in range(max(length - crop + stride - 1, 0) // stride + 1):
        yield max(min(i * stride, length - crop), 0)
