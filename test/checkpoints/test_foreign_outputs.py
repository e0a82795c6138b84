"""Networks whose own last step is no bilinear resize of scores: cubic, or a sigmoid after it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support import foreign, rounding
from support.foreign import query_network, query_table, write_card, write_network
from torch.nn.functional import interpolate

from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.checkpoints.verify import verify
from seg_perception.errors import ManifestError
from seg_perception.segmenter import Segmenter

SIZE, COARSE = (32, 48), (8, 12)
SCALE = 1 / 1275  # scores 0..2, where a sigmoid still tells them apart


def random_image(height: int, width: int) -> np.ndarray:
    """Return a smooth random image, RGB."""
    coarse = np.random.default_rng(1).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def scores_of(image: np.ndarray, *, padded: bool) -> torch.Tensor:
    """Return the network's (1,3,h,w) for an RGB image, padding cut off, by its closed form."""
    rows, columns = SIZE
    if padded:
        ratio = min(SIZE[0] / image.shape[0], SIZE[1] / image.shape[1])
        rows, columns = round(image.shape[0] * ratio), round(image.shape[1] * ratio)
    x = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR) * SCALE
    block = foreign.BLOCK
    means = x.reshape(rows // block, block, columns // block, block, 3).mean((1, 3))
    return torch.from_numpy(foreign.GAIN * means.transpose(2, 0, 1)[None].astype(np.float32))


def query_card(
    path: Path, *, classes: int = 4, resize: str = "stretch", official: Any = None, **output: Any
) -> Path:
    names = [f"class {i}" for i in range(classes)]
    spec = {"kind": "masks", "name": "logits", "class_logits": "queries", **output}
    return write_card(
        path, classes=names, groups={}, input={"size": [*SIZE], "scale": SCALE, "resize": resize},
        output=spec, official=official,
    )  # fmt: skip


def score_card(path: Path, **output: Any) -> Path:
    return write_card(path, input={"size": [*SIZE], "scale": SCALE}, output=output)


def assert_equal(result: Any, full: torch.Tensor, sure: torch.Tensor) -> None:
    """Compare labels but for ties, and confidence, with (K,H,W) and (H,W) of torch."""
    assert len(np.unique(result.labels)) > 1
    near = rounding.of_a_resize(full.numpy(), "cubic")
    assert rounding.only_ties_differ(result.labels, full.argmax(0), full.numpy(), near)
    assert np.abs(result.confidence - 255 * sure.numpy()).max() <= rounding.OF_A_SOFTMAX


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (33, 100), (20, 17)])
def test_cubic_scores_equal_torchs(size: tuple[int, int], corners: bool, tmp_path: Path) -> None:
    path = write_network(tmp_path / "n.onnx")
    card = score_card(tmp_path / "c.yaml", interpolation="cubic", align_corners=corners)
    import_onnx(path, card, tmp_path / "m.onnx")
    image = random_image(*size)
    result = Segmenter.load(tmp_path / "m.onnx")(image)
    scores = scores_of(image, padded=False)
    full = interpolate(scores, size, mode="bicubic", align_corners=corners)[0]
    assert_equal(result, full, full.softmax(0).amax(0))


@pytest.mark.parametrize("way", ["bilinear", "cubic"])
def test_a_mask_a_class_is_squashed_after_the_resize(way: str, tmp_path: Path) -> None:
    path = write_network(tmp_path / "n.onnx")
    card = score_card(tmp_path / "c.yaml", kind="masks", interpolation=way)
    import_onnx(path, card, tmp_path / "m.onnx")
    image = random_image(64, 96)
    result = Segmenter.load(tmp_path / "m.onnx")(image)
    mode = {"bilinear": "bilinear", "cubic": "bicubic"}[way]
    full = interpolate(scores_of(image, padded=False), (64, 96), mode=mode)[0].sigmoid()
    assert_equal(result, full, full.amax(0))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("resize", ["stretch", "keep_ratio_pad"])
def test_masks_of_queries_equal_the_papers_formula(
    layout: str, resize: str, tmp_path: Path
) -> None:
    path = query_network(tmp_path / "n.onnx", layout=layout)
    name = "logits" if layout == "NCHW" else "last"
    card = query_card(tmp_path / "c.yaml", layout=layout, name=name, resize=resize)
    import_onnx(path, card, tmp_path / "m.onnx")
    image = random_image(64, 128)
    result = Segmenter.load(tmp_path / "m.onnx")(image)
    padded = resize == "keep_ratio_pad"
    masks = scores_of(image, padded=padded)
    mean = masks.sum((2, 3)) / (COARSE[0] * COARSE[1])  # the padding is 0
    shares = (torch.from_numpy(query_table(5))[0] * mean[0, :, None]).softmax(1)[:, :-1]
    planes = interpolate(masks, (64, 128), mode="bilinear")[0].sigmoid()
    full = torch.einsum("qk,qhw->khw", shares, planes)
    assert_equal(result, full, full.amax(0).clamp(0, 1))


def test_the_file_keeps_both_outputs_and_drops_the_others(tmp_path: Path) -> None:
    path = query_network(tmp_path / "n.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Relu", ["logits"], ["extra"]))
    model.graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, None))
    onnx.save(model, path)
    manifest = import_onnx(path, query_card(tmp_path / "c.yaml"), tmp_path / "m.onnx").manifest
    graph = onnx.load(tmp_path / "m.onnx").graph
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
    assert shapes == {"logits": [1, 3, *COARSE], "queries": [1, 3, 5]}
    assert not [node for node in graph.node if node.op_type == "Relu"]
    assert manifest.output.is_of_queries
    assert verify(tmp_path / "m.onnx").is_good


def test_the_official_mode_takes_queries_too(tmp_path: Path) -> None:
    """Rules that change nothing: what differs from the fast mode is one more resize."""
    card = query_card(tmp_path / "c.yaml", official={"short": 32})
    import_onnx(query_network(tmp_path / "n.onnx"), card, tmp_path / "m.onnx")
    image = random_image(*SIZE)
    fast, slow = (Segmenter.load(tmp_path / "m.onnx", mode=m)(image) for m in ("fast", "official"))
    assert fast.confidence is not None
    assert slow.confidence is not None
    assert (fast.labels == slow.labels).all()
    away = np.abs(fast.confidence.astype(int) - slow.confidence).max()
    assert away <= 2 * rounding.OF_A_SCORE


REFUSALS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"kind": "logits"}, {}, "class_logits is of kind masks, not logits"),
    ({"name": None}, {}, "class_logits is 'queries' and output name None: name the masks' output"),
    ({"name": "queries"}, {}, "class_logits is 'queries' and output name 'queries': name the ma"),
    ({"class_logits": None}, {}, "gives 3 channels .*; where they are queries, name the output"),
    ({"interpolation": "cubic"}, {}, "masks with class_logits are interpolated bilinearly"),
    ({"interpolation": "lanczos"}, {}, "interpolation 'lanczos' must be one of bilinear, cubic"),
    ({"class_logits": "other"}, {}, "output.class_logits is 'other' but the network's outputs are"),
    ({"class_logits": "logits", "name": "queries"}, {}, "like masks: swap name and class_logits"),
    (
        {"class_logits": "mean"},
        {},
        r"masks have four dimensions and .* gives mean \(float32 \(1, 3",
    ),
    ({}, {"entries": 4}, r"classes has 4 names, .* need one more than names"),
    ({"layout": "NHWC"}, {}, "tell of 3 queries, the masks logits .* of 12: correct the output's"),
]


@pytest.mark.parametrize(("card", "network", "reason"), REFUSALS)
def test_cards_that_cannot_be_are_refused(
    card: dict[str, Any], network: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = query_network(tmp_path / "n.onnx", **network)
    written = query_card(tmp_path / "c.yaml", **card)
    with pytest.raises(ManifestError, match=reason):
        import_onnx(path, written, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_labels_are_not_interpolated(tmp_path: Path) -> None:
    path = write_network(tmp_path / "n.onnx", kind="labels")
    card = write_card(tmp_path / "c.yaml", output={"kind": "labels", "interpolation": "cubic"})
    with pytest.raises(ManifestError, match="output kind labels is not interpolated"):
        import_onnx(path, card, tmp_path / "m.onnx")


def test_a_sigmoid_inside_the_network_is_noticed(tmp_path: Path) -> None:
    node = helper.make_node("Sigmoid", ["logits"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    path = write_network(tmp_path / "n.onnx", extra_nodes=(node,), extra_outputs=(output,))
    card = write_card(tmp_path / "c.yaml", output={"kind": "masks", "name": "y"})
    with pytest.raises(ManifestError, match="the sigmoid is inside the network: choose the output"):
        import_onnx(path, card, tmp_path / "m.onnx")
    card = write_card(tmp_path / "c.yaml", output={"kind": "probabilities", "name": "y"})
    with pytest.raises(ManifestError, match="a sigmoid after the resize is kind: masks"):
        import_onnx(path, card, tmp_path / "m.onnx")


def test_a_softmax_inside_the_network_is_noticed(tmp_path: Path) -> None:
    path = query_network(tmp_path / "n.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Softmax", ["queries"], ["shares"], axis=2))
    model.graph.output.append(helper.make_tensor_value_info("shares", TensorProto.FLOAT, None))
    onnx.save(model, path)
    card = query_card(tmp_path / "c.yaml", class_logits="shares")
    with pytest.raises(ManifestError, match="the softmax is inside the network: choose the output"):
        import_onnx(path, card, tmp_path / "m.onnx")


def test_official_rules_are_bilinear(tmp_path: Path) -> None:
    card = score_card(tmp_path / "c.yaml", interpolation="cubic")
    card.write_text(card.read_text() + "official: {short: 32}\n")
    with pytest.raises(ManifestError, match="interpolation is cubic: leave one of them out"):
        import_onnx(write_network(tmp_path / "n.onnx"), card, tmp_path / "m.onnx")


def test_class_logits_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path = query_network(tmp_path / "n.onnx")
    model = onnx.load(path)
    (last,) = (node for node in model.graph.node if node.op_type == "Mul")
    last.op_type = "Div"
    last.input[:] = ["table", "column"]  # by zero, of a black image
    onnx.save(model, path)
    with pytest.raises(ManifestError, match="class_logits are NaN or infinite"):
        import_onnx(path, query_card(tmp_path / "c.yaml"), tmp_path / "m.onnx")
