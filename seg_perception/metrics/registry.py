"""The metrics that are counted on request; free to import."""

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from seg_perception.errors import UsageError

if TYPE_CHECKING:
    from seg_perception.metrics.description import Description
    from seg_perception.metrics.metric import Context, Metric

# Reports have them in this order. The text is that of --help.
METRICS = {
    "boundary": "IoU near the contours of classes",
    "calibration": "whether confidence tells how often a label is right",
    "flicker": "labels that change from image to image where what is seen does not",
    "occupancy": "errors of the map of the ground; needs CameraInfo and the camera's place",
}


def metric_class(name: str) -> "type[Metric]":
    """Return the class of a metric: METRIC of the file of its name, next to this one.

    Only then is the file imported, with what it needs. UsageError for a name not in METRICS.
    """
    if name not in METRICS:
        raise UsageError(f"{name!r} is no metric; choose from {', '.join(METRICS)}")
    found: type[Metric] = import_module(f"seg_perception.metrics.{name}").METRIC
    return found


def create(names: Collection[str], context: "Context") -> "tuple[Metric, ...]":
    """Return the metrics of these names, each once; UsageError for one that cannot be."""
    return tuple(metric_class(name).create(context) for name in dict.fromkeys(names))


def describe(results: Mapping[str, Mapping[str, Any]]) -> "dict[str, Description]":
    """Return by name, in the order of METRICS, what reports show of the results."""
    return {name: metric_class(name).describe(results[name]) for name in METRICS if name in results}
