"""Which nodes of a graph are this package's, whatever they are called; knows no ROS."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from seg_perception.occupancy.parameters import OccupancyParameters
from seg_perception.parameters import NodeParameters, SegmentationParameters, specs

KINDS: dict[str, type[NodeParameters]] = {
    "segmentation_node": SegmentationParameters,
    "occupancy_node": OccupancyParameters,
}
PARAMETERS = {kind: ("use_sim_time", *specs(fields)) for kind, fields in KINDS.items()}

Ends = Collection[tuple[str, str]]  # name and type of topics, or of services


def is_candidate(name: str, services: Ends, topics: Ends) -> bool:
    """Return whether a node (full name) may be ours: a lifecycle node with diagnostics."""
    return (f"{name}/get_state", "lifecycle_msgs/srv/GetState") in services and (
        "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"
    ) in topics  # fmt: skip


def shown_kind(name: str, services: Ends, topics: Ends) -> str:
    """Return the kind that a configured node shows by what it serves and publishes, or nothing."""
    if not is_candidate(name, services, topics):
        return ""
    masks = (t for t, kind in topics if kind == "sensor_msgs/msg/Image")
    has_masks = any(t.startswith(f"{name}/") and t.endswith("/label_mask") for t in masks)
    if has_masks and (f"{name}/enable", "std_srvs/srv/SetBool") in services:
        return "segmentation_node"
    if (f"{name}/grid/cost", "nav_msgs/msg/OccupancyGrid") in topics:
        return "occupancy_node"
    return ""


def told_kind(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the kind whose parameters a node has, all of them; `answers` are by kind."""
    return next((kind for kind, values in answers.items() if values), "")


def base_frames(mappers: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Return the frames in which tf is to know the cameras, by the parameters of occupancy_nodes.

    One that did not answer names none, nor does one that does not ask tf; where none runs it is
    the default.
    """
    told = [p for p in mappers if p and p["pose_source"] != "parameters"]
    frames = {str(p["base_frame"]) for p in told} if mappers else {OccupancyParameters().base_frame}
    return sorted(frames)
