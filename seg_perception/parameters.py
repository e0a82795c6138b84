"""Parameters of nodes: each name, default, range and meaning stands once, in these classes.

Those of occupancy_node are in occupancy/parameters.py. Knows no ROS: nodes/params.py declares ROS
parameters from the classes.
"""

import re
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple

from seg_perception import input_sizes
from seg_perception.runtimes import PRECISIONS


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
    form: str = ""  # regular expression, where the choices are not words but forms of them

    def problem(self, name: str, value: Any) -> str:
        """Return why `value` cannot be taken, or an empty string."""
        if isinstance(value, list | tuple):
            return _names_problem(name, value)
        fits = re.fullmatch(self.form, value) if self.form else value in self.choices
        if self.choices and not fits:
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


def parameter(default: Any, text: str, *, name: str = "", **known: Any) -> Any:
    """Return a field; `name` is the parameter's where a field cannot be called so: it has dots."""
    return field(default=default, metadata={"spec": Spec(text, **known), "name": name})


def name_of(entry: "Field[Any]") -> str:
    """Return the parameter's name of a dataclass's field."""
    return str(entry.metadata["name"] or entry.name)


def specs(parameters: type) -> dict[str, Spec]:
    """Return the Spec of each parameter by name."""
    return {name_of(f): f.metadata["spec"] for f in fields(parameters)}


@dataclass(frozen=True)
class NodeParameters:
    """Parameters of every node."""

    qos_reliability: str = parameter(
        "auto",
        "of the subscriptions; auto is reliable while every publisher offers it",
        choices=("auto", "reliable", "best_effort"),
        change=Change.UNCONFIGURED,
    )
    diagnostics_period: float = parameter(
        1.0, "seconds between diagnostics", low=0.05, high=60.0, change=Change.START
    )
    autostart: bool = parameter(
        True, "configure and activate at start (false under a lifecycle manager)",
        change=Change.START,
    )  # fmt: skip


@dataclass(frozen=True)
class SegmentationParameters(NodeParameters):
    """Parameters of segmentation_node."""

    model: str = parameter(
        "default",
        "model file, or 'default' or 'tiny', the bundled ones; may be set while the node runs",
    )
    provider: str = parameter(
        "cpu",
        "where the network runs; one that is not active is an error (tensorrt: .onnx alone)",
        choices=("cpu", "cuda", "tensorrt"),
        change=Change.UNCONFIGURED,
    )
    threads: int = parameter(
        1, "threads of the network's run", low=1, high=64, change=Change.UNCONFIGURED
    )
    precision: str = parameter(
        "fp32",
        "arithmetic of a .pt model; an .onnx model has its own",
        choices=PRECISIONS,
        change=Change.UNCONFIGURED,
    )
    mode: str = parameter(
        "fast",
        "fast resizes once; official does what the code behind a published score does, slowly",
        choices=("fast", "official"),
        change=Change.UNCONFIGURED,
    )
    input_size: str = parameter(
        input_sizes.AUTO,
        "size that the network runs at; auto has the camera's shape where the file allows it",
        choices=(input_sizes.AUTO, "HEIGHTxWIDTH"),
        form=input_sizes.FORM,
        change=Change.UNCONFIGURED,
    )
    label_space: str = parameter(
        "model",
        "ids of the mask: the model's classes, or fixed groups for planners",
        choices=("model", "groups"),
        change=Change.UNCONFIGURED,
    )
    min_confidence: float = parameter(
        0.0, "pixels less sure than this become 255 (0: never)", low=0.0, high=1.0
    )
    image_transport: str = parameter(
        "raw",
        "raw subscribes to `image`, compressed to `<image>/compressed`",
        choices=("raw", "compressed"),
        change=Change.UNCONFIGURED,
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "names of several cameras: inputs <name>/image, outputs ~/<name>/... (empty: one camera)",
        change=Change.UNCONFIGURED,
    )
    max_age: float = parameter(
        0.0, "seconds; older images are counted and skipped (0: off)", low=0.0, high=3600.0
    )
    on_bad_image: str = parameter(
        "warn",
        "what a frozen, dark, saturated, covered or blurred image does: warn segments it and says "
        "so, drop publishes nothing",
        choices=("warn", "drop"),
    )
    frozen_after: float = parameter(
        2.0,
        "seconds of stamps over which the image may stay the same (0: off)",
        low=0.0,
        high=3600.0,
    )
    max_dark: float = parameter(
        0.95, "share of the image that may be dark, below 16 of 255 (1: off)", low=0.0, high=1.0
    )
    max_saturated: float = parameter(
        0.95,
        "share of the image that may be saturated, from 245 of 255 on (1: off)",
        low=0.0,
        high=1.0,
    )
    min_structure: float = parameter(
        20.0, "grey levels between its dark and bright parts, 5th to 95th percentile (0: off)",
        low=0.0, high=255.0,
    )  # fmt: skip
    min_sharpness: float = parameter(
        0.23, "contrast over 1/128 of its width, as a share of that over 1/16 (0: off)",
        low=0.0, high=1.0,
    )  # fmt: skip
    overlay_alpha: float = parameter(
        0.5, "share of class colour in the overlay (1: colours alone)", low=0.0, high=1.0
    )
    grid_rows: int = parameter(1, "rows of class_grid", low=1, high=1024)
    grid_cols: int = parameter(1, "columns of class_grid", low=1, high=1024)
