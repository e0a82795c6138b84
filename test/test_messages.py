"""Image messages become arrays and back, and bad ones are refused with a reason."""

from types import SimpleNamespace as Message

import cv2
import numpy as np
import pytest

from seg_perception import messages
from seg_perception.errors import ImageError
from seg_perception.images import ENCODINGS, convert, fit


def raw(image: np.ndarray, kind: str, padding: int = 0, **changes: object) -> Message:
    """Return an Image message with `padding` bytes behind each row."""
    rows = image.reshape(image.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    fields = {
        "height": image.shape[0],
        "width": image.shape[1],
        "encoding": kind,
        "step": padded.shape[1],
        "data": padded.tobytes(),
        "header": Message(stamp=Message(sec=3, nanosec=7)),
    }
    return Message(**{**fields, **changes})


def pixels(encoding: str) -> np.ndarray:
    channels = ENCODINGS[encoding].channels
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_raw_pictures_survive_padded_rows(encoding: str, padding: int) -> None:
    image = pixels(encoding)
    picture = messages.decode(raw(image, encoding, padding))
    assert picture.encoding == encoding
    assert (picture.image == image).all()


def test_the_last_row_may_lack_its_padding() -> None:
    image = pixels("rgb8")
    message = raw(image, "rgb8", 13)
    message.data = message.data[:-13]
    assert (messages.to_array(message) == image).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_convert_as_opencv_does(encoding: str) -> None:
    image = pixels(encoding)
    name = {"rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGBA", "bgra8": "BGRA", "mono8": "GRAY"}
    for color in ("RGB", "BGR"):
        expected = image
        if name[encoding] != color:
            expected = cv2.cvtColor(image, getattr(cv2, f"COLOR_{name[encoding]}2{color}"))
        assert (convert(image, encoding, color) == expected).all()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_compressed_pictures_decode_to_bgr(kind: str) -> None:
    image = cv2.resize(pixels("bgr8"), (64, 48))
    data = cv2.imencode(f".{kind}", image)[1]
    picture = messages.decode(Message(format=f"rgb8; {kind} compressed bgr8", data=data.tobytes()))
    assert picture.encoding == "bgr8"
    assert (picture.image == cv2.imdecode(data, cv2.IMREAD_COLOR)).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"height": 0}, "7x0: empty"),
        ({"width": 0}, "0x5: empty"),
        ({"step": 20}, "step 20 is less than 7 pixels"),
        ({"data": b"123"}, "3 bytes of data for 7x5 rgb8"),
        ({"data": b""}, "0 bytes of data"),
        ({"encoding": "16UC1"}, "'16UC1' is not supported; use one of rgb8"),
        ({"encoding": ""}, "'' is not supported"),
        ({"height": 20000, "width": 20000, "step": 60000}, "claims 20000x20000"),
    ],
)
def test_bad_raw_pictures_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        messages.decode(raw(pixels("rgb8"), "rgb8", **changes))


def jpeg() -> bytes:
    return cv2.imencode(".jpg", pixels("bgr8"))[1].tobytes()


def png_that_claims(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".png", pixels("bgr8"))[1].tobytes())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("jpeg", b"", "is empty"),
        ("jpeg", b"hello", "no jpeg or png header"),
        ("jpeg", jpeg()[:20], "no jpeg or png header"),
        ("tiff", jpeg(), "'tiff' is not supported; use jpeg or png"),
        ("png", png_that_claims(30000, 30000), "claims 30000x30000"),
        ("png", png_that_claims(7, 5)[:60], "cannot be read"),
    ],
)
def test_bad_compressed_pictures_are_refused(kind: str, data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        messages.decode(Message(format=kind, data=data))


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


def test_pictures_fit_as_the_manifest_says() -> None:
    image = pixels("rgb8")
    assert fit(image, (5, 7), "none").image is image
    assert fit(image, (10, 10), "stretch").image.shape == (10, 10, 3)
    padded = fit(image, (20, 14), "keep_ratio_pad", 9)
    assert padded.inside == (10, 14)
    assert (padded.image[10:] == 9).all()
    with pytest.raises(ImageError, match="7x5 but the network takes 10x10"):
        fit(image, (10, 10), "none")
