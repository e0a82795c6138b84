"""Image messages become arrays and back, and bad ones are refused with a reason."""

from types import SimpleNamespace as Message

import cv2
import numpy as np
import pytest
from support.raw_images import pixels, raw

from seg_perception import messages
from seg_perception.errors import ImageError
from seg_perception.images import ENCODINGS, convert, fit


@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_raw_images_survive_padded_rows(encoding: str, padding: int) -> None:
    image = pixels(encoding)
    decoded = messages.decode(raw(image, encoding, padding, height=6))
    assert decoded.encoding == encoding
    assert (decoded.image == image).all()


def test_the_last_row_may_lack_its_padding() -> None:
    image = pixels("rgb8")
    message = raw(image, "rgb8", 13)
    message.data = message.data[:-13]
    assert (messages.to_array(message) == image).all()


# What OpenCV calls each encoding; its names of Bayer patterns before 4.5 meant other corners.
OPENCV = {
    "rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGBA", "bgra8": "BGRA", "mono8": "GRAY",
    "8UC1": "GRAY", "8UC3": "BGR", "8UC4": "BGRA",
    "yuv422": "YUV2{}_UYVY", "uyvy": "YUV2{}_UYVY",
    "yuv422_yuy2": "YUV2{}_YUY2", "yuyv": "YUV2{}_YUY2",
    "nv12": "YUV2{}_NV12", "nv21": "YUV2{}_NV21",
    "bayer_rggb8": "BayerBG", "bayer_bggr8": "BayerRG",
    "bayer_gbrg8": "BayerGR", "bayer_grbg8": "BayerGB",
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_convert_as_opencv_does(encoding: str) -> None:
    image = pixels(encoding)
    name = OPENCV[encoding]
    for color in ("RGB", "BGR"):
        expected = image
        if name != color:
            code = name.format(color) if "{}" in name else f"{name}2{color}"
            expected = cv2.cvtColor(image, getattr(cv2, f"COLOR_{code}"))
        actual = convert(image, encoding, color)
        assert actual.shape == (6, 8, 3)
        assert (actual == expected).all()


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_pattern_names_its_upper_left_pixels(pattern: str) -> None:
    colour = {"r": 200, "g": 120, "b": 40}
    cell = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    image = convert(np.tile(cell, (8, 8)), f"bayer_{pattern}8", "RGB")
    assert (image[4:-4, 4:-4] == [200, 120, 40]).all()


def test_yuv_images_have_the_colours_that_their_bytes_say() -> None:
    red = {"y": 81, "u": 90, "v": 240}  # BT.601, studio range: y 16..235, u and v 16..240
    luma, blue, more_red = (81 - 16) / 219, (90 - 128) / 112, (240 - 128) / 112
    r, b = luma + 0.701 * more_red, luma + 0.886 * blue
    g = (luma - 0.299 * r - 0.114 * b) / 0.587
    rgb = 255 * np.clip([r, g, b], 0, 1)
    half_a_level = 0.5 + 1e-3  # and OpenCV's coefficients are of 20 bits
    for encoding, order in (("uyvy", "uyvy"), ("yuyv", "yuyv")):
        pair = np.array([red[c] for c in order], np.uint8).reshape(1, 2, 2)
        image = convert(np.tile(pair, (4, 4, 1)), encoding, "RGB")
        assert np.abs(image - rgb).max() <= half_a_level
    for encoding, order in (("nv12", "uv"), ("nv21", "vu")):
        colours = np.tile(np.array([red[c] for c in order], np.uint8), (2, 4))
        image = convert(np.vstack([np.full((4, 8), 81, np.uint8), colours]), encoding, "RGB")
        assert image.shape == (4, 8, 3)
        assert np.abs(image - rgb).max() <= half_a_level


@pytest.mark.parametrize(
    ("encoding", "height", "width"), [("uyvy", 4, 7), ("nv12", 5, 8), ("nv21", 4, 7)]
)
def test_sizes_that_an_encoding_cannot_have_are_refused(
    encoding: str, height: int, width: int
) -> None:
    message = raw(np.zeros((6, 16), np.uint8), encoding, height=height, width=width, step=16)
    with pytest.raises(ImageError, match=f"{width}x{height}, but this encoding needs"):
        messages.to_array(message)


def test_an_nv12_message_without_its_colour_rows_is_truncated() -> None:
    message = raw(np.zeros((6, 8), np.uint8), "nv12")
    with pytest.raises(ImageError, match="48 bytes of data for 8x6 nv12.*needs 72.*truncated"):
        messages.to_array(message)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"height": 0}, "8x0: empty"),
        ({"width": 0}, "0x6: empty"),
        ({"step": 20}, "step 20 is less than 8 pixels"),
        ({"data": b"123"}, "3 bytes of data for 8x6 rgb8"),
        ({"data": b""}, "0 bytes of data"),
        ({"encoding": "16UC1"}, "'16UC1' is not supported; use one of rgb8"),
        ({"encoding": ""}, "'' is not supported"),
        ({"height": 20000, "width": 20000, "step": 60000}, "claims 20000x20000"),
    ],
)
def test_bad_raw_images_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        messages.decode(raw(pixels("rgb8"), "rgb8", **changes))


def test_filled_images_have_no_padding_and_keep_the_header() -> None:
    header = Message(stamp=Message(sec=1, nanosec=2))
    labels = np.arange(70, dtype=np.uint8).reshape(7, 10)[:, ::2]
    message = messages.fill_image(Message(), labels, "mono8", header)
    assert message.header is header
    assert (message.height, message.width, message.step) == (7, 5, 5)
    assert (messages.to_array(message) == labels).all()
    shares = np.zeros((2, 3, 4), np.float32)
    assert messages.fill_image(Message(), shares, "32FC4", header).step == 3 * 4 * 4


def test_stamps_are_nanoseconds() -> None:
    assert messages.stamp_ns(raw(pixels("mono8"), "mono8").header) == 3_000_000_007


def test_image_encodings_fit_as_the_manifest_says() -> None:
    image = pixels("rgb8")
    assert fit(image, (6, 8), "none").image is image
    assert fit(image, (10, 10), "stretch").image.shape == (10, 10, 3)
    padded = fit(image, (20, 16), "keep_ratio_pad", 9)
    assert padded.inside == (12, 16)
    assert (padded.image[12:] == 9).all()
    with pytest.raises(ImageError, match="8x6 but the network takes 10x10"):
        fit(image, (10, 10), "none")
