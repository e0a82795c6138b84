"""Images for people: class colours over the camera image, with a legend."""

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.labels import LabelSpace

Image = NDArray[np.uint8]

FONT = cv2.FONT_HERSHEY_SIMPLEX
MAX_LEGEND_ROWS = 14


def draw_overlay(
    image: Image, labels: NDArray[np.uint8], space: LabelSpace, *, alpha: float = 0.5
) -> Image:
    """Return uint8 (H,W,3) BGR: `image` (BGR) under the colours of `labels` (H,W), and a legend.

    `alpha` 1 shows the class colours alone. Unknown pixels (255) are
    darkened. The legend lists the ids in the image, the largest ones when there are too many.
    """
    painted = paint(labels, space)
    overlay = np.asarray(cv2.addWeighted(image, 1 - alpha, painted, alpha, 0), np.uint8)
    return _draw_legend(overlay, labels, space)


def paint(labels: NDArray[np.uint8], space: LabelSpace) -> Image:
    """Return uint8 (H,W,3) BGR: each pixel in the colour of its id, unknown black."""
    bgr = np.ascontiguousarray(space.colours[None, :, ::-1])  # 1 256 3
    return np.asarray(cv2.LUT(cv2.merge([labels, labels, labels]), bgr), np.uint8)


def _draw_legend(image: Image, labels: NDArray[np.uint8], space: LabelSpace) -> Image:
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256])[:, 0]
    present = [i for i, _ in space.class_map() if counts[i] > 0]
    if len(present) > MAX_LEGEND_ROWS:
        present = sorted(sorted(present, key=lambda i: -counts[i])[:MAX_LEGEND_ROWS])
    scale = max(0.35, image.shape[0] / 1200)
    row = round(40 * scale)
    if not present or row * len(present) + 8 > image.shape[0]:
        return image
    text = max(cv2.getTextSize(space.names[i], FONT, scale, 1)[0][0] for i in present)
    box = image[4 : 8 + row * len(present), 4 : 12 + row + text]
    box[:] = box // 3
    for k, i in enumerate(present):
        top = 6 + k * row
        colour = tuple(int(c) for c in space.colours[i][::-1])
        cv2.rectangle(image, (8, top + 2), (4 + row - 4, top + row - 4), colour, cv2.FILLED)
        at = (6 + row, top + row - round(row * 0.3))
        cv2.putText(image, space.names[i], at, FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return image
