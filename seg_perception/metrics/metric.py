"""What can be counted over the images of a recording, in parts that add up.

A metric is one file of this folder, with the class as its METRIC, and one line in registry.METRICS.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.frames import Key
from seg_perception.manifest import Manifest
from seg_perception.metrics.description import Description
from seg_perception.occupancy.camera import Pose

State = dict[str, Any]  # numbers, text, arrays of them (of no objects), and dicts of all that


class LabelledFrame(NamedTuple):
    """One image: uint8 BGR (H,W,3), and uint8 (H,W) ids of the model's classes, 255 unknown.

    `truth` holds ids of classes or void; it and `confidence` (softmax x 255) are None where there
    is none.
    """

    key: Key
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None


class MountedCamera(NamedTuple):
    """A camera on its robot: its CameraInfo, and `mount`, which takes its body's axes into base.

    `rectified` says that the images are rectified already.
    """

    info: Any
    mount: Pose
    rectified: bool = False


class Context(NamedTuple):
    """What is known before the first image: the network, the void ids of the truth, the camera.

    `camera` is None unless a metric of the run needs it, and where the recording has none.
    """

    manifest: Manifest
    void_ids: Collection[int]
    camera: MountedCamera | None = None


class Metric(Protocol):
    """Something that is counted image by image, in the order of the recording.

    A recording may be counted in parts, by several processes or after an interruption: a part's
    `state` is merged into that of the part before, and the result is that of one run, bit for bit.
    Of the image before a part a metric with `needs_previous` gets a view that it does not count.
    """

    name: str  # its key in report.json, and in --measure
    needs_truth: bool
    needs_confidence: bool
    needs_previous: bool
    needs_camera: bool

    @classmethod
    def create(cls, context: Context) -> "Metric":
        """Return one that has counted nothing; UsageError where the context does not allow it."""
        ...

    def observe_previous(self, view: LabelledFrame) -> None:
        """Observe an image that another part counts."""
        ...

    def add(self, view: LabelledFrame) -> None:
        """Count an image; DataError where it does not fit what came before."""
        ...

    def state(self) -> State:
        """Return all that was counted."""
        ...

    def merge(self, later: State) -> None:
        """Add what was counted of the images that follow."""
        ...

    def result(self) -> dict[str, Any] | None:
        """Return what report.json says under `name`; None where nothing could be counted."""
        ...

    @staticmethod
    def describe(result: Mapping[str, Any]) -> Description:
        """Return what tables and pages show of a result."""
        ...
