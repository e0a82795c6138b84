"""Image messages of random bytes, without ROS."""

from types import SimpleNamespace as Message

import numpy as np

from seg_perception.images import ENCODINGS


def raw(image: np.ndarray, kind: str, padding: int = 0, **changes: object) -> Message:
    """Return an Image message with `padding` bytes behind each row."""
    rows = image.reshape(image.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    fields = {
        "height": image.shape[0],
        "width": image.shape[1],
        "encoding": kind,
        "step": padded.shape[1],
        "data": padded.tobytes(),
        "header": Message(stamp=Message(sec=3, nanosec=7)),
    }
    return Message(**{**fields, **changes})


def pixels(encoding: str) -> np.ndarray:
    """Return random bytes of an image of 6 rows and 8 columns."""
    shape = ENCODINGS[encoding].shape(6, 8)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
