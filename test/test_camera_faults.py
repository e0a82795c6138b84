"""Cameras that lie: what each fault measures, and what the node makes of it over DDS."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from support.graph import NO_LIMITS, NODE, Graph

from seg_perception.bags.clip import bundled_images
from seg_perception.camera_faults import COARSE, CameraWatch, Figures, find_fault, luma, measure
from seg_perception.images import ENCODINGS, DecodedImage
from seg_perception.parameters import SegmentationParameters

S = 10**9
LIMITS = SegmentationParameters()
DEFAULTS = {name: getattr(LIMITS, name) for name in NO_LIMITS}
GOOD = Figures(0.0, 0.1, 0.1, 200.0, 0.5)


def measured(image: np.ndarray, encoding: str = "bgr8") -> Figures:
    return CameraWatch().observe(DecodedImage(image, encoding), S)


def columns(values: np.ndarray, height: int = 480) -> np.ndarray:
    """Return a grey image (height, W) whose columns have these values."""
    return np.repeat(values.astype(np.uint8)[None], height, axis=0)


def with_noise(image: np.ndarray, level: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, level, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


# What is measured


def test_shares_and_structure_are_counted() -> None:
    image = np.full((480, 640), 100, np.uint8)
    image[:, :160] = 15  # dark is below 16
    image[:, 480:] = 245  # saturated from 245 on
    found = measured(image, "mono8")
    assert (found.dark, found.saturated, found.structure) == (0.25, 0.25, 230)
    image[:, :160], image[:, 480:] = 16, 244
    assert measured(image, "mono8")[1:3] == (0.0, 0.0)


def test_sharpness_of_steps_ramps_and_noise() -> None:
    """The thumbnail has 128 columns, each the mean of 4 of the 5 pixels that it stands for."""
    steps = np.repeat(np.arange(4) % 2 * 200, 160)  # 3 steps, at columns of the thumbnail
    # 3 of 127 differences see a step from one place to the next, 24 of 120 over eight places.
    expected = np.sqrt((3 / 127) / (24 / 120))
    assert measured(columns(steps), "mono8").sharpness == pytest.approx(expected)
    ramp = np.arange(640) // 5 * 2  # 2 from one place to the next, 16 over eight
    assert measured(columns(ramp), "mono8").sharpness == pytest.approx(1 / 8)
    assert measured(np.full((480, 640), 7, np.uint8), "mono8").sharpness == 0


def test_noise_is_as_sharp_as_can_be() -> None:
    """Places that know nothing of each other differ as much near by as far away."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640)).astype(np.uint8)
    # A square of a normal difference has a relative variance of 2, and shares a place with each
    # of two others: 3 for the mean of all. The ratio has both energies', each of rows and columns.
    places = 96 * (128 - COARSE)
    sigma = np.sqrt(2 * 3 / places) / 2
    assert measured(noise, "mono8").sharpness == pytest.approx(1, abs=5 * sigma)


@pytest.mark.parametrize("times", [2, 3, 6])
def test_figures_do_not_depend_on_the_size(times: int) -> None:
    """Every pixel shown as a square of pixels: the thumbnail stays the same."""
    image = cv2.resize(bundled_images(1)[0], (640, 480), interpolation=cv2.INTER_AREA)
    assert measured(image.repeat(times, 0).repeat(times, 1)) == measured(image)


def test_frozen_counts_by_stamps_and_begins_anew() -> None:
    watch, image = CameraWatch(), with_noise(np.full((48, 64), 100))
    other = with_noise(np.full((48, 64), 101))
    shown = [
        (image, 10),
        (image, 11),
        (image, 13),
        (other, 14),
        (other, 14),
        (other, 3),
        (other, 5),
    ]
    found = [watch.observe(DecodedImage(i, "mono8"), s * S).frozen_s for i, s in shown]
    assert found == [0, 1, 3, 0, 0, 0, 2]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_has_a_brightness(encoding: str) -> None:
    shape = ENCODINGS[encoding].shape(48, 64)
    plane = luma(DecodedImage(np.full(shape, 77, np.uint8), encoding))
    assert plane.shape in ((48, 64), (24, 32))
    assert (measure(plane, plane)[0] == 77).all()


def test_luma_of_packed_yuv_is_the_right_byte() -> None:
    pixels = np.zeros((4, 6, 2), np.uint8)
    pixels[..., 1] = 9
    assert luma(DecodedImage(pixels, "uyvy")).mean() == 9
    assert luma(DecodedImage(pixels, "yuyv")).mean() == 0


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_of_yuv_are_dark_and_saturated(level: int) -> None:
    """Luma of YUV is 16 where an image is black, and 235 where it is white."""
    bgr = np.full((48, 64, 3), level, np.uint8)
    planar = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)  # its luma is that of nv12
    luma_level = int(planar[0, 0])
    packed = np.full((48, 64, 2), 128, np.uint8)
    packed[..., 1] = luma_level
    for image, encoding in ((planar, "nv12"), (packed, "uyvy"), (bgr, "bgr8")):
        found = measured(image, encoding)
        assert (found.dark, found.saturated) == ((1.0, 0.0) if level == 0 else (0.0, 1.0)), encoding


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 160), (480, 9), (9, 2000)])
def test_tiny_images_are_measured(size: tuple[int, int]) -> None:
    assert np.isfinite(measured(np.full(size, 50, np.uint8), "mono8")).all()


@pytest.mark.parametrize(
    ("change", "off", "text"),
    [
        ({"frozen_s": 2.0}, {"frozen_after": 0.0}, "frozen: the same image for 2.0 s"),
        ({"dark": 0.97}, {"max_dark": 1.0}, r"dark: 97.0% of the image \(max_dark 0.95\)"),
        ({"saturated": 0.99}, {"max_saturated": 1.0}, "saturated: 99.0% of the image"),
        ({"structure": 12.0}, {"min_structure": 0.0}, r"no structure: 12 \(min_structure 20\)"),
        ({"sharpness": 0.2}, {"min_sharpness": 0.0}, r"no sharpness: 0.2 \(min_sharpness 0.23\)"),
    ],
)
def test_each_fault_is_named_and_can_be_switched_off(
    change: dict[str, float], off: dict[str, float], text: str
) -> None:
    assert find_fault(GOOD, LIMITS) == ""
    figures = GOOD._replace(**change)
    assert re.match(text, find_fault(figures, LIMITS))
    assert find_fault(figures, SegmentationParameters(**off)) == ""


def test_the_bundled_clip_raises_no_alarm() -> None:
    watch, found = CameraWatch(), []
    for i, image in enumerate(bundled_images(101)):
        found.append(watch.observe(DecodedImage(image, "bgr8"), i * S // 15))
        assert find_fault(found[-1], LIMITS) == ""
    assert max(f.frozen_s for f in found) == 0


def faults(image: np.ndarray) -> dict[str, np.ndarray]:
    """Return an image as each faulty camera sends it; with sensor noise where there would be."""
    sigma = image.shape[1] / 80
    return {
        "dark": with_noise(np.zeros_like(image)),
        "saturated": with_noise(np.full_like(image, 253)),
        "structure": with_noise(image * 0.05 + 190),  # fog
        "sharpness": with_noise(cv2.GaussianBlur(image, (0, 0), sigma), 1),
    }


@pytest.mark.parametrize("name", ["dark", "saturated", "structure", "sharpness"])
def test_rendered_faults_are_found_in_every_image_of_the_clip(name: str) -> None:
    for image in bundled_images(10):
        assert name in find_fault(measured(faults(image)[name]), LIMITS)


# Over DDS


@pytest.fixture
def scene() -> np.ndarray:
    """Return an RGB image (240,320,3) of the clip."""
    return np.ascontiguousarray(cv2.resize(bundled_images(1)[0], (320, 240))[..., ::-1])


@pytest.mark.parametrize("name", ["dark", "saturated", "structure", "sharpness"])
def test_a_node_reports_or_drops_what_a_faulty_camera_sends(
    name: str, ros: Graph, make_model: Callable[..., Path], scene: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera, bad = ros.camera(), faults(scene)[name]
    ros.start_node(model=make_model(), **DEFAULTS)
    ros.ask(camera, ros.image_message(scene), masks)
    values = ros.values()
    assert values["faulty"] == "0"
    assert set(Figures._fields) <= set(values)
    ros.ask(camera, ros.image_message(bad), masks)  # segmented, with a warning
    status = ros.wait_for_status(f"{name}: ")
    assert int.from_bytes(status.level, "little") == 1
    right = measured(bad, "rgb8").values()[name]
    assert ros.values()[name] == right != values[name]

    assert ros.set("on_bad_image", "drop").successful
    dropped = ros.image_message(bad)
    camera.publish(dropped)
    ros.wait_for_status("the image is dropped (on_bad_image)")
    assert dropped.header not in [mask.header for mask in masks]
    ros.ask(camera, ros.image_message(scene), masks)  # the first good image counts again
    ros.wait_for_status("segmenting")


def test_a_frozen_camera_is_told_apart_from_one_that_stands(
    ros: Graph, make_model: Callable[..., Path], scene: np.ndarray
) -> None:
    masks, start = ros.collect(Image, f"{NODE}/label_mask"), 1000 * S
    camera = ros.camera()
    ros.start_node(model=make_model(), **{**DEFAULTS, "frozen_after": 3.0})
    for i in range(5):  # a scene that stands, with the noise of a sensor
        noisy = scene.astype(int) + np.random.default_rng(i).integers(-2, 3, scene.shape)
        image = np.clip(noisy, 0, 255).astype(np.uint8)
        ros.ask(camera, ros.image_message(image, stamp=start + i * S), masks)
    assert ros.values()["frozen_s"] == "0.0"
    for i in range(5, 9):
        ros.ask(camera, ros.image_message(scene, stamp=start + i * S), masks)
    ros.wait_for_status("frozen: the same image for 3.0 s")
    assert ros.values()["frozen_s"] == "3.0"


def test_each_camera_has_its_own_faults(
    ros: Graph, make_model: Callable[..., Path], scene: np.ndarray
) -> None:
    masks = {n: ros.collect(Image, f"{NODE}/{n}/label_mask") for n in ("front", "left")}
    cameras: dict[str, Any] = {n: ros.camera(topic=f"/{n}/image") for n in masks}
    kept = {**DEFAULTS, "frozen_after": 0.0}  # the same image is shown again and again
    ros.start_node(model=make_model(), cameras=list(masks), on_bad_image="drop", **kept)
    ros.ask(cameras["front"], ros.image_message(scene), masks["front"])
    cameras["left"].publish(ros.image_message(faults(scene)["dark"]))
    ros.wait_for_status("dark: ", of="left")
    # A camera that shows nothing for 2 s is told as silent: this one goes on.
    ros.diagnostics.clear()

    def is_segmenting() -> bool:
        ros.ask(cameras["front"], ros.image_message(scene), masks["front"])
        states = [s for a in ros.diagnostics for s in a.status if "front" in s.name]
        return any(s.message == "segmenting" for s in states)

    ros.wait(is_segmenting)
    assert masks["left"] == []
