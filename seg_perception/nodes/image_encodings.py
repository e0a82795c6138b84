"""Images of any encoding: ours by our own table, others through cv_bridge where it is installed.

The one place that knows cv_bridge.
"""

from typing import Any

import numpy as np

from seg_perception import messages
from seg_perception.errors import ImageError
from seg_perception.images import ENCODINGS, DecodedImage, check_size

try:
    from cv_bridge import CvBridge
except ImportError:
    CvBridge = None

MISSING = (
    "cv_bridge, which converts further encodings (16 bit and float among them), is not installed: "
    "install ros-<distro>-cv-bridge, or set the camera to one of {}"
)


def decode(message: Any) -> DecodedImage:
    """Return the image of an Image or a CompressedImage; ImageError says what is wrong."""
    if hasattr(message, "format") or message.encoding in ENCODINGS:
        return messages.decode(message)
    check_size(int(message.height), int(message.width))
    name = repr(message.encoding[:40])
    if CvBridge is None:
        raise ImageError(f"encoding {name}: {MISSING.format(', '.join(ENCODINGS))}")
    try:
        image = CvBridge().imgmsg_to_cv2(message, "bgr8")
    except Exception as error:  # it raises CvBridgeError, TypeError, ValueError, cv2.error ...
        raise ImageError(f"encoding {name}: cv_bridge cannot convert it: {error}") from error
    return DecodedImage(np.asarray(image, np.uint8), "bgr8")
