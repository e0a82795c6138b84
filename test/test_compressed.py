"""What a CompressedImage's format says of its bytes, as image_transport reads it."""

import struct
from types import SimpleNamespace as Message

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from support.graph import NODE, Graph

from seg_perception import messages
from seg_perception.errors import ImageError
from seg_perception.images import to_bgr
from seg_perception.segmenter import Segmenter

# Which channel of BGR a mosaic has at (row, column) parity.
MOSAICS = {
    "rggb": ((2, 1), (1, 0)), "bggr": ((0, 1), (1, 2)),
    "gbrg": ((1, 0), (2, 1)), "grbg": ((1, 2), (0, 1)),
}  # fmt: skip
TURNED = (  # EXIF that asks viewers to turn the image by 90 degrees
    b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, 6, 0, 0)
)


@pytest.fixture(scope="module")
def bgr() -> np.ndarray:
    """Return a smooth image (48,64,3) whose channels differ everywhere."""
    down, across = np.mgrid[0:48, 0:64].astype(np.float64)
    planes = (90 + across, 40 + 2 * down, 200 - across - down)
    return np.stack(planes, axis=-1).astype(np.uint8)


def packed(kind: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(f".{kind}", image, options)[1].tobytes()


def mosaic(bgr: np.ndarray, pattern: str) -> np.ndarray:
    raw = np.empty(bgr.shape[:2], np.uint8)
    for row in (0, 1):
        for column in (0, 1):
            raw[row::2, column::2] = bgr[row::2, column::2, MOSAICS[pattern][row][column]]
    return raw


def read(name: str, data: bytes) -> np.ndarray:
    """Return the BGR image of a message."""
    decoded = messages.decode(Message(format=name, data=data))
    return to_bgr(decoded.image, decoded.encoding)


@pytest.mark.parametrize(
    ("name", "is_swapped"),
    [
        ("png", False),
        ("PNG", False),
        ("rgb8; png compressed bgr8", False),
        ("bgr8; png compressed bgr8", False),
        ("rgba8; png compressed bgr8", False),
        ("bgra8;png compressed bgr8", False),
        ("rgb8; png compressed rgb8", True),
        ("bgr8; png compressed rgb8", True),
        ("bgr8; png compressed ", True),
        ("8UC3; png compressed ", False),
        ("yuv422; png compressed bgr8", False),
    ],
)
def test_colors_have_the_order_that_the_format_says(
    name: str, is_swapped: bool, bgr: np.ndarray
) -> None:
    stored = bgr[..., ::-1] if is_swapped else bgr
    assert (read(name, packed("png", np.ascontiguousarray(stored))) == bgr).all()


@pytest.mark.parametrize("pattern", MOSAICS)
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_mosaic_is_debayered_as_its_raw_encoding_is(
    pattern: str, kind: str, bgr: np.ndarray
) -> None:
    data = packed(kind, mosaic(bgr, pattern))
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    raw = to_bgr(stored, f"bayer_{pattern}8")
    assert (read(f"bayer_{pattern}8; {kind} compressed ", data) == raw).all()
    if kind == "png":  # on a plane only two roundings are lost: of the pixels, and of their mean
        assert np.abs(raw[2:-2, 2:-2].astype(int) - bgr[2:-2, 2:-2]).max() <= 1


def test_sixteen_bits_are_scaled_to_eight(bgr: np.ndarray) -> None:
    grey = bgr[..., 0]
    deep = grey.astype(np.uint16) * 257  # 255 becomes 65535
    assert (read("mono16; png compressed ", packed("png", deep))[..., 0] == grey).all()
    colors = bgr.astype(np.uint16) * 257
    assert (read("rgb16; png compressed bgr16", packed("png", colors)) == bgr).all()
    raw = mosaic(bgr, "rggb")
    data = packed("png", raw.astype(np.uint16) * 257)
    assert (read("bayer_rggb16; png compressed ", data) == to_bgr(raw, "bayer_rggb8")).all()


@pytest.mark.parametrize("name", ["mono8", "mono16", "8UC1", "yuv422", "nv12"])
def test_a_compressed_luma_is_grey(name: str, bgr: np.ndarray) -> None:
    grey = np.ascontiguousarray(bgr[..., 1])
    decoded = messages.decode(
        Message(format=f"{name}; png compressed mono8", data=packed("png", grey))
    )
    assert decoded.encoding == "mono8"
    assert (decoded.image == grey).all()


def test_alpha_is_left_out(bgr: np.ndarray) -> None:
    alpha = np.dstack([bgr, np.full(bgr.shape[:2], 7, np.uint8)])
    assert (read("png", packed("png", alpha)) == bgr).all()
    assert (read("bgra8; png compressed bgra8", packed("png", alpha)) == bgr).all()


def test_exif_does_not_turn_the_image(bgr: np.ndarray) -> None:
    data = packed("jpeg", bgr)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(TURNED) + 2) + TURNED + data[2:]
    viewed = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert viewed.shape[:2] == bgr.shape[1::-1]  # a viewer does turn it
    assert (read("jpeg", turned) == read("jpeg", data)).all()


def test_webp_is_read(bgr: np.ndarray) -> None:
    assert (read("webp", packed("webp", bgr, cv2.IMWRITE_WEBP_QUALITY, 101)) == bgr).all()
    data = packed("webp", bgr, cv2.IMWRITE_WEBP_QUALITY, 95)
    lossy = read("bgr8; webp compressed bgr8", data)
    assert (lossy == cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)).all()
    alpha = np.dstack([bgr, np.arange(64, dtype=np.uint8)[None].repeat(48, 0)])
    extended = packed("webp", alpha, cv2.IMWRITE_WEBP_QUALITY, 90)
    assert extended[12:16] == b"VP8X"
    assert read("webp", extended).shape == bgr.shape


def test_the_node_debayers_and_names_what_is_no_image(ros: Graph, bgr: np.ndarray) -> None:
    """A mosaic in a png gives the mask of the raw mosaic; 16UC1 is counted and named."""
    mosaic_image, name = mosaic(bgr, "grbg"), "bayer_grbg8"
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera(CompressedImage, "/image/compressed")
    ros.start_node(model="tiny", image_transport="compressed")
    good = CompressedImage(format=f"{name}; png compressed ", data=packed("png", mosaic_image))
    mask = messages.to_array(ros.ask(camera, good, masks))
    segmenter = Segmenter.load("tiny")
    assert (mask == segmenter(mosaic_image, name).labels).all()
    assert (segmenter(mosaic_image, name).labels != segmenter(mosaic_image, "mono8").labels).any()
    depth = packed("png", np.zeros(bgr.shape[:2], np.uint16))
    camera.publish(CompressedImage(format="16UC1; png compressed ", data=depth))
    ros.wait(lambda: int(ros.values()["unreadable"]) == 1)
    assert "'16UC1', which is no image for a camera" in ros.values()["last_error"]


# What is refused


def png_that_claims(width: int, height: int) -> bytes:
    data = bytearray(packed("png", np.zeros((6, 8, 3), np.uint8)))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


def jpeg() -> bytes:
    return packed("jpg", np.zeros((6, 8, 3), np.uint8))


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def webp_that_claims(width: int, height: int, quality: int) -> bytes:
    """Return a lossy webp, or a lossless one above a quality of 100."""
    data = bytearray(packed("webp", np.zeros((6, 8, 3), np.uint8), 64, quality))
    if quality > 100:
        data[21:25] = (width - 1 | (height - 1) << 14).to_bytes(4, "little")
    else:
        data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def with_thumbnail(data: bytes) -> bytes:
    """Put a jpeg into an application segment behind fill bytes, as cameras put thumbnails."""
    small = jpeg()
    return data[:2] + b"\xff\xff\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]


def test_a_jpeg_may_hold_a_thumbnail_and_bytes_behind_its_end(bgr: np.ndarray) -> None:
    data = packed("jpg", bgr)
    assert (read("jpeg", with_thumbnail(data) + bytes(100)) == read("jpeg", data)).all()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("jpeg", b"", "is empty"),
        ("jpeg", b"hello", "no header of jpeg, png or webp"),
        ("jpeg", jpeg()[:20], "no header of jpeg, png or webp"),
        ("jpeg", jpeg()[:-2], "a jpeg of .* ends before its image does: truncated"),
        ("jpeg", with_thumbnail(jpeg())[:-2], "ends before its image does: truncated"),
        ("jpeg", b"\xff\xd8\xff\xe0\0\0" + jpeg()[2:], "no header of jpeg, png or webp"),
        ("jpeg", jpeg_that_claims(10000, 10000), "claims 10000x10000"),
        ("png", png_that_claims(30000, 30000), "claims 30000x30000"),
        ("png", png_that_claims(0, 5), "is 0x5: empty"),
        ("png", png_that_claims(7, 5)[:60], "a png of 60 bytes ends before .* truncated"),
        ("png", png_that_claims(7, 5), "cannot be read"),
        ("webp", webp_that_claims(16000, 16000, 80), "claims 16000x16000"),
        ("webp", webp_that_claims(16000, 16000, 101), "claims 16000x16000"),
        ("webp", webp_that_claims(8, 6, 80)[:-3], "a webp of .* truncated"),
        ("webp", b"RIFF\x20\0\0\0WEBPwhat" + bytes(30), "begins with b'what'"),
        ("tiff", jpeg(), "'tiff' is not supported; use jpeg, png or webp"),
        ("x" * 100_000, jpeg(), "'x{40}' is not supported"),
        (";;;", jpeg(), "';;;' is not supported"),
        ("", jpeg(), "'' is not supported"),
        ("画像; jpeg compressed bgr8", jpeg(), "was '画像', which is no image for a camera"),
        ("; jpeg compressed bgr8", jpeg(), "was '', which is no image"),
        ("x" * 500 + "; jpeg", jpeg(), "'x{40}' is not supported"),
        ("16UC1; png compressed ", jpeg(), "was '16UC1', which is no image for a camera; publish"),
        ("32FC1; png compressed ", jpeg(), "was '32FC1'"),
        ("16UC1; compressedDepth png", jpeg(), "not supported.*raw image"),
        ("mono8; jpeg compressed bgr8", jpeg(), "is of one channel, and its image has 3"),
        ("bayer_rggb8; jpeg compressed bgr8", jpeg(), "is of one channel, and its image has 3"),
        ("rgb8; png compressed bgr8", packed("png", np.zeros((6, 8), np.uint8)), "colors.*has 1"),
        ("png", packed("png", np.zeros((6, 8), np.uint16)), "16 bits are, which may be depth"),
        ("mono8; png compressed ", packed("png", np.zeros((6, 8), np.uint16)), "may be depth"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        messages.decode(Message(format=name, data=data))
