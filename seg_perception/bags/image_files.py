"""Image files."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def read_image(path: Path, flags: int) -> NDArray[Any] | None:
    """Return what cv2.imread does, of any name: it crashes on one that is no UTF-8."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, flags) if data.size else None
