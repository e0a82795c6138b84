"""Masks of queries decode to the labels that the transformers library recorded of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import rounding
from support.paths import ROOT
from support.tails import node, resize

from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.segmenter import Segmenter

RECORDED = ROOT / "test" / "data" / "transformers" / "queries.npz"
SIZE, CLASSES = 384, 7


def write(path: Path, *, resized: bool = False) -> Path:
    """Write a network that gives the recorded masks and class logits for every image."""
    recorded = np.load(RECORDED)
    masks = "small" if resized else "masks_queries_logits"
    nodes = [
        node("ReduceMean", "pixel_values", out="mean", keepdims=0),
        node("Mul", "mean", "zero", out="nothing"),
        node("Add", "masks", "nothing", out=masks),
        node("Add", "logits", "nothing", out="class_queries_logits"),
    ]
    if resized:
        nodes.append(resize(masks, "masks_queries_logits"))
    tensors = {
        "zero": np.float32(0),
        "masks": recorded["masks"].astype(np.float32),
        "logits": recorded["logits"].astype(np.float32),
        "roi": np.empty(0, np.float32),
        "scales": np.float32([1, 1, 16, 16]),
    }
    names = ("class_queries_logits", "masks_queries_logits")
    graph = helper.make_graph(
        nodes, "queries",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


@pytest.mark.parametrize(
    ("kind", "resized"), [("mask2former", False), ("mask2former", True), ("eomt", False)]
)
def test_labels_equal_the_librarys_own(kind: str, resized: bool, tmp_path: Path) -> None:
    card = tmp_path / "names.yaml"
    card.write_text(f"classes: [{', '.join(f'c{i}' for i in range(CLASSES))}]\n")
    path = write(tmp_path / "n.onnx", resized=resized)
    imported = import_onnx(path, card, tmp_path / "m.onnx", rounds=0)
    assert imported.manifest.output.kind == "masks"
    assert imported.report.operators == (("Resize",) if resized else ())
    result = Segmenter.load(tmp_path / "m.onnx")(np.zeros((SIZE, SIZE, 3), np.uint8))
    recorded = np.load(RECORDED)[kind]
    assert len(np.unique(recorded)) >= 5
    assert (result.labels == recorded).all()
    assert result.confidence is not None


def test_the_library_adds_masks_of_maskformer_before_it_resizes_them(tmp_path: Path) -> None:
    """Its authors resize first, as is done here: the page says so, and by how much they differ."""
    recorded = np.load(RECORDED)
    masks, logits = recorded["masks"].astype(np.float64), recorded["logits"].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    scores = np.einsum("qk,qhw->khw", shares[0, :, :-1], 1 / (1 + np.exp(-masks[0])))
    at = np.clip((np.arange(SIZE) + 0.5) / 16 - 0.5, 0, 23)
    low = np.minimum(at.astype(int), 22)
    part = at - low
    rows = scores[:, low] * (1 - part)[:, None] + scores[:, low + 1] * part[:, None]
    full = rows[..., low] * (1 - part) + rows[..., low + 1] * part
    near = rounding.of_a_resize(scores) + rounding.of_a_sum(shares.shape[1]) * scores.max()
    assert rounding.only_ties_differ(recorded["maskformer"], full.argmax(0), full, near)
    assert 0.9 < (recorded["maskformer"] == recorded["mask2former"]).mean() < 1
