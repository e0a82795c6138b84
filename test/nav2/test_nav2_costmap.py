"""A costmap of Nav2 on a desk: its window, its layers, and what it holds of the bundled clip."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.driven_clip import short_clip
from support.nav2_config import CONFIG, LOADED
from support.world import Box, Pose2D, Poses, World, mounted, pinhole

from seg_perception import cli
from seg_perception.errors import DataError
from seg_perception.nav2.costmap import Costmap
from seg_perception.nav2.layers import (
    InflationLayer,
    footprint,
    inscribed_radius,
    interpreted,
)
from seg_perception.nav2.parameters import INFLATION_LAYER, Layer
from seg_perception.nav2.semantic import TileQueue
from seg_perception.nav2.window import FREE, INSCRIBED, LETHAL, NO_INFORMATION, Window, combine
from seg_perception.occupancy.mapper import LabelFrame, Mapper
from seg_perception.occupancy.settings import Settings

LOCAL = LOADED["local_costmap"]["local_costmap"]["ros__parameters"]
SOURCE = LOCAL["semantic_layer"]["camera"]
BOX = Box(3.0, -0.6, 3.8, 0.6, 1.0)
KIND = {"base_cost": 10, "max_cost": 200, "samples_to_max_cost": 3, "mark_confidence": 100}


def test_a_window_moves_by_whole_cells_and_keeps_what_stays_inside() -> None:
    window = Window(0.5, (4.0, 3.0), default=NO_INFORMATION)
    assert window.costs.shape == (6, 8)
    window.centre_on(0.0, 0.0)
    assert window.origin == (-2.0, -1.5)
    window.set(np.array([0.1]), np.array([-0.3]), np.array([77], np.uint8))
    assert window.costs[2, 4] == 77
    window.centre_on(0.74, -0.3)  # by one cell to the right: Nav2 rounds towards zero
    assert window.origin == (-1.5, -1.5)
    assert window.costs[2, 3] == 77
    assert (window.costs == 77).sum() == 1
    window.centre_on(50.0, 0.0)
    assert (window.costs == NO_INFORMATION).all()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (0, [50, 90, 90, 50, 10]),
        (1, [50, 90, 90, 50, 70]),
        (2, [50, 90, NO_INFORMATION, 50, 70]),
        (99, [50, 20, NO_INFORMATION, 50, 70]),
    ],
)
def test_layers_are_combined_as_nav2_does(method: int, expected: list[int]) -> None:
    below = np.array([[50, 20, NO_INFORMATION, 50, 70]], np.uint8)
    layer = np.array([[NO_INFORMATION, 90, 90, 50, 10]], np.uint8)
    combine(below, layer, method)
    assert below.tolist() == [expected]


def inflated(costs: np.ndarray, **parameters: Any) -> np.ndarray:
    window = Window(0.1, (3.0, 3.0))
    window.costs[:] = costs
    layer = Layer("inflation_layer", INFLATION_LAYER, parameters)
    InflationLayer(layer, 0.1, inscribed=0.22).merge(window)
    return window.costs


def test_costs_fall_with_the_distance_from_what_is_lethal() -> None:
    costs = np.zeros((30, 30), np.uint8)
    costs[15, 15], costs[15, 20], costs[2, 2] = LETHAL, 200, NO_INFORMATION
    result = inflated(costs, inflation_radius=0.7, cost_scaling_factor=3.0)
    assert result[15, 15] == LETHAL
    assert result[15, 17] == result[13, 15] == result[16, 16] == INSCRIBED  # within 0.22 m
    for cells in (3, 4, 6, 7):
        expected = int(252 * math.exp(-3.0 * (0.1 * cells - 0.22)))
        assert result[15 - cells, 15] == expected
    assert result[15 - 8, 15] == FREE
    assert result[15, 20] == 200, "the larger cost stays"
    assert result[2, 2] == NO_INFORMATION


def test_unknown_cells_become_inscribed_but_not_dearer() -> None:
    costs = np.full((30, 30), NO_INFORMATION, np.uint8)
    costs[15, 15] = LETHAL
    result = inflated(costs, inflation_radius=0.7, cost_scaling_factor=3.0)
    assert result[15, 16] == INSCRIBED
    assert result[15, 19] == NO_INFORMATION
    told = inflated(costs, inflation_radius=0.7, cost_scaling_factor=3.0, inflate_unknown=True)
    assert FREE < told[15, 19] < INSCRIBED


def test_a_tile_belongs_to_the_class_that_was_seen_more_often() -> None:
    tile = TileQueue()
    for stamp in (1.0, 1.1):
        tile.push(1, stamp, 255, has_priority=False)
    tile.push(2, 1.2, 255, has_priority=False)
    assert tile.dominant == 1
    tile.push(3, 1.3, 255, has_priority=True)
    assert tile.dominant == 3
    tile.push(1, 1.4, 255, has_priority=False)
    assert tile.dominant == 3, "the one before was forgotten, and one is not more than one"
    tile.push(1, 1.5, 255, has_priority=False)
    assert tile.dominant == 1
    tile.purge(1.45)
    assert tile.dominant == 1
    tile.purge(1.6)
    assert tile.dominant is None


def test_a_tile_costs_the_most_from_enough_sure_looks_on() -> None:
    tile = TileQueue()
    for stamp in (1.0, 1.1):
        tile.push(1, stamp, 200, has_priority=False)
        assert tile.cost(KIND) == 10
    tile.push(1, 1.2, 200, has_priority=False)
    assert tile.cost(KIND) == 200
    assert tile.cost({**KIND, "mark_confidence": 200}) == 10


def test_a_grid_is_read_as_the_static_layer_does() -> None:
    costs = interpreted({"trinary_costmap": False})
    # As a real costmap showed them: 30 -> 76, 0 -> 0, 100 lethal.
    assert [costs[n] for n in (0, 30, 99, 100)] == [0, 76, INSCRIBED, LETHAL]
    assert costs[255] == FREE
    assert interpreted({"track_unknown_space": True})[255] == NO_INFORMATION
    assert set(interpreted({})[1:99]) == {FREE}


def test_a_footprint_is_padded_and_its_inscribed_circle_found() -> None:
    corners = footprint({"footprint": "[[0.3, 0.2], [0.3, -0.2], [-0.3, -0.2], [-0.3, 0.2]]"})
    np.testing.assert_allclose(np.abs(corners), [[0.31, 0.21]] * 4)
    assert inscribed_radius(corners) == pytest.approx(0.21)
    circle = footprint({"robot_radius": 0.5, "footprint_padding": 0.0})
    assert inscribed_radius(circle) == pytest.approx(0.5 * math.cos(math.pi / 16))
    with pytest.raises(DataError, match="fewer than three corners"):
        footprint({"footprint": "[[0.3, 0.2]]"})
    with pytest.raises(DataError, match="is no list of corners"):
        footprint({"footprint": "[0.3, 0.2]"})


def costmap_of(scene: World, places: list[Pose2D], **changes: Any) -> Costmap:
    """Return the costmap after looks at a scene from one place after the other, at 5 Hz."""
    mount, camera = mounted(), pinhole()
    costmap = Costmap("local_costmap", {**LOCAL, **changes})
    for n, place in enumerate(places):
        poses = Poses(mount, place)
        mapper, stamp = Mapper(Settings(), poses), 1.0 + 0.2 * n
        seen = scene.image(camera, mount, place)
        result = mapper.update(
            LabelFrame(seen, None, camera, "", "camera_optical", int(stamp * 1e9))
        )
        costmap.hear(result, mapper, mount, place, stamp)
        costmap.update(place, stamp)
    return costmap


def cost_at(costmap: Costmap, x: float, y: float) -> int:
    row, column = costmap.window.cells(np.array([x]), np.array([y]))[0]
    return int(costmap.costs[row, column])


def test_what_stands_keeps_its_place_while_the_robot_drives() -> None:
    places = [Pose2D(0.1 * n, 0.0, 0.0) for n in range(8)]
    costmap = costmap_of(World((BOX,)), places)
    assert costmap.window.origin == pytest.approx((-4.3, -5.0))
    assert cost_at(costmap, BOX.x0 + 0.02, 0.05) == LETHAL
    assert cost_at(costmap, BOX.x0 - 0.15, 0.05) >= INSCRIBED - 100, "inflated"
    assert cost_at(costmap, BOX.x0 - 1.3, 0.05) == FREE
    assert costmap.is_current
    costmap.update(places[-1], 4.0)
    assert not costmap.is_current, "nothing came for longer than expected_update_rate"


def test_what_went_away_is_free_again() -> None:
    mount, camera, here = mounted(), pinhole(), Pose2D(0, 0, 0)
    costmap = Costmap("local_costmap", {**LOCAL, "plugins": ["perceived_obstacles"]})
    for stamp, scene in ((1.0, World((BOX,))), (1.2, World())):
        mapper = Mapper(Settings(), Poses(mount, here))
        seen = scene.image(camera, mount, here)
        result = mapper.update(
            LabelFrame(seen, None, camera, "", "camera_optical", int(stamp * 1e9))
        )
        costmap.hear(result, mapper, mount, here, stamp)
        costmap.update(here, stamp)
        assert ((costmap.costs == LETHAL).sum() > 5) == bool(scene.boxes)


def test_ground_costs_what_its_class_costs() -> None:
    costmap = costmap_of(World(), [Pose2D(0, 0, 0)] * 3, plugins=["semantic_layer"])
    truth = World()
    rows, columns = np.nonzero(costmap.costs)
    kinds = set(np.unique(costmap.costs[rows, columns]))
    assert kinds <= {76, 127, 177}
    x = costmap.window.origin[0] + (columns + 0.5) * 0.1
    y = costmap.window.origin[1] + (rows + 0.5) * 0.1
    right = (
        costmap.costs[rows, columns]
        == np.array([127, 0, 76, 254, 254, 254, 177, 0])[truth.ground(x, y)]
    )
    pure = truth.is_one_group(x, y, 0.1)  # no border runs through the cell
    assert pure.sum() > 100
    assert right[pure].all()


def test_what_is_not_simulated_is_named(tmp_path: Path) -> None:
    layers = {
        "plugins": ["perceived_obstacles", "lidar", "keepout", "voxels"],
        "lidar": {"plugin": "nav2_costmap_2d::ObstacleLayer", "observation_sources": "scan",
                  "scan": {"topic": "/scan"}},
        "keepout": {"plugin": "my::Layer", "topic": "/occupancy_node/obstacles"},
        "voxels": {"plugin": "nav2_costmap_2d::VoxelLayer", "enabled": False},
    }  # fmt: skip
    costmap = Costmap("local_costmap", {**LOCAL, **layers})
    assert costmap.left_out == [
        "lidar: reads nothing of ours", "keepout: my::Layer is not known", "voxels: not enabled",
    ]  # fmt: skip
    with pytest.raises(DataError, match="no layer of local_costmap reads occupancy_node"):
        Costmap("local_costmap", {**LOCAL, "plugins": ["inflation_layer"]})
    empty = tmp_path / "empty.yaml"
    empty.write_text("controller_server:\n  ros__parameters: {}\n")
    with pytest.raises(DataError, match="holds no costmap"):
        Costmap.read(empty)


def test_the_local_costmap_of_a_file_is_drawn(tmp_path: Path) -> None:
    assert Costmap.read(CONFIG).name == "local_costmap/local_costmap"
    only = tmp_path / "global.yaml"
    only.write_text(yaml.safe_dump({"global_costmap": LOADED["global_costmap"]}))
    assert Costmap.read(only).name == "global_costmap/global_costmap"


def test_map_draws_the_costmap_beside_the_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bag = tmp_path / "out", str(short_clip(tmp_path / "clip.mcap"))
    command = ["map", bag, "--model", "tiny", "--camera-z", "1.4", "--camera-pitch", "0.05"]
    assert cli.main([*command, "--nav2", str(CONFIG), "--out", str(out)]) == 0
    assert "costmap: local_costmap/local_costmap; its traps" in capsys.readouterr().out
    with_costmap = (out / "map.png").read_bytes()
    assert cli.main([*command, "--out", str(out)]) == 0
    assert (out / "map.png").read_bytes() != with_costmap
    assert cli.main([*command, "--nav2", "nowhere.yaml", "--out", str(tmp_path / "none")]) == 1
    assert "nowhere.yaml cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
