"""config/nav2_costmap.yaml names what Nav2's layers declare, our topics, groups and ranges."""

from typing import Any

import numpy as np
import pytest
import rclpy
from support.nav2 import LETHAL
from support.nav2_config import CONFIG, LOADED, without_package
from support.paths import ROOT

from seg_perception.labels import GROUPS
from seg_perception.occupancy.parameters import OccupancyParameters
from seg_perception.occupancy.settings import COSTS

LOCAL = LOADED["local_costmap"]["local_costmap"]["ros__parameters"]
GLOBAL = LOADED["global_costmap"]["global_costmap"]["ros__parameters"]
OBSTACLES = LOCAL["perceived_obstacles"]
NODE = "/occupancy_node"

# What the layers declare, in their own sources.
COSTMAP = {
    "global_frame", "robot_base_frame", "rolling_window", "width", "height", "resolution",
    "update_frequency", "plugins", "track_unknown_space", "trinary_costmap",
}  # fmt: skip
LAYERS = {
    "semantic_segmentation_layer::SemanticSegmentationLayer": {
        "enabled", "combination_method", "observation_sources", "use_approximate_time_sync",
    },
    "nav2_costmap_2d::ObstacleLayer": {
        "enabled", "footprint_clearing_enabled", "min_obstacle_height", "max_obstacle_height",
        "combination_method", "observation_sources",
    },
    "nav2_costmap_2d::StaticLayer": {"enabled", "map_topic", "map_subscribe_transient_local"},
    "nav2_costmap_2d::InflationLayer": {"enabled", "inflation_radius", "cost_scaling_factor"},
}  # fmt: skip
SEMANTIC_SOURCE = {
    "segmentation_topic", "confidence_topic", "labels_topic", "pointcloud_topic", "class_types",
    "max_obstacle_distance", "min_obstacle_distance", "tile_map_decay_time", "visualize_tile_map",
    "use_cost_selection",
}  # fmt: skip
CLASS_TYPE = {
    "classes", "base_cost", "max_cost", "mark_confidence", "samples_to_max_cost",
    "dominant_priority",
}  # fmt: skip
OBSTACLE_SOURCE = {
    "topic", "sensor_frame", "observation_persistence", "expected_update_rate", "data_type",
    "min_obstacle_height", "max_obstacle_height", "marking", "clearing", "obstacle_max_range",
    "obstacle_min_range", "raytrace_max_range", "raytrace_min_range",
}  # fmt: skip


def layers(costmap: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in costmap.items() if isinstance(v, dict)}


@pytest.mark.parametrize("costmap", [LOCAL, GLOBAL, {**LOCAL, **without_package()}])
def test_the_configuration_names_what_the_layers_declare(costmap: dict[str, Any]) -> None:
    assert set(costmap) - set(layers(costmap)) <= COSTMAP
    assert set(costmap["plugins"]) <= set(layers(costmap))
    for layer in layers(costmap).values():
        kind = layer["plugin"]
        sources = layer.get("observation_sources", "").split()
        assert set(layer) - {"plugin", *sources} <= LAYERS[kind]
        for source in (layer[name] for name in sources):
            types = source.get("class_types", [])
            known = SEMANTIC_SOURCE if types else OBSTACLE_SOURCE
            assert set(source) - set(types) <= known
            assert all(set(source[t]) == CLASS_TYPE for t in types)


def test_the_configuration_names_our_topics_and_groups() -> None:
    text = CONFIG.read_text()
    camera = (ROOT / "seg_perception" / "nodes" / "occupancy_camera.py").read_text()
    named = {word for word in text.split() if word.startswith("/")}
    costmap = {f"{NODE}/costmap/{n}" for n in ("label_mask", "confidence", "points", "label_info")}
    assert named == costmap | {f"{NODE}/{n}" for n in ("obstacles", "clearing", "grid/cost")}
    for topic in named - {f"{NODE}/grid/cost"}:
        assert f'"{topic.removeprefix(f"{NODE}/")}"' in camera
    assert "&" not in text, "ROS reads no YAML anchors"
    source = LOCAL["semantic_layer"]["camera"]
    listed = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    assert sorted(listed) == sorted(GROUPS)
    for kind in source["class_types"]:
        for name in source[kind]["classes"]:
            cost = int(COSTS[name] / 100 * LETHAL)  # as a StaticLayer scales ~/grid/cost
            assert source[kind]["base_cost"] == source[kind]["max_cost"] == cost
            assert source[kind]["dominant_priority"] is (cost == LETHAL)


def test_heights_ranges_and_rates_fit_the_mapper() -> None:
    p = OccupancyParameters()
    assert GLOBAL["perceived_obstacles"] == OBSTACLES
    obstacles, clearing = (OBSTACLES[n] for n in OBSTACLES["observation_sources"].split())
    assert (obstacles["marking"], obstacles["clearing"]) == (True, False)
    assert (clearing["marking"], clearing["clearing"]) == (False, True)
    for source in (obstacles, clearing):
        assert source["data_type"] == "PointCloud2", "the default is a LaserScan"
        assert source["sensor_frame"], "else rays start at the base"
        assert source["expected_update_rate"] > 0
        for band in (OBSTACLES, source):
            assert band["min_obstacle_height"] <= p.column_low
            assert p.column_high <= band["max_obstacle_height"]
    aslant = np.hypot(p.max_range, 3.0)  # from a camera at 3 m
    assert obstacles["obstacle_max_range"] > aslant
    assert clearing["raytrace_max_range"] > p.max_range
    assert clearing["raytrace_min_range"] > 0, "what is not seen must not be cleared"
    assert LOCAL["semantic_layer"]["camera"]["max_obstacle_distance"] > aslant
    monitor = LOADED["collision_monitor"]["ros__parameters"]
    source = monitor[monitor["observation_sources"][0]]
    assert source["type"] == "pointcloud"
    assert source["min_height"] <= p.column_low
    assert source["max_height"] >= p.column_high
    assert source["source_timeout"] > 0


def test_the_grid_is_no_trinary_map() -> None:
    other = without_package()
    assert other["trinary_costmap"] is False
    assert other["plugins"][0] == "perceived_ground", "it overwrites what is below it"
    assert "perceived_obstacles" in other["plugins"], "it has no timeout"


def test_ros_itself_reads_the_file() -> None:
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(CONFIG)], context=context)
    try:
        node = rclpy.create_node(
            "local_costmap",
            namespace="local_costmap",
            context=context,
            automatically_declare_parameters_from_overrides=True,
        )
        layer = "semantic_layer.camera.danger"
        assert node.get_parameter(f"{layer}.classes").value == ["obstacle", "person", "vehicle"]
        assert node.get_parameter("perceived_obstacles.clearing.raytrace_min_range").value == 1.3
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
