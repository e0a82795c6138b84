"""From the messages of one image to a look: ids become groups, CameraInfo a camera."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import GeometryError, ImageError
from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.manifest import Manifest
from seg_perception.messages import stamp_ns, to_array, to_depth
from seg_perception.occupancy.camera import Camera
from seg_perception.occupancy.mapper import LabelFrame
from seg_perception.occupancy.synchronizer import Match

MASKS = ("mono8", "8UC1")


class MaskIds:
    """What the ids of a mask mean: groups for the map, names to compare with LabelInfo's."""

    def __init__(self, manifest: Manifest, label_space: str) -> None:
        """Take the classes of a model, or the groups that its masks were given."""
        self.groups = manifest.label_space("groups")
        self._names = dict(manifest.label_space(label_space).class_map())
        self._lut = self.groups.lut
        if label_space == "groups":
            self._lut = np.full(256, UNKNOWN, np.uint8)
            self._lut[: len(GROUPS)] = np.arange(len(GROUPS))

    def to_groups(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the group of each pixel; 255 for void and for ids that are no class."""
        return self._lut[labels]

    def disagreement(self, listed: Iterable[tuple[int, str]]) -> str:
        """Return how the (id, name) of a LabelInfo differ from ours, or an empty string."""
        theirs = dict(listed)
        for i in sorted(theirs.keys() | self._names.keys()):
            if theirs.get(i) != self._names.get(i):
                return (
                    f"label_info calls id {i} {theirs.get(i, 'nothing')!r}, the model calls it "
                    f"{self._names.get(i, 'nothing')!r}: give this node the model and label_space "
                    "of the node that makes the masks"
                )
        return ""


def read_label_frame(
    match: Match, ids: MaskIds, *, name: str, frame: str, rectified: bool
) -> LabelFrame:
    """Return what the mapper adds; `name` is the camera's, `frame` its optical frame's.

    Raises ImageError for a mask, confidence or depth that cannot be read, GeometryError for a
    CameraInfo that is missing or cannot be.
    """
    mask, header = match.mask, match.mask.header
    labels = _plane(mask, "label_mask")
    confidence = depth = None
    if match.confidence is not None:
        confidence = np.ascontiguousarray(_plane(match.confidence, "confidence"))
        _check_same_size(confidence, labels, "confidence", "take both from one segmentation")
    if match.depth is not None:
        depth = to_depth(match.depth)
        _check_same_size(depth, labels, "depth", "register it to the image that is segmented")
    if match.info is None:
        raise GeometryError(
            f"no CameraInfo of frame {str(header.frame_id)!r} yet: publish camera_info with the "
            "frame_id of the masks"
        )
    camera = Camera.from_info(match.info, labels.shape, rectified=rectified)
    groups = ids.to_groups(labels)
    return LabelFrame(groups, confidence, camera, name, frame, stamp_ns(header), depth)


def _check_same_size(
    plane: NDArray[Any], labels: NDArray[np.uint8], what: str, advice: str
) -> None:
    if plane.shape != labels.shape:
        raise ImageError(
            f"{what} is {plane.shape[1]}x{plane.shape[0]} but label_mask is "
            f"{labels.shape[1]}x{labels.shape[0]}: {advice}"
        )


def _plane(message: Any, what: str) -> NDArray[np.uint8]:
    """Return the pixels uint8 (H,W) of an image of one byte a pixel."""
    if message.encoding not in MASKS:
        raise ImageError(
            f"{what} is {str(message.encoding)[:40]!r}; send mono8 (PNG or raw: JPEG destroys ids)"
        )
    return to_array(message)
