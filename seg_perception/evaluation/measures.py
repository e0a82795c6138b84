"""The measures that are counted on request; free to import."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from seg_perception.errors import UsageError

if TYPE_CHECKING:
    from seg_perception.evaluation.measure import Measure
    from seg_perception.evaluation.occupancy_error import Mounted
    from seg_perception.manifest import Manifest

MEASURES = {
    "boundary": "IoU near the contours of classes",
    "calibration": "whether confidence tells how often a label is right",
    "flicker": "labels that change from picture to picture where what is seen does not",
    "occupancy": "errors of the map of the ground; needs CameraInfo and the camera's place",
}


def make(
    names: Collection[str],
    manifest: "Manifest",
    void_ids: Collection[int],
    mounted: "Mounted | None" = None,
) -> "tuple[Measure, ...]":
    """Return the measures of these names, each once; UsageError for one that cannot be."""
    from seg_perception.evaluation.boundary import BoundaryIou
    from seg_perception.evaluation.calibration import Calibration
    from seg_perception.evaluation.flicker import Flicker
    from seg_perception.evaluation.occupancy_error import OccupancyError

    def occupancy() -> OccupancyError:
        if mounted is None:
            raise UsageError(
                "occupancy needs CameraInfo and the camera's place on the robot; give --bag with "
                "camera_info in it, and --camera-z, or leave this measure out"
            )
        return OccupancyError(manifest.label_space("groups").lut, void_ids, mounted)

    makers: dict[str, Callable[[], Measure]] = {
        "boundary": lambda: BoundaryIou(manifest.classes, void_ids),
        "calibration": lambda: Calibration(len(manifest.classes), void_ids),
        "flicker": lambda: Flicker(manifest.classes),
        "occupancy": occupancy,
    }
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no measure; choose from {', '.join(MEASURES)}")
    return tuple(makers[name]() for name in dict.fromkeys(names))
