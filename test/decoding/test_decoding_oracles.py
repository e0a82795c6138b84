"""Cubic scores and masks are decoded as OpenCV, ONNX Runtime and numpy do it; without torch."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from support import rounding

from seg_perception import decoding

SIZES = [(480, 640), (97, 301), (33, 40)]


def scores(classes: int, coarse: tuple[int, int]) -> np.ndarray:
    """Return smooth regions with noise, as networks give them."""
    random = np.random.default_rng(classes)
    rough = random.normal(0, 4, (classes, 6, 8)).astype(np.float32)
    grown = np.stack([cv2.resize(p, coarse[::-1], interpolation=cv2.INTER_LINEAR) for p in rough])
    return grown + random.normal(0, 0.2, grown.shape).astype(np.float32)


def assert_decoded(labels: np.ndarray, full: np.ndarray, near: float) -> None:
    assert len(np.unique(labels)) > 2
    assert rounding.only_ties_differ(labels, full.argmax(0), full, near)


@pytest.mark.parametrize("size", SIZES)
def test_cubic_is_opencvs(size: tuple[int, int]) -> None:
    coarse = scores(11, (60, 80))
    full = [cv2.resize(p, size[::-1], interpolation=cv2.INTER_CUBIC) for p in coarse]
    labels = decoding.decode_scores(coarse, size, interpolation="cubic")
    assert_decoded(labels, np.stack(full), rounding.of_a_resize(coarse, "cubic"))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_cubic_is_onnx_runtimes(size: tuple[int, int], corners: bool, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    coarse = scores(7, (30, 40))
    node = make.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", cubic_coeff_a=-0.75,
        coordinate_transformation_mode="align_corners" if corners else "half_pixel",
    )  # fmt: skip
    sizes = onnx.numpy_helper.from_array(np.array([1, 7, *size], np.int64), "sizes")
    ends = [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "xy"]
    graph = make.make_graph([node], "cubic", ends[:1], ends[1:], [sizes])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    full = session.run(None, {"x": coarse[None]})[0][0]
    labels = decoding.decode_scores(coarse, size, align_corners=corners, interpolation="cubic")
    assert_decoded(labels, full, rounding.of_a_resize(coarse, "cubic"))


@pytest.mark.parametrize("size", [*SIZES, (40, 50)])
def test_masks_are_numpys(size: tuple[int, int]) -> None:
    planes = scores(9, (30, 40))
    shares = np.random.default_rng(0).dirichlet(np.full(5, 0.3), 9).astype(np.float32)
    full = 1 / (1 + np.exp(-decoding.resize_scores(planes, size).astype(np.float64)))
    together = np.einsum("qk,qhw->khw", shares, full)
    labels, confidence = decoding.decode_masks(planes, shares, size)
    # A sigmoid is at most a quarter as steep, and the shares of a class add up to 1 or less.
    assert_decoded(labels, together, rounding.of_a_resize(planes) / 4)
    assert confidence is not None
    assert np.abs(confidence - 255 * together.max(0).clip(0, 1)).max() <= rounding.OF_A_SCORE
