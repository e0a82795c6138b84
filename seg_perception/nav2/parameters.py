"""Nav2's parameters files, the layers of a costmap, and which of them read us.

Parameters are nested mappings, as a YAML file or a parameter server gives them. Knows no ROS.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seg_perception.errors import DataError

Parameters = Mapping[str, Any]

KEY = "ros__parameters"
OBSTACLE_LAYERS = ("nav2_costmap_2d::ObstacleLayer", "nav2_costmap_2d::VoxelLayer")
STATIC_LAYER = "nav2_costmap_2d::StaticLayer"
INFLATION_LAYER = "nav2_costmap_2d::InflationLayer"
SEMANTIC_LAYER = "semantic_segmentation_layer::SemanticSegmentationLayer"
# What a source of an ObstacleLayer is without a word (obstacle_layer.cpp).
SOURCE = {
    "data_type": "LaserScan", "marking": True, "clearing": False, "sensor_frame": "",
    "expected_update_rate": 0.0, "max_obstacle_height": 0.0, "min_obstacle_height": 0.0,
    "obstacle_min_range": 0.0, "obstacle_max_range": 2.5,
    "raytrace_min_range": 0.0, "raytrace_max_range": 3.0,
}  # fmt: skip
TOPICS = ("segmentation_topic", "confidence_topic", "pointcloud_topic", "labels_topic")


class Layer(NamedTuple):
    """A layer of a costmap: its name, its plugin, its parameters."""

    name: str
    plugin: str
    parameters: Parameters

    def sources(self) -> Iterator[tuple[str, Parameters]]:
        """Yield the observation sources, as Nav2 reads their names: parted by spaces."""
        for name in str(self.parameters.get("observation_sources", "")).split():
            yield name, section(self.parameters, name)

    def reads_ours(self) -> bool:
        """Return whether it reads a topic of occupancy_node."""
        return any(map(is_ours, topics_of(self.parameters)))


def read_nodes(path: Path) -> dict[str, Parameters]:
    """Return the parameters of each node of a file, by the node's name without the first slash.

    Raises DataError for a file that is missing or no YAML.
    """
    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise DataError(f"{path} cannot be read: {' '.join(str(problem).split())}") from problem
    return dict(_nodes(loaded)) if isinstance(loaded, Mapping) else {}


def layers_of(parameters: Parameters) -> list[Layer]:
    """Return the layers that a costmap loads, in their order."""
    names = [str(name) for name in parameters.get("plugins", [])]
    sections = {name: section(parameters, name) for name in names}
    return [Layer(n, str(values.get("plugin", "")), values) for n, values in sections.items()]


def is_costmap(name: str, parameters: Parameters) -> bool:
    """Return whether a node of a parameters file is a costmap."""
    return "plugins" in parameters and "costmap" in name


def topics_of(parameters: Parameters) -> dict[str, str]:
    """Return the topics that a costmap or monitor reads, with the parameter that names each."""
    found: dict[str, str] = {}

    def walk(values: Parameters, path: str) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(value, f"{path}{key}.")
            elif key in (*TOPICS, "topic", "map_topic") and isinstance(value, str) and value:
                found[value] = f"{path}{key}"

    walk(parameters, "")
    return found


def is_ours(topic: Any) -> bool:
    """Return whether a topic's last parts are those of an output of occupancy_node."""
    parts = str(topic or "").split("/")
    return parts[-1] in ("obstacles", "clearing") or parts[-2:-1] in (["costmap"], ["grid"])


def section(parameters: Parameters, name: str) -> Parameters:
    """Return the parameters below a name, none where there is no such section."""
    values = parameters.get(name)
    return values if isinstance(values, Mapping) else {}


def _nodes(values: Parameters, path: str = "") -> Iterator[tuple[str, Parameters]]:
    for key, value in values.items():
        if key == KEY and isinstance(value, Mapping):
            yield path.rstrip("/") or "/**", value
        elif isinstance(value, Mapping):
            yield from _nodes(value, f"{path}{key}/")
