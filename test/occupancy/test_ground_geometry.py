"""Rays meet the ground where geometry says, and depth images become points."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
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
    np.testing.assert_allclose(ground.points[below], np.c_[0.5 + x, y], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ground.area[below], x**3 / (height * 400 * 410), rtol=1e-4)
    assert np.isnan(ground.area[~below]).all()
    assert ground.centre == (0.5, 0.0, 1.2)


def test_a_degree_of_pitch_moves_the_far_edge_as_geometry_predicts() -> None:
    camera, height, pitch = read(), 1.2, np.radians(8)
    rows = np.arange(200, 480, 10)
    angle = np.arctan((rows - 238) / 402)
    for error in np.radians([-1, 0, 1]):
        along = ground_points(camera, body(height, pitch + error)).points[rows, 321]
        np.testing.assert_allclose(along[:, 0], height / np.tan(pitch + error + angle), rtol=1e-5)
        np.testing.assert_allclose(along[:, 1], 0, atol=1e-6)


@pytest.mark.parametrize("model", ["", "rational_polynomial", "equidistant"])
def test_the_area_is_what_lies_between_neighbouring_pixels(model: str) -> None:
    d = {"": (), "rational_polynomial": RATIONAL, "equidistant": FISHEYE}[model]
    camera = read(distortion_model=model, d=d)
    ground = ground_points(camera, body(1.2, 0.6, yaw=0.4))
    points = ground.points.astype(float)
    u = (points[1:-1, 2:] - points[1:-1, :-2]) / 2
    v = (points[2:, 1:-1] - points[:-2, 1:-1]) / 2
    between = np.abs(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])
    near = np.hypot(*np.moveaxis(points[1:-1, 1:-1], -1, 0)) < 4
    assert near.mean() > 0.3
    np.testing.assert_allclose(ground.area[1:-1, 1:-1][near], between[near], rtol=3e-3)
    assert (np.isfinite(ground.area) == np.isfinite(ground.points).all(-1)).all()


def test_at_the_range_limit_one_row_covers_one_cell() -> None:
    camera = Camera(640, 480, 400.0, 800.0, 320.0, 240.0)
    limit = range_limit(camera, body(1.25), 0.1)
    assert limit == pytest.approx(np.sqrt(0.1 * 1.25 * 800))
    along = ground_points(camera, body(1.25)).points[241:, 320, 0]
    row = int(np.argmin(np.abs(along - limit)))
    assert (along[row - 1] - along[row + 1]) / 2 == pytest.approx(0.1, rel=0.02)
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
    np.testing.assert_allclose(back_project(camera, depth), expected, rtol=1e-6)
    metres = depth.astype(np.float32) / 1000
    metres[0] = [np.nan, 0, -1, np.inf]
    points = back_project(camera, metres)
    assert points.dtype == np.float32
    assert np.isnan(points[0]).all()
    np.testing.assert_allclose(points[1:], expected[1:], rtol=1e-6)
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
    assert (ours == theirs).all(-1).mean() >= 0.99
    assert np.abs(points[near] - expected[near]).max() < 1e-3

    # The grid: share of road in each cell of ours, and the truth warped to the cells' centres.
    cells, place = np.unique(ours, axis=0, return_inverse=True)
    share = np.bincount(place, is_road[near]) / np.bincount(place)
    centre = np.c_[(cells + 0.5) * 0.1, np.ones(len(cells))] @ homography.T
    u, v = np.rint(centre[:, :2] / centre[:, 2:]).astype(int).T
    seen = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    assert seen.sum() > 2_000
    agreement = (is_road[v[seen], u[seen]] == (share[seen] >= 0.5)).mean()
    print(f"KITTI: {seen.sum()} cells, agreement {agreement:.4f}")
    assert agreement >= 0.99
