"""Further encodings go through cv_bridge: the real one where it is installed, else a stand-in."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from types import SimpleNamespace as Message
from typing import Any

import numpy as np
import pytest
from support.raw_images import pixels, raw

from seg_perception.errors import ImageError
from seg_perception.images import ENCODINGS, convert
from seg_perception.nodes import image_encodings as module

HAS_CV_BRIDGE = importlib.util.find_spec("cv_bridge") is not None
# cv_bridge.cpp knows YUV 4:2:2 by the older names alone, has no nv, and sees no colours in 8UC.
IN_CV_BRIDGE = sorted(set(ENCODINGS) - {"uyvy", "yuyv", "nv12", "nv21", "8UC1", "8UC3", "8UC4"})


class StandIn:
    """Converts rgb16 alone, and fails as cv_bridge does."""

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> np.ndarray:
        assert encoding == "bgr8"
        if message.encoding != "rgb16":
            raise RuntimeError(f"[{message.encoding}] is not a color format")
        shape = (message.height, message.width, 3)
        return (np.ndarray(shape, "<u2", message.data)[..., ::-1] >> 8).astype(np.uint8)


@pytest.fixture
def with_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Reload the module with cv_bridge, the real one where it is installed."""
    if not HAS_CV_BRIDGE:
        bridge = ModuleType("cv_bridge")
        bridge.CvBridge = StandIn
        monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    yield importlib.reload(module)
    monkeypatch.undo()
    importlib.reload(module)


@pytest.fixture
def without_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    yield importlib.reload(module)
    monkeypatch.undo()
    importlib.reload(module)


def rgb16() -> Message:
    image = np.random.default_rng(0).integers(0, 65536, (6, 8, 3)).astype("<u2")
    return raw(image.view(np.uint8).reshape(6, 48), "rgb16", width=8, is_bigendian=0)


def test_a_16_bit_image_becomes_bgr8(with_cv_bridge: ModuleType) -> None:
    image = with_cv_bridge.decode(rgb16())
    assert image.encoding == "bgr8"
    assert image.image.shape == (6, 8, 3)
    assert image.image.dtype == np.uint8


def test_what_cv_bridge_refuses_is_an_unreadable_image(with_cv_bridge: ModuleType) -> None:
    message = raw(np.zeros((6, 32), np.uint8), "32FC1", width=8, is_bigendian=0)
    with pytest.raises(ImageError, match="'32FC1': cv_bridge cannot convert it"):
        with_cv_bridge.decode(message)


def test_without_cv_bridge_the_error_says_how_to_get_it(without_cv_bridge: ModuleType) -> None:
    with pytest.raises(ImageError, match="'rgb16'.*install ros-<distro>-cv-bridge.*rgb8, bgr8"):
        without_cv_bridge.decode(rgb16())


def test_a_claim_of_100_megapixels_never_reaches_cv_bridge(with_cv_bridge: ModuleType) -> None:
    message = rgb16()
    message.height = message.width = 10_000
    with pytest.raises(ImageError, match="more than 50000000 pixels"):
        with_cv_bridge.decode(message)


@pytest.mark.skipif(
    not HAS_CV_BRIDGE,
    reason=f"cv_bridge is not installed: {len(IN_CV_BRIDGE)} encodings are not compared with it",
)
def test_our_conversions_equal_those_of_cv_bridge() -> None:
    from cv_bridge import CvBridge
    from sensor_msgs.msg import Image

    for encoding in IN_CV_BRIDGE:
        image = pixels(encoding)
        message = Image(
            height=6, width=8, encoding=encoding, step=image.strides[0], data=image.tobytes()
        )
        expected = CvBridge().imgmsg_to_cv2(message, "bgr8")
        assert (convert(image, encoding, "BGR") == expected).all(), encoding
