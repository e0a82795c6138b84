"""Parameters of the nodes: each name, default, range and meaning stands once, here.

Knows no ROS: nodes/params.py declares ROS parameters from these classes.
"""

import re
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple

from seg_perception.occupancy.settings import Settings
from seg_perception.runtimes import PRECISIONS

_SETTINGS = Settings()


class Change(Enum):
    """When a parameter may be set."""

    ALWAYS = "at any time"
    UNCONFIGURED = "while the node is unconfigured (deactivate and clean up first)"
    START = "at start only"


class Spec(NamedTuple):
    """What is known of one parameter besides its default."""

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    change: Change = Change.ALWAYS

    def problem(self, name: str, value: Any) -> str:
        """Return why `value` cannot be taken, or an empty string."""
        if isinstance(value, list | tuple):
            return _names_problem(name, value)
        if self.choices and value not in self.choices:
            return f"{name} is {value!r}; choose one of {', '.join(self.choices)}"
        if self.low is not None and not value >= self.low:  # nor NaN
            return f"{name} is {value}, below {self.low}"
        if self.high is not None and value > self.high:
            return f"{name} is {value}, above {self.high}"
        return ""


def _names_problem(name: str, values: Sequence[Any]) -> str:
    bad = [v for v in values if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", str(v))]
    if bad:
        return (
            f"{name} holds {bad[0]!r}; a name has letters, digits and _, and starts with a letter"
        )
    doubled = sorted({v for v in values if list(values).count(v) > 1})
    return f"{name} holds {doubled[0]!r} twice" if doubled else ""


def _parameter(default: Any, text: str, *, name: str = "", **known: Any) -> Any:
    """Return a field; `name` is the parameter's where a field cannot be called so: it has dots."""
    return field(default=default, metadata={"spec": Spec(text, **known), "name": name})


def name_of(entry: "Field[Any]") -> str:
    """Return the parameter's name of a dataclass's field."""
    return str(entry.metadata["name"] or entry.name)


def specs(parameters: type) -> dict[str, Spec]:
    """Return the Spec of each parameter by name."""
    return {name_of(f): f.metadata["spec"] for f in fields(parameters)}


def _core(name: str, text: str, low: float, high: float) -> Any:
    """Return a field whose default is the mapper's."""
    default = getattr(_SETTINGS, name)
    return _parameter(default, text, low=low, high=high, change=Change.UNCONFIGURED)


def _own(default: float, text: str, low: float, high: float) -> Any:
    """Return a field of the geometry that the mapper does not know."""
    return _parameter(default, text, low=low, high=high, change=Change.UNCONFIGURED)


def _length(text: str) -> Any:
    return _own(0.0, f"metres, {text}", -100.0, 100.0)


def _angle(text: str) -> Any:
    return _own(0.0, f"radians, {text}", -6.3, 6.3)


def _cost(group: str) -> Any:
    return _parameter(
        _SETTINGS.costs[group],
        f"of {group} in ~/grid/cost: 0 free, 100 lethal",
        name=f"costs.{group}",
        low=0,
        high=100,
        change=Change.UNCONFIGURED,
    )


@dataclass(frozen=True)
class NodeParameters:
    """Parameters of every node."""

    qos_reliability: str = _parameter(
        "auto",
        "of the subscriptions; auto is reliable while every publisher offers it",
        choices=("auto", "reliable", "best_effort"),
        change=Change.UNCONFIGURED,
    )
    diagnostics_period: float = _parameter(
        1.0, "seconds between diagnostics", low=0.05, high=60.0, change=Change.START
    )
    autostart: bool = _parameter(
        True, "configure and activate at start (false under a lifecycle manager)",
        change=Change.START,
    )  # fmt: skip


@dataclass(frozen=True)
class SegmentationParameters(NodeParameters):
    """Parameters of segmentation_node."""

    model: str = _parameter(
        "default",
        "model file, or 'default' or 'tiny', the bundled ones; may be set while the node runs",
    )
    provider: str = _parameter(
        "cpu",
        "where the network runs; one that is not active is an error (tensorrt: .onnx alone)",
        choices=("cpu", "cuda", "tensorrt"),
        change=Change.UNCONFIGURED,
    )
    threads: int = _parameter(
        1, "threads of the network's run", low=1, high=64, change=Change.UNCONFIGURED
    )
    precision: str = _parameter(
        "fp32",
        "arithmetic of a .pt model; an .onnx model has its own",
        choices=PRECISIONS,
        change=Change.UNCONFIGURED,
    )
    mode: str = _parameter(
        "fast",
        "fast resizes once; official does what the code behind a published score does, slowly",
        choices=("fast", "official"),
        change=Change.UNCONFIGURED,
    )
    label_space: str = _parameter(
        "model",
        "ids of the mask: the model's classes, or fixed groups for planners",
        choices=("model", "groups"),
        change=Change.UNCONFIGURED,
    )
    min_confidence: float = _parameter(
        0.0, "pixels less sure than this become 255 (0: never)", low=0.0, high=1.0
    )
    image_transport: str = _parameter(
        "raw",
        "raw subscribes to `image`, compressed to `<image>/compressed`",
        choices=("raw", "compressed"),
        change=Change.UNCONFIGURED,
    )
    cameras: tuple[str, ...] = _parameter(
        (),
        "names of several cameras: inputs <name>/image, outputs ~/<name>/... (empty: one camera)",
        change=Change.UNCONFIGURED,
    )
    max_age: float = _parameter(
        0.0, "seconds; older images are counted and skipped (0: off)", low=0.0, high=3600.0
    )
    on_bad_image: str = _parameter(
        "warn",
        "what a frozen, dark, saturated, covered or blurred image does: warn segments it and says "
        "so, drop publishes nothing",
        choices=("warn", "drop"),
    )
    frozen_after: float = _parameter(
        2.0,
        "seconds of stamps over which the image may stay the same (0: off)",
        low=0.0,
        high=3600.0,
    )
    max_dark: float = _parameter(
        0.95, "share of the image that may be dark, below 16 of 255 (1: off)", low=0.0, high=1.0
    )
    max_saturated: float = _parameter(
        0.95,
        "share of the image that may be saturated, from 245 of 255 on (1: off)",
        low=0.0,
        high=1.0,
    )
    min_structure: float = _parameter(
        20.0, "grey levels between its dark and bright parts, 5th to 95th percentile (0: off)",
        low=0.0, high=255.0,
    )  # fmt: skip
    min_sharpness: float = _parameter(
        0.23, "contrast over 1/128 of its width, as a share of that over 1/16 (0: off)",
        low=0.0, high=1.0,
    )  # fmt: skip
    overlay_alpha: float = _parameter(
        0.5, "share of class colour in the overlay (1: colours alone)", low=0.0, high=1.0
    )
    grid_rows: int = _parameter(1, "rows of class_grid", low=1, high=1024)
    grid_cols: int = _parameter(1, "columns of class_grid", low=1, high=1024)


@dataclass(frozen=True)
class ExtrinsicsParameters:
    """Where one camera is; with several, each has these under its name: `<camera>.camera_x`."""

    camera_frame: str = _parameter(
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

    model: str = _parameter(
        "default",
        "model file, or the name of a bundled one, whose manifest tells classes and groups",
        change=Change.UNCONFIGURED,
    )
    label_space: str = _parameter(
        "model",
        "ids of the masks that come in: the model's classes, or groups",
        choices=("model", "groups"),
        change=Change.UNCONFIGURED,
    )
    cameras: tuple[str, ...] = _parameter(
        (),
        "names of several cameras: inputs <name>/label_mask ... (empty: one camera)",
        change=Change.UNCONFIGURED,
    )
    rectified: bool = _parameter(
        False, "the segmented images are rectified: P counts, not K and D",
        change=Change.UNCONFIGURED,
    )  # fmt: skip
    pose_source: str = _parameter(
        "auto",
        "tf, or parameters: camera_x ... and `odom`; auto is tf where tf2_ros is installed",
        choices=("auto", "tf", "parameters"),
        change=Change.UNCONFIGURED,
    )
    base_frame: str = _parameter(
        "base_link", "frame whose plane z = 0 is the ground", change=Change.UNCONFIGURED
    )
    odom_frame: str = _parameter(
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
    max_age: float = _parameter(
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
