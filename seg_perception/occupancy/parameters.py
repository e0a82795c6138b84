"""Parameters of occupancy_node: each name, default, range and meaning stands once, here."""

from dataclasses import dataclass, fields
from typing import Any

from seg_perception.occupancy.settings import Settings
from seg_perception.parameters import Change, NodeParameters, parameter

_SETTINGS = Settings()


def _core(name: str, text: str, low: float, high: float) -> Any:
    """Return a field whose default is the mapper's."""
    default = getattr(_SETTINGS, name)
    return parameter(default, text, low=low, high=high, change=Change.UNCONFIGURED)


def _own(default: float, text: str, low: float, high: float) -> Any:
    """Return a field of the geometry that the mapper does not know."""
    return parameter(default, text, low=low, high=high, change=Change.UNCONFIGURED)


def _length(text: str) -> Any:
    return _own(0.0, f"metres, {text}", -100.0, 100.0)


def _angle(text: str) -> Any:
    return _own(0.0, f"radians, {text}", -6.3, 6.3)


def _cost(group: str) -> Any:
    return parameter(
        _SETTINGS.costs[group],
        f"of {group} in ~/grid/cost: 0 free, 100 lethal",
        name=f"costs.{group}",
        low=0,
        high=100,
        change=Change.UNCONFIGURED,
    )


@dataclass(frozen=True)
class ExtrinsicsParameters:
    """Where one camera is; with several, each has these under its name: `<camera>.camera_x`."""

    camera_frame: str = parameter(
        "",
        "optical frame of the camera (empty: the frame_id of the masks)",
        change=Change.UNCONFIGURED,
    )
    camera_x: float = _length("of the camera in base_frame, forward")
    camera_y: float = _length("of the camera in base_frame, to the left")
    camera_z: float = _length("of the camera above the ground of base_frame")
    camera_roll: float = _angle("around the camera's forward axis")
    camera_pitch: float = _angle("positive looks down")
    camera_yaw: float = _angle("positive looks to the left")


@dataclass(frozen=True)
class OccupancyParameters(ExtrinsicsParameters, NodeParameters):
    """Parameters of occupancy_node; with names in `cameras`, the mounts have their prefixes."""

    model: str = parameter(
        "default",
        "model file, or the name of a bundled one, whose manifest tells classes and groups",
        change=Change.UNCONFIGURED,
    )
    label_space: str = parameter(
        "model",
        "ids of the masks that come in: the model's classes, or groups",
        choices=("model", "groups"),
        change=Change.UNCONFIGURED,
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "names of several cameras: inputs <name>/label_mask ... (empty: one camera)",
        change=Change.UNCONFIGURED,
    )
    rectified: bool = parameter(
        False, "the segmented images are rectified: P counts, not K and D",
        change=Change.UNCONFIGURED,
    )  # fmt: skip
    pose_source: str = parameter(
        "auto",
        "tf, or parameters: camera_x ... and `odom`; auto is tf where tf2_ros is installed",
        choices=("auto", "tf", "parameters"),
        change=Change.UNCONFIGURED,
    )
    base_frame: str = parameter(
        "base_link", "frame whose plane z = 0 is the ground", change=Change.UNCONFIGURED
    )
    odom_frame: str = parameter(
        "odom", "frame of the grids, where odometry is known", change=Change.UNCONFIGURED
    )
    resolution: float = _core("resolution", "metres, the side of a cell", 0.01, 10.0)
    width: float = _core("width", "metres, the window along x", 0.1, 1000.0)
    height: float = _core("height", "metres, the window along y", 0.1, 1000.0)
    half_life: float = _core(
        "half_life", "seconds of the images' time in which evidence halves", 0.01, 1e6
    )
    max_range: float = _core(
        "max_range", "metres; ground and things farther away are not mapped", 0.1, 1000.0
    )
    min_pixels: int = _core(
        "min_pixels", "things of fewer pixels along a ray are label noise", 1, 1000
    )
    max_age: float = parameter(
        1.0, "seconds; older masks are counted and skipped (0: off)", low=0.0, high=3600.0
    )
    column_low: float = _own(0.1, "metres, the lowest point of raised obstacles", 0.0, 10.0)
    column_high: float = _own(0.9, "metres, the highest point of raised obstacles", 0.0, 10.0)
    column_step: float = _own(0.2, "metres between points of raised obstacles", 0.01, 10.0)
    costs_other: int = _cost("other")
    costs_drivable: int = _cost("drivable")
    costs_sidewalk: int = _cost("sidewalk")
    costs_obstacle: int = _cost("obstacle")
    costs_person: int = _cost("person")
    costs_vehicle: int = _cost("vehicle")
    costs_vegetation: int = _cost("vegetation")

    def settings(self) -> Settings:
        """Return what the mapper is told."""
        core = {f.name for f in fields(Settings)} & {f.name for f in fields(self)}
        costs = {g: getattr(self, f"costs_{g}", cost) for g, cost in _SETTINGS.costs.items()}
        return Settings(**{name: getattr(self, name) for name in core}, costs=costs)
