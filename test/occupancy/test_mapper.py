"""The map agrees with worlds whose truth is known."""

from collections.abc import Iterator

import numpy as np
import pytest
from support import bounds, world
from support.world import (
    DRIVABLE,
    OBSTACLE,
    PERSON,
    SKY,
    VEGETATION,
    Box,
    Pose2D,
    Poses,
    World,
    mounted,
    pinhole,
)

from seg_perception.errors import GeometryError
from seg_perception.labels import UNKNOWN
from seg_perception.occupancy.camera import Camera, Pose, ground_points, range_limit
from seg_perception.occupancy.column_scan import NONE, ScanColumns, columns_of, scan_columns
from seg_perception.occupancy.mapper import LabelFrame, Mapper, raised
from seg_perception.occupancy.settings import Settings

SECOND = 1_000_000_000
ROAD = World()


def look(
    groups: np.ndarray, camera: Camera, stamp: float = 1.0, sure: int | None = None
) -> LabelFrame:
    confidence = None if sure is None else np.full(groups.shape, sure, np.uint8)
    return LabelFrame(groups, confidence, camera, "", "camera_optical", int(stamp * SECOND))


def cells(mapper: Mapper) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the middle of every cell, (rows, columns)."""
    x0, y0 = mapper.grid.origin
    step = mapper.settings.resolution
    rows, columns = mapper.grid.shares().shape[1:]
    y, x = np.mgrid[0:rows, 0:columns]
    return x0 + (x + 0.5) * step, y0 + (y + 0.5) * step


def best(mapper: Mapper) -> np.ndarray:
    """Return the strongest group of every cell, -1 where none was seen."""
    shares = mapper.grid.shares()
    return np.where(shares.max(0) < 0, -1, shares.argmax(0))


def drive(mapper: Mapper, poses: Poses, ground: World, camera: Camera, noise: float = 0.0) -> None:
    """Drive 6 m along a bend, one image every 0.1 s."""
    random = np.random.default_rng(0)
    for i in range(30):
        poses.where = Pose2D(0.2 * i, 0.02 * i, 0.01 * i)
        seen = ground.image(camera, poses.mount, poses.where)
        flipped = random.random(seen.shape) < noise
        seen[flipped] = random.integers(0, 8, int(flipped.sum()))
        mapper.update(look(seen, camera, 1.0 + 0.1 * i))


@pytest.mark.parametrize(("noise", "wanted"), [(0.0, 0.95), (0.02, 0.93)])
def test_ground_classes_come_out_right(noise: float, wanted: float) -> None:
    poses, camera = Poses(mounted(), Pose2D(0, 0, 0)), pinhole()
    mapper = Mapper(Settings(half_life=60.0, max_range=10.0), poses)
    drive(mapper, poses, ROAD, camera, noise)
    found, (x, y) = best(mapper), cells(mapper)
    truth = ROAD.ground(x, y)
    seen = found >= 0
    assert seen.sum() > 3000
    for group in np.unique(truth[seen]):
        here, there = (truth == group) & seen, found == group
        assert (here & there).sum() / (here | there).sum() >= wanted, group


@pytest.mark.parametrize("distance", [2.5, 3.33, 5.0])
@pytest.mark.parametrize("group", [OBSTACLE, PERSON])
def test_a_box_stands_where_it_touches_the_ground(distance: float, group: int) -> None:
    box = Box(distance, -0.6, distance + 0.8, 0.6, 1.0, group)
    poses, camera = Poses(mounted()), pinhole()
    mapper = Mapper(Settings(), poses)
    result = mapper.update(look(World((box,)).image(camera, poses.mount, Pose2D(0, 0, 0)), camera))
    shares, (x, y) = mapper.grid.shares(), cells(mapper)
    solid = shares[group] >= 50
    assert solid.any()
    near = x[solid].min()
    # The cell holds a contact in the row of pixels that meets the ground there.
    row, cell = bounds.of_row(distance, 1.2, camera.fx), mapper.settings.resolution
    assert -cell < near - cell / 2 - distance <= row
    # What it hides is unknown: nothing is known right behind it, and no ground is invented there.
    behind = (x > distance + 0.2) & (x < distance + 0.7) & (np.abs(y) < 0.4)
    assert (shares[:, behind].max(0) == -1).all()
    # Its upper pixels do not reach over the ground behind.
    assert x[solid].max() - cell / 2 <= result.contacts[:, 0].max()
    assert (result.contact_groups == group).all()
    check_feet(result.contacts, camera, poses.mount, distance)


def check_feet(contacts: np.ndarray, camera: Camera, mount: Pose, distance: float) -> None:
    """Fail where a box's front at `distance` is not between a contact and the pixel before it.

    A sweep may lack a pixel in some rows. Next to an edge, one that passes the box may graze it.
    """
    ground = ground_points(camera, mount).points.reshape(-1, 2)
    swept = ground[columns_of(camera, mount).order]
    where = {(float(x), float(y)): i for i, (x, y) in enumerate(swept)}
    before = swept[[where[float(x), float(y)] - 1 for x, y in contacts], 0]
    column = contacts[:, 0] / camera.fx
    aside = np.abs(contacts[:, 1]) * distance / contacts[:, 0]
    assert (aside <= 0.6 + column).all()
    inner = aside < 0.6 - column
    assert inner.sum() > 100
    assert (before[inner] <= distance).all()
    rounding = bounds.of_ground(contacts[:, 0], 1.2)
    assert (contacts[:, 0] >= distance - rounding)[inner].all()


@pytest.mark.parametrize("unit", ["metres", "millimetres"])
def test_depth_places_what_it_measures(unit: str) -> None:
    box = Box(4.0, -0.6, 4.8, 0.6, 1.0)
    poses, camera = Poses(mounted()), pinhole()
    seen, depth = World((box,)).look(camera, poses.mount, Pose2D(0, 0, 0))
    if unit == "millimetres":
        depth = np.where(np.isfinite(depth), depth * 1000, 0).astype(np.uint16)
    mapper = Mapper(Settings(max_range=8.0), poses)
    result = mapper.update(look(seen, camera)._replace(depth=depth))
    # A millimetre at most is cut off along the optical axis, which is pitched by 0.3.
    off = 0.001 / np.cos(0.3) if unit == "millimetres" else bounds.of_ground(4.0, 1.2)
    assert np.abs(result.contacts[:, 0] - 4.0).max() <= off
    found, (x, y) = best(mapper), cells(mapper)
    ground = (found >= 0) & (found != OBSTACLE)
    assert ground.sum() > 1000
    ground &= ROAD.is_one_group(x, y, mapper.settings.resolution)
    assert (ROAD.ground(x, y)[ground] == found[ground]).all()
    assert (mapper.grid.shares()[:, (x > 4.2) & (x < 4.7) & (np.abs(y) < 0.4)] == -1).all()


def test_depth_tells_a_pit_from_ground_and_what_hangs_high_from_a_thing() -> None:
    poses, camera = Poses(mounted(pitch=0.1)), pinhole()
    road, depth = ROAD.look(camera, poses.mount, Pose2D(0, 0, 0))
    mapper = Mapper(Settings(max_range=8.0), poses)
    mapper.update(look(road, camera)._replace(depth=depth * np.float32(1.3)))  # it lies deeper
    assert (mapper.grid.shares() == -1).all()
    roof = np.full_like(road, SKY)
    roof[:100] = OBSTACLE  # 3 m above the ground
    height = -(camera.rays().astype(np.float64) @ poses.mount.rotation.T)[..., 2]
    above = np.where(height < 0, (1.2 - 3.0) / height, np.inf).astype(np.float32)
    result = mapper.update(look(roof, camera, 1.1)._replace(depth=above))
    assert len(result.contacts) == 0


def test_free_rays_end_before_things_and_where_trust_ends() -> None:
    box = Box(3.0, -0.6, 3.8, 0.6, 1.0)
    poses, camera = Poses(mounted()), pinhole()
    mapper = Mapper(Settings(), poses)
    result = mapper.update(look(World((box,)).image(camera, poses.mount, Pose2D(0, 0, 0)), camera))
    blocked = np.abs(result.free[:, 1]) < 0.5 * result.free[:, 0] / 3.0 * 0.9
    assert blocked.any()
    assert result.free[blocked, 0].max() <= 3.0
    limit = range_limit(camera, poses.mount, 0.1)
    farthest = np.hypot(*result.free.T).max()
    assert limit - bounds.of_row(limit, 1.2, camera.fx) <= farthest <= limit


def test_one_degree_of_pitch_moves_the_far_edge_as_geometry_predicts() -> None:
    height, pitch, camera = 1.2, 0.25, pinhole()
    world_seen = World((Box(5.0, -3.0, 6.0, 3.0, 2.0),))
    seen = world_seen.image(camera, mounted(height=height, pitch=pitch), Pose2D(0, 0, 0))
    wrong = mounted(height=height, pitch=pitch + np.deg2rad(1.0))
    mapper = Mapper(Settings(max_range=20.0), Poses(wrong))
    result = mapper.update(look(seen, camera))
    middle = np.abs(result.contacts[:, 1]) < 0.3
    angle = np.arctan2(height, 5.0)  # below the horizon, of the box's foot
    predicted = height / np.tan(angle + np.deg2rad(1.0))
    row = bounds.of_row(predicted, height, camera.fx)
    assert np.abs(result.contacts[middle, 0] - predicted).max() <= row


def test_ground_beyond_the_trusted_range_is_not_claimed() -> None:
    poses, camera = Poses(mounted(pitch=0.1)), pinhole()
    mapper = Mapper(Settings(width=60.0, height=60.0, max_range=100.0), poses)
    mapper.update(look(ROAD.image(camera, poses.mount, Pose2D(0, 0, 0)), camera))
    x, y = cells(mapper)
    known = mapper.grid.shares().max(0) >= 0
    assert np.hypot(x, y)[known].max() <= range_limit(camera, poses.mount, 0.1) + 0.2


def test_never_seen_differs_from_free_and_evidence_ages() -> None:
    poses, camera = Poses(mounted()), pinhole()
    mapper = Mapper(Settings(half_life=1.0), poses)
    seen = ROAD.image(camera, poses.mount, Pose2D(0, 0, 0))
    mapper.update(look(seen, camera, 1.0))
    cost = mapper.costs()
    x, _ = cells(mapper)
    assert (cost[x < 0] == -1).all()
    free = cost == 0
    assert free.any()
    mapper.grid.decay(0.5)
    assert (mapper.costs()[free] == 0).mean() > 0.5
    mapper.grid.decay(28.5)
    assert (mapper.costs() == -1).all()


def test_low_confidence_weighs_less() -> None:
    poses, camera = Poses(mounted()), pinhole()
    road = np.full((480, 640), DRIVABLE, np.uint8)
    grass = np.full((480, 640), VEGETATION, np.uint8)
    mapper = Mapper(Settings(half_life=1e6), poses)
    mapper.update(look(road, camera, 1.0, sure=200))
    mapper.update(look(grass, camera, 1.1, sure=40))
    known = mapper.grid.shares()[:, mapper.grid.shares().max(0) >= 0]
    assert np.median(known[DRIVABLE]) == round(100 * 200 / 240)


def test_time_that_jumps_back_begins_anew() -> None:
    poses, camera = Poses(mounted()), pinhole()
    mapper = Mapper(Settings(half_life=1e6), poses)
    mapper.update(look(np.full((480, 640), DRIVABLE, np.uint8), camera, 100.0))
    mapper.update(look(np.full((480, 640), VEGETATION, np.uint8), camera, 99.9))  # another camera
    assert mapper.restarts == 0
    assert (mapper.grid.shares()[DRIVABLE] > 0).any()
    mapper.update(look(np.full((480, 640), VEGETATION, np.uint8), camera, 5.0))  # the bag loops
    assert mapper.restarts == 1
    assert (mapper.grid.shares()[DRIVABLE] <= 0).all()


def test_a_image_whose_pose_is_unknown_changes_nothing() -> None:
    class Lost(Poses):
        def robot(self, stamp: int) -> Pose2D | None:
            raise GeometryError("no odom for stamp 1.000; is the robot publishing it?")

    camera = pinhole()
    mapper = Mapper(Settings(), Lost(mounted()))
    with pytest.raises(GeometryError, match="no odom"):
        mapper.update(look(np.zeros((480, 640), np.uint8), camera))
    assert (mapper.grid.shares() == -1).all()
    assert mapper.newest is None


def test_the_reduced_set_is_matched_and_small() -> None:
    box = Box(3.0, -0.6, 3.8, 0.6, 1.0, PERSON)
    poses, camera = Poses(mounted()), pinhole()
    seen = World((box,)).image(camera, poses.mount, Pose2D(0, 0, 0))
    mapper = Mapper(Settings(), poses)
    result = mapper.update(look(seen, camera, sure=180))
    mask, confidence, points = result.reduced
    assert mask.shape == confidence.shape == points.shape[:2]
    assert points.nbytes <= 320_000
    assert points.dtype == np.float32
    broken = np.isnan(points)
    assert (broken.all(2) == broken.any(2)).all()
    assert (confidence == 180).all()
    base = poses.mount.apply(points.astype(np.float64))
    known = ~broken.any(2)
    # Points are float32 in the camera's frame, turned by three of its rounded numbers.
    rounding = 3 * bounds.of_float32(points)
    assert np.abs(base[known, 2]).max() <= rounding
    person = known & (mask == PERSON)
    assert person.any()
    # Upper pixels too stand where their thing touches the ground.
    away = np.abs(base[person][:, None, :2] - result.contacts[None]).max(-1)
    assert away.min(1).max() <= rounding
    assert broken[mask == SKY].all()
    ground = known & (mask != PERSON)
    x, y = base[ground, 0], base[ground, 1]
    on_border = ~ROAD.is_one_group(x, y, 2 * rounding)
    assert (ROAD.ground(x, y) == mask[ground])[~on_border].all()


def along(groups: list[int], reachable: list[bool] | None = None) -> tuple[list[int], int, int]:
    """Follow one sweep, given from the nadir upwards."""
    image = np.array(groups, np.uint8)[None]
    within = np.ones(image.shape, np.bool_) if reachable is None else np.array([reachable])
    sweeps = ScanColumns(
        np.arange(len(groups), dtype=np.int32), np.array([0, len(groups)], np.int32)
    )
    seen = scan_columns(image, within, sweeps)
    return seen.foot[0].tolist(), int(seen.contact[0]), int(seen.free[0])


SWEEPS: dict[str, tuple[list[int], list[int], int, int]] = {
    "open ground": ([1, 1, 1, 2], [0, 1, 2, 3], -1, 3),
    "a thing": ([1, 1, 3, 3, 3, 7], [0, 1, 2, 2, 2, -1], 2, 1),
    "ground behind a thing": ([1, 3, 3, 3, 1, 1], [0, 1, 1, 1, -1, -1], 1, 0),
    "a person on a car": ([1, 5, 5, 4, 1], [0, 1, 1, 1, -1], 1, 0),
    "noise": ([1, 3, 3, 1, 1], [0, -1, -1, 3, 4], -1, 4),
    "a thing at the edge": ([3, 3, 3, 1], [0, 0, 0, -1], 0, -1),
    "unknown first": ([255, 255, 255, 255, 1, 1], [-1, -1, -1, -1, 4, 5], -1, 5),
    "a gap": ([1, 255, 255, 255, 1], [0, -1, -1, -1, 4], -1, 0),
    "a small gap": ([1, 255, 255, 1], [0, -1, -1, 3], -1, 3),
    "sky alone": ([7, 7, 7], [-1, -1, -1], -1, -1),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_are_followed_from_the_robot_outwards(name: str) -> None:
    groups, feet, contact, free = SWEEPS[name]
    assert along(groups) == (feet, contact, free)


def test_a_thing_beyond_trust_hides_what_is_above_it() -> None:
    feet, contact, free = along([1, 3, 3, 3, 1], [True, False, False, False, True])
    assert feet == [0, -1, -1, -1, -1]
    assert (contact, free) == (NONE, 0)


def bad_columns() -> Iterator[tuple[float, float, float]]:
    yield -0.1, 1.0, 0.1
    yield 1.0, 0.5, 0.1
    yield 0.0, 1.0, 0.0
    yield 0.0, float("nan"), 0.1


@pytest.mark.parametrize(("low", "high", "step"), bad_columns())
def test_columns_that_make_no_sense_are_refused(low: float, high: float, step: float) -> None:
    with pytest.raises(GeometryError, match="make no sense"):
        raised(np.zeros((1, 2), np.float32), low=low, high=high, step=step)


def test_points_are_raised_to_columns() -> None:
    points = raised(np.array([[1, 2], [3, 4]], np.float32), low=0.1, high=0.5, step=0.2)
    assert points.shape == (6, 3)
    assert points[:3, 2].tolist() == pytest.approx([0.1, 0.3, 0.5])
    assert (points[3:, :2] == [3, 4]).all()
    assert raised(np.zeros((0, 2), np.float32), low=0, high=1, step=0.5).shape == (0, 3)


def test_a_world_is_drawn_as_the_camera_sees_it() -> None:
    camera, mount = pinhole(), mounted(height=1.0, pitch=0.0)
    seen = ROAD.image(camera, mount, Pose2D(0, 0, 0))
    assert (seen[:240] == SKY).all()
    points = ground_points(camera, mount).points
    below = np.isfinite(points).all(2)
    assert (ROAD.ground(points[below][:, 0], points[below][:, 1]) == seen[below]).all()
    assert UNKNOWN not in seen
    assert world.OTHER in seen
