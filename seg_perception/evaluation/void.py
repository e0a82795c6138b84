"""Which ids of a label image count."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from seg_perception.labels import UNKNOWN


def counted_ids(classes: int, void_ids: Collection[int] = ()) -> NDArray[np.uint8]:
    """Return a table uint8 (256,): ids 0..classes-1 as they are, void and all others 255."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[:classes] = np.arange(classes)
    table[list(void_ids)] = UNKNOWN
    return table
