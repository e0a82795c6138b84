"""Pixels look where the calibration says."""

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from support import bounds
from support.optics import FISHEYE, MATRIX, PLUMB_BOB, RATIONAL, K, info, pixels, read

from seg_perception.errors import GeometryError
from seg_perception.occupancy.camera import OPTICAL, Camera, Pose, project

Projection = Callable[[np.ndarray], np.ndarray]
PIXEL_ROUNDING = bounds.of_float64(reach=1000.0)


def lens(model: str, seed: int) -> Camera:
    """Return a camera with random coefficients of the size that calibrations have."""
    random = np.random.default_rng(seed)
    size = {
        "plumb_bob": [0.3, 0.1, 0.003, 0.003, 0.02],
        "rational_polynomial": [0.4, 0.1, 0.003, 0.003, 0.02, 0.3, 0.1, 0.02],
        "equidistant": [0.05, 0.01, 0.004, 0.001],
    }[model]
    focal = random.uniform(250, 700, 2)
    centre = random.uniform((300, 220), (340, 260))
    return Camera(640, 480, *focal, *centre, model, tuple(random.uniform(-1, 1, len(size)) * size))


def by_opencv(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Project points (...,3) in front of the camera."""
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    flat = np.asarray(points, float).reshape(-1, 1, 3)
    function = cv2.fisheye.projectPoints if camera.model == "equidistant" else cv2.projectPoints
    found = function(flat, np.zeros(3), np.zeros(3), matrix, np.array(camera.coefficients))[0]
    return found.reshape(*points.shape[:-1], 2)


def test_a_pinhole_looks_along_the_inverse_of_k() -> None:
    rays = read().rays()
    expected = np.dstack([pixels(read()), np.ones((480, 640))]) @ np.linalg.inv(MATRIX).T
    assert rays.dtype == np.float32
    bounds.check(rays, expected, bounds.of_float32(expected))


def rounding_in_pixels(project: Projection, rays: np.ndarray) -> np.ndarray:
    """Return how far a unit in the last place of each coordinate moves the pixels of rays (n,3).

    Rays are float32, so half a unit is what rounding does.
    """
    moved, at = np.zeros((len(rays), 2)), project(rays.astype(float))
    for axis in range(3):
        other = rays.copy()
        other[:, axis] = np.nextafter(other[:, axis], np.float32(0))
        moved += np.abs(project(other.astype(float)) - at)
    return moved + PIXEL_ROUNDING


def check_pixels(project: Projection, camera: Camera, which: np.ndarray) -> None:
    """Fail where rays do not go back to their pixels; of those that are named, try one in five."""
    rays, right = camera.rays()[which][::5], pixels(camera)[which][::5]
    away = np.abs(project(rays.astype(float)) - right)
    assert (away <= rounding_in_pixels(project, rays)).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_rays_go_back_to_their_pixels_by_opencv(model: str, seed: int) -> None:
    camera = lens(model, seed)
    rays = camera.rays()
    seen = np.isfinite(rays).all(-1)
    assert (seen == np.isfinite(rays).any(-1)).all()
    assert seen[100:380, 150:490].all()
    ahead = seen & (rays[..., 2] == 1)
    assert (ahead == seen).all() or model == "equidistant"
    check_pixels(partial(by_opencv, camera), camera, ahead)
    check_pixels(partial(project, camera), camera, seen)


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_rays_are_those_of_opencv(model: str) -> None:
    coefficients = {"plumb_bob": PLUMB_BOB, "rational_polynomial": RATIONAL}.get(model, FISHEYE)
    camera = read(distortion_model=model, d=coefficients)
    flat, wanted = pixels(camera).reshape(-1, 1, 2), np.array(coefficients)
    if model == "equidistant":
        expected = cv2.fisheye.undistortPoints(flat, MATRIX, wanted)
    else:
        until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 300, 1e-13)
        expected = cv2.undistortPointsIter(flat, MATRIX, wanted, None, None, until)
    bounds.check(camera.rays()[..., :2], expected.reshape(480, 640, 2), bounds.of_float32(expected))


@pytest.mark.parametrize("model", ["", "plumb_bob", "rational_polynomial", "equidistant"])
def test_points_project_as_in_opencv(model: str) -> None:
    camera = lens(model, 3) if model else read()
    points = np.random.default_rng(0).uniform((-0.4, -0.3, 0.5), (0.4, 0.3, 3), (500, 3))
    points[0, :2] = 0
    bounds.check(project(camera, points), by_opencv(camera, points), PIXEL_ROUNDING)


def test_zeros_are_no_distortion_but_to_the_fisheye_lens() -> None:
    for model in ("", "plumb_bob", "rational_polynomial"):
        assert read(distortion_model=model, d=[]) == read(distortion_model=model, d=[0.0] * 8)
        assert read(distortion_model=model, d=[]).model == ""
    ideal = read(distortion_model="equidistant", d=[0.0] * 4)
    x = ideal.rays()[238, 321 + 200, 0]
    assert x == pytest.approx(np.tan(200 / 400), rel=bounds.EPS32)


def test_four_coefficients_are_five_with_a_zero() -> None:
    four = read(d=PLUMB_BOB[:4]).rays()
    np.testing.assert_array_equal(four, read(d=(*PLUMB_BOB[:4], 0.0)).rays())


def test_beyond_the_turn_of_the_distortion_there_is_no_ray() -> None:
    # r (1 - 0.5 r^2) rises up to r^2 = 2 / 3 and is 2 / 3 r there.
    camera = read(d=(-0.5, 0, 0, 0))
    turn = np.sqrt(2 / 3)
    flat = (pixels(camera) - (321, 238)) / (400, 402)
    distance = np.hypot(flat[..., 0], flat[..., 1])
    seen = np.isfinite(camera.rays()[..., 0])
    assert (seen == (distance < turn * 2 / 3)).all()
    assert 0 < seen.mean() < 1
    x = turn * np.array([0.99, 1.01, 1.4])
    ahead = np.stack([x, np.zeros(3), np.ones(3)], axis=-1)
    assert np.isfinite(project(camera, ahead)[:, 0]).tolist() == [True, False, False]


def test_nothing_flat_sees_behind_itself_but_a_fisheye_lens_may() -> None:
    behind = np.array([[0.2, 0.1, -1.0], [0.0, 0.0, -1.0]])
    assert np.isnan(project(read(), behind)).all()
    assert np.isnan(project(read(d=PLUMB_BOB), behind)).all()
    wide = Camera(640, 640, 180.0, 180.0, 320.0, 320.0, "equidistant", (0.0,) * 4)
    rays = wide.rays().astype(float)
    angle = np.hypot(*(np.moveaxis(pixels(wide), -1, 0) - 320)) / 180
    assert (np.isfinite(rays[..., 0]) == (angle <= np.pi)).all()
    side = (angle > 1.6) & (angle < 3)
    bounds.check(rays[side, 2], np.cos(angle[side]), bounds.EPS32)
    check_pixels(partial(project, wide), wide, side)


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
def test_roi_and_binning_pick_the_rays_of_the_full_image(model: str) -> None:
    d = PLUMB_BOB if model == "plumb_bob" else FISHEYE
    full = read(distortion_model=model, d=d).rays()
    window = {"x_offset": 50, "y_offset": 70, "width": 201, "height": 300, "do_rectify": True}
    part = info(distortion_model=model, d=d, binning_x=2, binning_y=3, roi=window)
    rays = Camera.from_info(part, (100, 100)).rays()
    bounds.check(rays, full[70:370:3, 50:250:2], bounds.of_float32(full))
    binned = Camera.from_info(info(binning_x=4, binning_y=4), (120, 160))
    assert (binned.fx, binned.fy, binned.cx, binned.cy) == (100, 100.5, 80.25, 59.5)


def test_a_rectified_image_takes_p_with_its_offset() -> None:
    given = info(d=PLUMB_BOB, r=cv2.Rodrigues(np.array([0.0, 0.02, 0.01]))[0].ravel())
    camera = Camera.from_info(given, (480, 640), rectified=True)
    points = np.random.default_rng(1).uniform((-2, -2, 2), (2, 2, 9), (50, 3))
    pixel = np.c_[points, np.ones(50)] @ given.p.reshape(3, 4).T
    bounds.check(project(camera, points), pixel[:, :2] / pixel[:, 2:], PIXEL_ROUNDING)
    bounds.check(camera.origin, (21 / 420, 0, 0), bounds.of_float64())
    half = info(binning_x=2, binning_y=2, p=given.p)
    assert Camera.from_info(half, (240, 320), rectified=True).origin == camera.origin


def test_raw_and_rectified_images_see_a_point_in_one_frame() -> None:
    turn = cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0]
    camera = read(d=PLUMB_BOB, r=turn.ravel())
    points = np.random.default_rng(2).uniform((-0.5, -0.4, 1), (0.5, 0.4, 2), (50, 3))
    raw = cv2.Rodrigues(turn.T)[0]
    expected = cv2.projectPoints(points, raw, np.zeros(3), MATRIX, np.array(PLUMB_BOB))[0][:, 0]
    bounds.check(project(camera, points), expected, PIXEL_ROUNDING)
    assert (camera.rays()[..., 2] == 1).all()
    check_pixels(partial(project, camera), camera, np.ones((480, 640), np.bool_))
    assert read(r=np.zeros(9)) == read()


BAD_INFO: dict[str, tuple[dict[str, Any], str]] = {
    "uncalibrated": ({"k": np.zeros(9), "p": np.zeros(12)}, "K is zero.*calibrate"),
    "rectified": ({"k": np.zeros(9)}, "K is zero and P is not.*rectified to true.*--rectified"),
    "nan": ({"k": [np.nan, *K[1:]]}, "K = .*nan.* finite"),
    "infinite": ({"k": [np.inf, *K[1:]]}, "K = .*inf.* finite"),
    "short": ({"k": K[:8]}, "K = .* 9 finite numbers"),
    "words": ({"k": ["f"] * 9}, "K = .* 9 numbers"),
    "negative": ({"k": [-400.0, *K[1:]]}, "focal lengths -400"),
    "telescope": ({"k": [20 * 640 + 1, *K[1:]]}, "focal lengths 12801"),
    "unit": ({"k": [0.6, 0, 0.5, 0, 0.8, 0.5, 0, 0, 1]}, "focal lengths 0.6, 0.8 for 640x480"),
    "outside": ({"k": [400, 0, 321, 0, 402, 1441, 0, 0, 1]}, r"\(321.*1441.*far outside 640x480"),
    "skewed": ({"k": [400, 5, 321, 0, 402, 238, 0, 0, 1]}, "no pinhole without skew"),
    "model": ({"distortion_model": "ftheta"}, "'ftheta': known are plumb_bob, rational_poly.*equi"),
    "no model": ({"distortion_model": "", "d": [0.1] * 5}, "next to 5 coeff.*set it to plumb_bob,"),
    "no model of 4": (
        {"distortion_model": "", "d": [0.1] * 4},
        "set it to plumb_bob or equidistant,",
    ),
    "no model of 3": ({"distortion_model": "", "d": [0.1] * 3}, "no known model has so many"),
    "three": ({"d": [0.1] * 3}, "plumb_bob has 4 or 5 distortion coefficients, not 3"),
    "twelve": ({"distortion_model": "rational_polynomial", "d": [0.1] * 12}, "has 8 .* not 12"),
    "none": ({"distortion_model": "equidistant", "d": []}, "equidistant has 4 .* not 0"),
    "nan lens": ({"d": [np.nan] * 5}, "coefficients .* not finite"),
    "deforms": ({"r": np.full(9, 0.5)}, "rotation = .* deforms"),
    "other size": ({"width": 320, "height": 240}, "image of 320x240, the mask is 640x480"),
    "binned": ({"binning_x": 2, "binning_y": 2}, "image of 320x240, the mask is 640x480"),
    "no size": ({"width": 0, "height": 0}, "image of 0x0: correct roi"),
    "wide roi": ({"roi": {"x_offset": 10, "width": 640, "height": 480}}, r"ROI 640x480 at \(10, 0"),
    "thin roi": ({"roi": {"width": 640}}, "ROI 640x0"),
}


@pytest.mark.parametrize("case", BAD_INFO)
def test_a_wrong_camera_info_is_refused_with_its_value(case: str) -> None:
    changes, message = BAD_INFO[case]
    with pytest.raises(GeometryError, match=message):
        read(**changes)


def test_a_rectified_image_is_refused_where_p_does_not_say_where_it_is() -> None:
    with pytest.raises(GeometryError, match="no CameraInfo"):
        Camera.from_info(None, (480, 640))
    for changes, message in (
        ({"p": np.zeros(12)}, "P is zero"),
        ({"p": [400.0, 0, 320, -8001, 0, 400, 240, 0, 0, 0, 1, 0]}, r"\(20.0.*, .*metres"),
    ):
        with pytest.raises(GeometryError, match=message):
            Camera.from_info(info(**changes), (480, 640), rectified=True)
    cut = {"width": 320, "height": 240, "do_rectify": True}
    with pytest.raises(GeometryError, match="own ROI is not known.*320x240"):
        Camera.from_info(info(roi=cut), (240, 320), rectified=True)


def test_poses_turn_as_the_contract_says() -> None:
    rounding = bounds.of_poses(2, reach=10.0)
    bounds.check(OPTICAL.apply(np.eye(3)), [[0, -1, 0], [0, 0, -1], [1, 0, 0]], rounding)
    ahead = Pose.from_rpy(0, 0, 1, 0, 0.1, 0).apply([1, 0, 0])
    bounds.check(ahead, [np.cos(0.1), 0, 1 - np.sin(0.1)], rounding)  # it looks down
    pose = Pose.from_rpy(1, 2, 3, 0.3, -0.2, 2.5)
    axes = (np.array(a) for a in ((0, 0, 2.5), (0, -0.2, 0), (0.3, 0, 0)))
    rz, ry, rx = (cv2.Rodrigues(a)[0] for a in axes)
    bounds.check(pose.rotation, rz @ ry @ rx, rounding)
    points = np.random.default_rng(0).normal(size=(4, 5, 3))
    bounds.check(pose.inverse().apply(pose.apply(points)), points, rounding)
    other = Pose.from_rpy(-1, 0, 2, 1, 0.5, -3)
    both = pose.compose(other).apply(points)
    bounds.check(both, pose.apply(other.apply(points)), rounding)


def test_a_quaternion_is_the_rotation_it_stands_for() -> None:
    axis = np.array([1, -2, 3]) / np.sqrt(14)
    quaternion = (*np.sin(0.4) * axis, np.cos(0.4))
    pose = Pose.from_quaternion((1, 2, 3), tuple(2.5 * q for q in quaternion))
    bounds.check(pose.rotation, cv2.Rodrigues(0.8 * axis)[0], bounds.of_poses())
    assert pose.translation.tolist() == [1, 2, 3]
    for translation, wrong, message in (
        ((0, 0, 0), (0, 0, 0, 0), "quaternion .* has length 0.0"),
        ((0, 0, 0), (0, 0, np.nan, 1), "quaternion .* 4 finite"),
        ((0, np.inf, 0), (0, 0, 0, 1), "translation .* 3 finite"),
    ):
        with pytest.raises(GeometryError, match=message):
            Pose.from_quaternion(translation, wrong)
    with pytest.raises(GeometryError, match="6 finite"):
        Pose.from_rpy(0, 0, np.nan, 0, 0, 0)
    for matrix in (np.ones((3, 3)), np.diag([1.0, 1, -1])):
        with pytest.raises(GeometryError, match="does not turn"):
            Pose(matrix, np.zeros(3))
