"""How the official code of a network tests it: the mode that published scores were measured in.

The picture keeps its ratio, large ones are met by sliding windows, and scores are resized twice: to
what the network saw and from there to the picture. The fast mode does one direct resize instead.
Source: the test pipelines and whole and slide inference of mmsegmentation 0.x; openseg's tester.
"""

from collections.abc import Callable, Iterator
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.decoding import resize_scores
from seg_perception.images import Fitted, resized
from seg_perception.manifest import OfficialSpec, OutputSpec

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Run = Callable[[Bytes], Floats]  # a picture (h,w,3) in the network's colour order -> scores (K,_,_)


def full_scores(picture: Bytes, spec: OfficialSpec, output: OutputSpec, run: Run) -> Floats:
    """Return the official class scores (K,H,W) of uint8 (H,W,3), at the picture's own size.

    `run` gives the network's scores before any upsampling, for pictures of the sizes that come up.
    """

    def scores_of(part: Bytes) -> Floats:
        size = (part.shape[0], part.shape[1])
        return resize_scores(run(part), size, align_corners=output.align_corners)

    seen = prepare(picture, spec)
    scores = slide(seen.image, spec, scores_of) if spec.crop else scores_of(seen.image)
    scores = scores[:, : seen.inside[0], : seen.inside[1]]
    size = (picture.shape[0], picture.shape[1])
    if spec.final == "cubic":
        planes = [cv2.resize(s, size[::-1], interpolation=cv2.INTER_CUBIC) for s in scores]
        return np.asarray(planes, np.float32)
    return resize_scores(scores, size, align_corners=output.align_corners)


def prepare(picture: Bytes, spec: OfficialSpec) -> Fitted:
    """Resize uint8 (H,W,3) by the official rules; `inside` is the part that is no padding."""
    height, width = picture.shape[:2]
    if spec.short:
        ratio = spec.short / min(height, width)
        if spec.long:
            ratio = min(ratio, spec.long / max(height, width))
        height, width = int(height * ratio + 0.5), int(width * ratio + 0.5)
        picture = resized(picture, (height, width))
    if spec.multiple > 1:
        height, width = (ceil(side / spec.multiple) * spec.multiple for side in (height, width))
        picture = resized(picture, (height, width))
    bottom, right = -height % spec.pad_multiple, -width % spec.pad_multiple
    if bottom or right:
        border = (cv2.BORDER_CONSTANT, None, spec.pad_color)
        picture = np.asarray(cv2.copyMakeBorder(picture, 0, bottom, 0, right, *border), np.uint8)
    return Fitted(picture, (height, width))


def slide(picture: Bytes, spec: OfficialSpec, scores_of: Run) -> Floats:
    """Return the mean scores (K,h,w) of all windows over uint8 (h,w,3); the last lie inside.

    A picture smaller than the window goes in as it is, as in the official code.
    """
    assert spec.crop is not None
    height, width = picture.shape[:2]
    total: Floats | None = None
    count = np.zeros((height, width), np.float32)
    for top in _starts(height, spec.crop[0], spec.stride[0]):
        for left in _starts(width, spec.crop[1], spec.stride[1]):
            rows, columns = slice(top, top + spec.crop[0]), slice(left, left + spec.crop[1])
            scores = scores_of(np.ascontiguousarray(picture[rows, columns]))
            if total is None:
                total = np.zeros((len(scores), height, width), np.float32)
            total[:, rows, columns] += scores
            count[rows, columns] += 1
    assert total is not None
    return np.asarray(total / count, np.float32)


def _starts(length: int, crop: int, stride: int) -> Iterator[int]:
    for i in range(max(length - crop + stride - 1, 0) // stride + 1):
        yield max(min(i * stride, length - crop), 0)
