"""The segmenter answers in the image's own size, whatever its encoding."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.drawing import draw_overlay
from seg_perception.errors import ImageError, ModelError
from seg_perception.labels import class_shares
from seg_perception.segmenter import Segmenter


def test_labels_come_in_the_images_own_size(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    segmenter = Segmenter.load(make_model())
    large = cv2.resize(halves, (480, 320), interpolation=cv2.INTER_NEAREST)
    for image in (halves, large):
        result = segmenter(image)
        height, width = image.shape[:2]
        assert result.labels.shape == (height, width)
        assert result.labels.dtype == np.uint8
        assert (result.labels[:, : width // 2 - width // 12] == 0).all()
        assert (result.labels[:, width // 2 + width // 12 :] == 2).all()
        assert result.confidence is not None
        assert result.confidence.shape == (height, width)
        assert set(result.timing) == {"preprocess", "network", "decode"}


def test_every_encoding_gives_the_same_labels(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    segmenter = Segmenter.load(make_model())
    expected = segmenter(halves).labels
    codes = {
        "bgr8": cv2.COLOR_RGB2BGR,
        "rgba8": cv2.COLOR_RGB2RGBA,
        "bgra8": cv2.COLOR_RGB2BGRA,
    }
    for encoding, code in codes.items():
        assert (segmenter(cv2.cvtColor(halves, code), encoding).labels == expected).all()
    assert (segmenter(halves[..., 0], "mono8").labels == 0).all()


def test_groups_and_unknown_pixels(make_model: Callable[..., Path], halves: np.ndarray) -> None:
    groups = Segmenter.load(make_model(), label_space="groups")(halves).labels
    assert set(np.unique(groups)) == {0, 4}
    voided = Segmenter.load(make_model(void_ids=[2]))(halves).labels
    assert set(np.unique(voided)) == {0, 255}
    grey = np.full((32, 48, 3), 90, np.uint8)
    unsure = Segmenter.load(make_model())(grey, min_confidence=0.5)
    assert (unsure.labels == 255).all()


def test_confidence_is_skipped_when_nobody_asks(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    result = Segmenter.load(make_model())(halves, confidence=False, min_confidence=0.1)
    assert result.confidence is None


def test_a_network_that_gives_labels_has_no_confidence(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    segmenter = Segmenter.load(make_model("argmax.onnx", output={"kind": "labels"}))
    result = segmenter(halves)
    assert result.confidence is None
    assert (result.labels == Segmenter.load(make_model())(halves).labels).all()
    with pytest.raises(ModelError, match=r"min_confidence is 0.5 but .*set it to 0"):
        segmenter(halves, min_confidence=0.5)


def test_padding_is_cut_off_again(make_model: Callable[..., Path], halves: np.ndarray) -> None:
    spec = {"size": [64, 48], "layout": "NHWC", "dtype": "uint8", "resize": "keep_ratio_pad"}
    segmenter = Segmenter.load(make_model(input=spec))
    assert (segmenter(halves).labels == Segmenter.load(make_model("b.onnx"))(halves).labels).all()


def test_a_image_of_the_wrong_kind_is_refused(make_model: Callable[..., Path]) -> None:
    segmenter = Segmenter.load(make_model())
    with pytest.raises(ImageError, match="float64"):
        segmenter(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"rgb8 image is uint8 \(4, 4, 4\); give uint8 \(H,W,3\)"):
        segmenter(np.zeros((4, 4, 4), np.uint8))


def test_class_shares_count_each_cell() -> None:
    labels = np.zeros((10, 20), np.uint8)
    labels[:, 10:] = 1
    labels[:5, :10] = 255
    whole = class_shares(labels, classes=3)
    assert whole.shape == (1, 1, 3)
    np.testing.assert_allclose(whole[0, 0], [0.25, 0.5, 0.0])
    cells = class_shares(labels, classes=3, rows=2, columns=2)
    np.testing.assert_allclose(cells[..., 0], [[0, 0], [1, 0]])
    np.testing.assert_allclose(cells[..., 1], [[0, 1], [0, 1]])


def test_the_overlay_shows_class_colours(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    segmenter = Segmenter.load(make_model())
    large = cv2.resize(halves, (480, 320), interpolation=cv2.INTER_NEAREST)
    labels = segmenter(large).labels
    pure = draw_overlay(large[..., ::-1], labels, segmenter.space, alpha=1.0)
    assert pure.shape == large.shape
    assert (pure[-1, 0] == (0, 0, 255)).all()
    assert (pure[-1, -1] == (255, 0, 0)).all()
    assert (pure[:60, :60] != pure[-1, 0]).any(), "the legend stands top left"
