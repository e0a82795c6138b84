"""Nav2's layers, told the parameters of config/nav2_costmap.yaml, read what we publish."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header
from support import bounds, rig
from support.graph import Graph
from support.nav2 import FREE, LETHAL, NO_INFORMATION, STILL, Obstacles, Semantic, floats
from support.paths import ROOT
from support.rig import PLACED, Rig
from support.world import OBSTACLE, PERSON, SKY, Box, Pose2D, Poses, World, mounted, pinhole

from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.messages import fill_cloud, fill_image, stamp_ns
from seg_perception.occupancy.camera import OPTICAL, Camera, Pose
from seg_perception.occupancy.costmap_set import step_for
from seg_perception.occupancy.mapper import LabelFrame, Mapper, Result, raised
from seg_perception.occupancy.parameters import OccupancyParameters
from seg_perception.occupancy.settings import COSTS, Settings

CONFIG = yaml.safe_load((ROOT / "config/nav2_costmap.yaml").read_text())
LOCAL = CONFIG["local_costmap"]["local_costmap"]["ros__parameters"]
SEMANTIC, OBSTACLES = LOCAL["semantic_layer"], LOCAL["perceived_obstacles"]
RESOLUTION = LOCAL["resolution"]

HERE, BASE = Pose2D(0, 0, 0), Pose.from_rpy(0, 0, 0, 0, 0, 0)
BOX = Box(3.0, -0.6, 3.8, 0.6, 1.0)
CAMERA = pinhole()
LISTED = list(enumerate(GROUPS))


def header(stamp: int, frame: str) -> Header:
    made = Header(frame_id=frame)
    made.stamp.sec, made.stamp.nanosec = divmod(stamp, 10**9)
    return made


def cloud(points: np.ndarray, frame: str, stamp: int = 1) -> PointCloud2:
    return fill_cloud(PointCloud2(), points, header(stamp, frame), field=PointField)


def columns(points: np.ndarray) -> PointCloud2:
    """Return the message of raised ground points, as the node makes it."""
    p = OccupancyParameters()
    return cloud(raised(points, low=p.column_low, high=p.column_high, step=p.column_step), "base")


def look_at(
    seen: np.ndarray, mount: Pose, camera: Camera = CAMERA, confidence: np.ndarray | None = None
) -> Result:
    mapper = Mapper(Settings(), Poses(mount))
    return mapper.update(LabelFrame(seen, confidence, camera, "", "camera_optical", 10**9))


def matched(result: Result) -> tuple[Image, Image, PointCloud2]:
    """Return the messages of the reduced set, as the node makes them."""
    here = header(1, "camera_optical")
    mask, confidence, points = result.reduced
    return (
        fill_image(Image(), mask, "mono8", here),
        fill_image(Image(), confidence, "mono8", here),
        cloud(points, "camera_optical"),
    )


def semantic(*, info: list[tuple[int, str]] = LISTED, **changes: Any) -> Semantic:
    layer = Semantic({**SEMANTIC["camera"], **changes}, RESOLUTION)
    layer.on_label_info(info)
    return layer


# The semantic layer


def test_the_semantic_layer_sees_the_world_as_it_is() -> None:
    truth, mount = World((BOX,)), mounted()
    layer = semantic()
    layer.on_set(*matched(look_at(truth.image(CAMERA, mount, HERE), mount)), mount)
    assert (layer.errors, layer.refused, layer.unlisted) == ([], 0, 0)
    costs = layer.costs()
    assert len(costs) > 1000
    right = 0
    for tile, cost in costs.items():
        x, y = layer.centre(tile)
        if cost == LETHAL:
            assert BOX.x0 - RESOLUTION <= x <= BOX.x0 + RESOLUTION
            assert abs(y) <= BOX.y1 + RESOLUTION
        else:
            group = int(truth.ground(np.array(x), np.array(y)))
            if truth.is_one_group(x, y, RESOLUTION):  # no border runs through the tile
                assert cost == int(COSTS[GROUPS[group]] / 100 * LETHAL)
                right += 1
            behind = BOX.x0 + 0.2 < x < BOX.x1 and abs(y) < 0.4
            assert not behind, "nothing is known of what the box stands on"
    assert right > 1000
    front = {tile[1] for tile, cost in costs.items() if cost == LETHAL}
    assert len(front) >= 2 * BOX.y1 / RESOLUTION - 1, "the front has no hole"


@pytest.mark.parametrize("size", [(641, 479), (320, 240), (1280, 721), (97, 61)])
@pytest.mark.parametrize("roll", [0.0, 0.2])
def test_sets_of_any_image_are_whole(size: tuple[int, int], roll: float) -> None:
    camera = pinhole(*size, 0.8 * size[0])
    mount = Pose.from_rpy(0.3, -0.2, 1.1, roll, 0.25, 0.4).compose(OPTICAL)
    random = np.random.default_rng(size[0])
    seen = World((BOX,)).image(camera, mount, HERE)
    noise = random.random(seen.shape) < 0.1
    seen[noise] = random.choice([*range(len(GROUPS)), UNKNOWN], int(noise.sum()))
    sure = random.integers(0, 256, seen.shape).astype(np.uint8)
    mask, confidence, points = matched(look_at(seen, mount, camera, sure))
    assert mask.step == mask.width
    assert len(mask.data) == len(confidence.data) == mask.width * mask.height
    xyz = floats(points)
    known = np.isfinite(xyz[:, 2])
    assert (np.isfinite(xyz) == known[:, None]).all(), "z alone is tested for NaN"
    ids = np.frombuffer(mask.data, np.uint8)
    assert not np.isin(ids[known], [UNKNOWN, SKY]).any()
    layer = semantic()
    layer.on_set(mask, confidence, points, mount)
    assert (layer.refused, layer.unlisted) == (0, 0)
    assert layer.costs()


def test_a_camera_without_confidence_is_sure_of_everything() -> None:
    mount = mounted()
    _, confidence, _ = matched(look_at(World().image(CAMERA, mount, HERE), mount))
    assert set(confidence.data) == {255}


@pytest.mark.parametrize("wrong", ["height", "stamp", "data"])
def test_a_set_that_does_not_match_is_refused(wrong: str) -> None:
    mount = mounted()
    mask, confidence, points = matched(look_at(World().image(CAMERA, mount, HERE), mount))
    if wrong == "height":
        points.height -= 1
    elif wrong == "stamp":
        mask.header = header(2, "camera_optical")
    else:
        mask.data = mask.data[:-1]
    layer = semantic()
    layer.on_set(mask, confidence, points, mount)
    assert layer.refused == 1
    assert not layer.costs()


def test_groups_reach_the_layer_by_name_alone() -> None:
    mount = mounted()
    messages = matched(look_at(World((BOX,)).image(CAMERA, mount, HERE), mount))
    stranger = semantic(info=[*LISTED, (8, "lava")])
    assert stranger.errors == ["lava"]
    silent = semantic(info=[(i, n) for i, n in LISTED if n != "obstacle"])
    silent.on_set(*messages, mount)
    assert silent.unlisted > 0
    assert LETHAL not in silent.costs().values()


def test_range_is_measured_from_the_clouds_frame() -> None:
    mount = mounted(x=1.0)
    messages = matched(look_at(World().image(CAMERA, mount, HERE), mount))
    layer = semantic(max_obstacle_distance=3.0)
    layer.on_set(*messages, mount)
    reach = max(np.hypot(x - 1.0, y) for x, y in map(layer.centre, layer.costs()))
    limit = np.sqrt(3.0**2 - 1.2**2)
    # A point may be anywhere in its tile, and a block of pixels has one.
    tile, block = RESOLUTION / np.sqrt(2), 2 * step_for(480, 640)
    assert limit - tile - block * bounds.of_row(limit, 1.2, CAMERA.fx) <= reach <= limit + tile


# The obstacle layer


def obstacle_layer(**changes: Any) -> Obstacles:
    return Obstacles({**OBSTACLES, **changes}, RESOLUTION, LOCAL["width"], now=0.0)


def hear(layer: Obstacles, result: Result, mount: Pose, now: float) -> None:
    for name, points in (("obstacles", result.lethal(COSTS)), ("clearing", result.free)):
        layer.on_cloud(name, columns(points), BASE, mount, now)


def places(layer: Obstacles, cost: int) -> np.ndarray:
    """Return x, y (n,2) of the middle of all cells of a cost."""
    rows, cols = np.nonzero(layer.costs == cost)
    return (np.stack([cols, rows], 1) + 0.5) * RESOLUTION - LOCAL["width"] / 2


@pytest.mark.parametrize("yaw", [0.0, 0.5])
@pytest.mark.parametrize("y", [-0.6, 0.2])
@pytest.mark.parametrize("group", [OBSTACLE, PERSON])
def test_things_are_marked_and_rays_end_before_them(yaw: float, y: float, group: int) -> None:
    box = Box(3.0, y, 3.8, y + 0.9, 1.0, group)
    mount, layer = mounted(yaw=yaw), obstacle_layer()
    result = look_at(World((box,)).image(CAMERA, mount, HERE), mount)
    hear(layer, result, mount, now=0.1)
    layer.update(0.1, STILL)
    marked, free = places(layer, LETHAL), places(layer, FREE)
    assert len(result.contacts)
    assert len(free) > 500
    for x, y_contact in result.contacts:
        assert layer.costs[layer.cell(x, y_contact)] == LETHAL
    half = RESOLUTION / 2
    assert (marked[:, 0] > box.x0 - half).all()
    assert (marked[:, 0] < box.x1 + half).all()
    # What the box hides from the camera at the origin is never cleared.
    inside = (free[:, 0] > box.x0 + 0.2) & (free[:, 0] < box.x1 - 0.1)
    inside &= (free[:, 1] > box.y0 + 0.1) & (free[:, 1] < box.y1 - 0.1)
    assert not inside.any()
    shadow = free[free[:, 0] > box.x1 + 0.3]
    slope = shadow[:, 1] / shadow[:, 0]
    edges = [box.y0 / box.x0, box.y1 / box.x0, box.y0 / box.x1, box.y1 / box.x1]
    assert not ((slope > min(edges) + 0.06) & (slope < max(edges) - 0.06)).any()


def test_no_ray_runs_through_a_contact() -> None:
    mount, layer = mounted(), obstacle_layer()
    result = look_at(World((BOX,)).image(CAMERA, mount, HERE), mount)
    hear(layer, result, mount, now=0.1)
    # The corners' cells are also in the way of rays that pass next to the box.
    inner = result.contacts[np.abs(result.contacts[:, 1]) < BOX.y1 - 2 * RESOLUTION]
    contacts = {layer.cell(x, y) for x, y in inner}
    assert len(contacts) >= 8
    buffer = layer.buffers["clearing"]
    assert buffer.points.shape[0] > 100
    for point in buffer.points[np.abs(buffer.points).max(1) < LOCAL["width"] / 2][::5]:
        buffer.points = point[None]
        layer.costs[:] = NO_INFORMATION
        layer.clear(buffer)
        layer.costs[layer.cell(*point[:2])] = NO_INFORMATION  # the ray's end itself is clear
        cleared = {(int(row), int(column)) for row, column in np.argwhere(layer.costs == FREE)}
        assert cleared
        assert contacts.isdisjoint(cleared)


def test_what_went_away_is_cleared_and_what_is_out_of_sight_is_not() -> None:
    mount, layer = mounted(), obstacle_layer()
    hear(layer, look_at(World((BOX,)).image(CAMERA, mount, HERE), mount), mount, now=0.1)
    layer.update(0.1, STILL)
    assert (layer.costs == LETHAL).sum() >= 10
    below = layer.cell(0.8, 0.0)  # under the image's lowest row
    aside = layer.cell(0.0, 3.0)
    layer.costs[below] = layer.costs[aside] = LETHAL
    hear(layer, look_at(World().image(CAMERA, mount, HERE), mount), mount, now=0.2)
    layer.update(0.2, STILL)
    assert layer.costs[below] == layer.costs[aside] == LETHAL
    assert (layer.costs == LETHAL).sum() == 2
    nearest = np.hypot(*places(layer, FREE).T).min()
    assert nearest > OBSTACLES["clearing"]["raytrace_min_range"] - 2 * RESOLUTION
    assert (layer.costs == NO_INFORMATION).any()


def test_points_out_of_the_height_band_are_dropped() -> None:
    mount = mounted()
    result = look_at(World((BOX,)).image(CAMERA, mount, HERE), mount)
    forgotten = {**OBSTACLES["obstacles"], "max_obstacle_height": 0.0}  # the layer's default
    layer = obstacle_layer(obstacles=forgotten)
    hear(layer, result, mount, now=0.1)
    layer.update(0.1, STILL)
    assert not len(places(layer, LETHAL))
    higher = Pose.from_rpy(0, 0, 0.5, 0, 0, 0)  # a base above the ground of odom
    layer = obstacle_layer()
    layer.on_cloud("obstacles", columns(result.lethal(COSTS)), higher, mount, 0.1)
    layer.update(0.1, STILL)
    assert len(places(layer, LETHAL))


def test_silence_stops_the_robot_and_an_empty_cloud_does_not() -> None:
    mount, layer = mounted(), obstacle_layer()
    result = look_at(World().image(CAMERA, mount, HERE), mount)
    assert not len(result.lethal(COSTS))
    for i in range(20):
        hear(layer, result, mount, now=0.1 * i)
        layer.update(0.1 * i, STILL)
        assert layer.is_current
    silence = OBSTACLES["obstacles"]["expected_update_rate"]
    layer.update(1.9 + silence, STILL)
    assert layer.is_current
    layer.update(1.9 + silence + 0.01, STILL)
    assert not layer.is_current


# The node


def test_the_layers_read_a_live_node(ros: Graph, make_model: Callable[..., Path]) -> None:
    topics = {n: SEMANTIC["camera"][f"{n}_topic"]
              for n in ("segmentation", "confidence", "pointcloud")}  # fmt: skip
    kinds = {"segmentation": Image, "confidence": Image, "pointcloud": PointCloud2}
    parts = {n: ros.collect(kinds[n], topics[n], depth=50, reliable=False) for n in topics}
    clouds = {n: ros.collect(PointCloud2, OBSTACLES[n]["topic"], depth=50, reliable=False)
              for n in ("obstacles", "clearing")}  # fmt: skip
    mount, robot, box = mounted(), Rig(ros), Box(2.5, -0.5, 3.0, 0.5, 1.0)
    seen = World((box,)).image(rig.CAMERA, mount, HERE)
    ros.start_node(model=make_model(), **PLACED)
    robot.until(seen, clouds["clearing"], confidence=np.full(seen.shape, 200, np.uint8))
    ros.wait(lambda: all((*parts.values(), *clouds.values())))
    heard = [*parts.values(), *clouds.values()]
    ros.wait(lambda: len({stamp_ns(messages[-1].header) for messages in heard}) == 1)

    layer = semantic()
    layer.on_set(*(messages[-1] for messages in parts.values()), mount)
    assert (layer.errors, layer.refused, layer.unlisted) == ([], 0, 0)
    lethal = [layer.centre(tile) for tile, cost in layer.costs().items() if cost == LETHAL]
    assert len(lethal) >= 8
    contacts = floats(clouds["obstacles"][-1])
    behind = float(contacts[:, 0].max()) + RESOLUTION / 2  # a contact is in each cell
    assert all(box.x0 - RESOLUTION / 2 < x <= behind for x, _ in lethal)

    obstacles = obstacle_layer()
    for name, messages in clouds.items():
        obstacles.on_cloud(name, messages[-1], BASE, mount, 0.1)
    obstacles.update(0.1, STILL)
    assert obstacles.is_current
    assert len(places(obstacles, LETHAL)) >= 8
    x = places(obstacles, LETHAL)[:, 0]
    assert ((x > box.x0 - RESOLUTION / 2) & (x <= behind)).all()
    assert len(places(obstacles, FREE)) > 200

    count = [len(messages) for messages in clouds.values()]
    ros.spin(1.0)
    assert [len(messages) for messages in clouds.values()] == count, "silent input, silent output"
