"""Rays meet the ground where geometry says, and depth images become points."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import bounds
from support.optics import FISHEYE, PLUMB_BOB, RATIONAL, body, info, pixels, read

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import (
    OPTICAL,
    Camera,
    Pose,
    back_project,
    ground_points,
    range_limit,
    warm_up,
)


def test_a_level_camera_meets_the_ground_in_closed_form() -> None:
    camera, height = Camera(640, 480, 400.0, 410.0, 321.0, 238.0), 1.2
    ground = ground_points(camera, body(height, x=0.5))
    u, v = np.moveaxis(pixels(camera), -1, 0)
    assert (np.isfinite(ground.points).all(-1) == (v > 238)).all()
    below = v > 238
    x = height * 410 / (v - 238)[below]
    y = -(u[below] - 321) / 400 * x
    away = np.hypot(x, y)
    off = np.abs(ground.points[below] - np.c_[0.5 + x, y]).max(-1)
    assert (off <= bounds.of_ground(away, height)).all()
    area = x**3 / (height * 400 * 410)  # three times as sensitive as x; and rounded itself
    assert (np.abs(ground.area[below] / area - 1) <= 4 * bounds.of_ground(away, height) / x).all()
    assert np.isnan(ground.area[~below]).all()
    assert ground.centre == (0.5, 0.0, 1.2)


def test_a_degree_of_pitch_moves_the_far_edge_as_geometry_predicts() -> None:
    camera, height, pitch = read(), 1.2, np.radians(8)
    rows = np.arange(200, 480, 10)
    angle = np.arctan((rows - 238) / 402)
    for error in np.radians([-1, 0, 1]):
        along = ground_points(camera, body(height, pitch + error)).points[rows, 321]
        x = height / np.tan(pitch + error + angle)
        assert (np.abs(along[:, 0] - x) <= bounds.of_ground(x, height)).all()
        assert (np.abs(along[:, 1]) <= bounds.of_ground(x, height)).all()


def area_between(points: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a pixel's ground by the points (H,W,2) `step` pixels around, and its sides' sum.

    Both are (H-4,W-4): without two pixels at each border.
    """
    rows, columns = points.shape[:2]
    right, left = (points[2 : rows - 2, 2 + s : columns - 2 + s] for s in (step, -step))
    lower, upper = (points[2 + s : rows - 2 + s, 2 : columns - 2] for s in (step, -step))
    u, v = (right - left) / (2 * step), (lower - upper) / (2 * step)
    area = np.abs(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])
    return area, np.linalg.norm(u, axis=-1) + np.linalg.norm(v, axis=-1)


@pytest.mark.parametrize("model", ["", "rational_polynomial", "equidistant"])
def test_the_area_is_what_lies_between_neighbouring_pixels(model: str) -> None:
    d = {"": (), "rational_polynomial": RATIONAL, "equidistant": FISHEYE}[model]
    camera = read(distortion_model=model, d=d)
    ground = ground_points(camera, body(1.2, 0.6, yaw=0.4))
    points = ground.points.astype(float)
    away = np.hypot(*np.moveaxis(points[2:-2, 2:-2], -1, 0))
    near = away < 4
    assert near.mean() > 0.3
    (single, sides), (double, _) = (area_between(points, step) for step in (1, 2))
    # Differences over two pixels err four times as much as over one: what remains of the error is
    # a third of what the two are apart.
    bound = np.abs(double - single) + 2 * bounds.of_ground(away, 1.2) * sides
    assert (np.abs(ground.area[2:-2, 2:-2] - single) <= bound)[near].all()
    assert (np.isfinite(ground.area) == np.isfinite(ground.points).all(-1)).all()


def test_at_the_range_limit_one_row_covers_one_cell() -> None:
    camera = Camera(640, 480, 400.0, 800.0, 320.0, 240.0)
    limit = range_limit(camera, body(1.25), 0.1)
    assert limit == pytest.approx(np.sqrt(0.1 * 1.25 * 800))
    along = ground_points(camera, body(1.25)).points[241:, 320, 0]
    covered = along[:-1] - along[1:]
    assert abs(along[:-1][covered <= 0.1].max() - limit) <= 0.1  # in the very row
    for cell in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(GeometryError, match="cells of .* resolution above 0"):
            range_limit(camera, body(), cell)


def test_a_camera_that_sees_no_ground_is_refused() -> None:
    for height in (0.0, -0.4):
        with pytest.raises(GeometryError, match=f"height {height:.3f} m, not above the ground"):
            ground_points(read(), body(height))
    with pytest.raises(GeometryError, match=r"height 1\.20 m sees no ground.*pitch"):
        ground_points(read(), body(1.2, -1.0))


def test_depth_becomes_points_in_metres() -> None:
    camera = Camera(4, 3, 2.0, 2.0, 1.0, 1.0, origin=(0.05, 0.0, 0.0))
    depth = np.full((3, 4), 2500, np.uint16)
    expected = np.dstack([(pixels(camera) - 1) / 2 * 2.5, np.full((3, 4), 2.5)])
    expected[..., 0] += 0.05
    # The ray, the unit of millimetres, two products and a sum are rounded.
    rounding = 5 * bounds.of_float32(expected)
    bounds.check(back_project(camera, depth), expected, rounding)
    metres = depth.astype(np.float32) / 1000
    metres[0] = [np.nan, 0, -1, np.inf]
    points = back_project(camera, metres)
    assert points.dtype == np.float32
    assert np.isnan(points[0]).all()
    bounds.check(points[1:], expected[1:], rounding)
    depth[0, 0] = 0
    assert np.isnan(back_project(camera, depth)[0, 0]).all()
    with pytest.raises(GeometryError, match="depth of float64"):
        back_project(camera, metres.astype(float))
    with pytest.raises(GeometryError, match=r"shape \(2, 4\) .* 3 rows and 4 columns"):
        back_project(camera, metres[:2])


def test_geometry_is_computed_once_and_cannot_be_spoiled() -> None:
    warm_up()
    assert read(d=PLUMB_BOB).rays() is read(d=PLUMB_BOB).rays()
    ground = ground_points(read(), body(1.2, 0.1))
    assert ground_points(read(), body(1.2, 0.1)) is ground
    assert ground_points(read(), body(1.2, 0.1001)) is not ground
    for array in (read().rays(), ground.points, ground.area, body().rotation):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_kitti_road_lies_in_the_cells_of_a_homography() -> None:
    folder = os.environ.get("SEG_PERCEPTION_SCENES")
    if not folder:
        pytest.skip("SEG_PERCEPTION_SCENES does not name the folder with the KITTI scene")
    scene = Path(folder) / "kitti_um_000000"
    lines = (line.split(":") for line in (scene / "calib.txt").read_text().splitlines() if line)
    numbers = {name: np.array(values.split(), float) for name, values in lines}
    p, road = numbers["P2"].reshape(3, 4), numbers["Tr_cam_to_road"].reshape(3, 4)
    truth = cv2.imread(str(scene / "road_gt.png"))
    is_road = (truth == (255, 0, 255)).all(-1)
    size = is_road.shape

    # The road's frame is an optical one: x right, y down, z forward, its ground is y = 0.
    pose = OPTICAL.compose(Pose(road[:, :3], road[:, 3]))
    given = info(width=size[1], height=size[0], p=p.ravel())
    camera = Camera.from_info(given, size, rectified=True)
    assert pose.translation[2] == pytest.approx(1.60, abs=0.01)
    points = ground_points(camera, pose).points.astype(float)

    # Ground (x, y, 1) to pixels by P2 alone: forward is z of the road's frame, left is -x.
    to_camera = np.linalg.inv(np.vstack([road, [0, 0, 0, 1]]))
    homography = p @ to_camera @ np.array([[0, -1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    flat = np.dstack([pixels(camera), np.ones(size)]) @ np.linalg.inv(homography).T
    expected = flat[..., :2] / flat[..., 2:]

    limit = range_limit(camera, pose, 0.1)
    near = (np.hypot(expected[..., 0], expected[..., 1]) <= limit) & (expected[..., 0] > 0)
    ours, theirs = (np.floor(a[near] / 0.1).astype(int) for a in (points, expected))
    assert near.sum() > 10_000
    away = np.hypot(*(expected[near] - pose.translation[:2]).T)
    off = bounds.of_ground(away, pose.translation[2])
    assert (np.abs(points[near] - expected[near]).max(-1) <= off).all()
    edge = np.abs(expected[near] / 0.1 - np.rint(expected[near] / 0.1)).min(-1) * 0.1
    assert (ours == theirs).all(-1)[edge > off].all()

    # The grid: share of road in each cell of ours, and the truth warped to the cells' centres.
    cells, place = np.unique(ours, axis=0, return_inverse=True)
    share = np.bincount(place, is_road[near]) / np.bincount(place)
    centre = np.c_[(cells + 0.5) * 0.1, np.ones(len(cells))] @ homography.T
    u, v = np.rint(centre[:, :2] / centre[:, 2:]).astype(int).T
    seen = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    assert seen.sum() > 2_000
    pure = seen & ((share == 0) | (share == 1))  # the road's border runs through no such cell
    assert pure.sum() > 0.9 * seen.sum()
    assert (is_road[v[pure], u[pure]] == (share[pure] == 1)).all()
