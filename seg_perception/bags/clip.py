"""Images of the bundled clip."""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from seg_perception import messages
from seg_perception.bags.bag import BagReader

TOPIC = "/camera/image/compressed"


def bundled_images(count: int) -> list[NDArray[np.uint8]]:
    """Return `count` images of the bundled clip, evenly spaced, BGR uint8 (360,480,3)."""
    clip = resources.files("seg_perception") / "clip"
    with resources.as_file(clip / "bag") as path, BagReader(path) as bag:
        sent = list(bag.messages([TOPIC]))
    return [messages.decode(m).image for m in sent[:: max(1, len(sent) // count)][:count]]
