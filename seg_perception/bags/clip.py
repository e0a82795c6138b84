"""Images of the bundled clip."""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import bag_parts

TOPIC = "/camera/image/compressed"


def bundled_images(count: int) -> list[NDArray[np.uint8]]:
    """Return `count` images of the bundled clip, evenly spaced, BGR uint8 (360,480,3)."""
    clip = resources.files("seg_perception") / "clip"
    with resources.as_file(clip / "bag") as path:
        frames = [f for part in bag_parts(path, TOPIC, [TOPIC]) for f in part.frames]
    return [frame.image for frame in frames[:: max(1, len(frames) // count)][:count]]
