"""Every form in which ONNX networks come is imported with the same labels, or refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import tails
from support.foreign import write_card
from support.tails import CLASSES, LABELS, SIZE, node, resize

from seg_perception.checkpoints.foreign import Imported, import_onnx
from seg_perception.errors import ManifestError
from seg_perception.segmenter import Segmenter

CARD: dict[str, Any] = {**LABELS, "input": {"size": [*SIZE], "scale": 1 / 255}}
LOGITS = {**CARD, "output": {"kind": "logits"}}
# ONNX Runtime of opset N cannot be older than this list; newer opsets are added by hand.
OPSETS = range(9, 25)
IR_OF = {**dict.fromkeys(range(9, 22), 8), 22: 10, 23: 11, 24: 12}


def bring(path: Path, card: Any = CARD) -> Imported:
    """Import a network, untimed, with its card or part of one."""
    written = write_card(path.with_name("c.yaml"), **card)
    return import_onnx(path, written, path.with_name("m.onnx"), rounds=0)


def assert_same_labels(path: Path, original: Path | None = None) -> None:
    """Compare the model with ONNX Runtime by itself on the network that it was made of."""
    image = np.random.default_rng(7).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    x = (image.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    expected = tails.run(original or path, x)
    labels = Segmenter.load(path.with_name("m.onnx"))(image).labels
    assert len(np.unique(labels)) >= 3
    assert (labels == expected.reshape(SIZE)).all()


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets_from_9_on_are_imported_and_cut_from_11_on(opset: int, tmp_path: Path) -> None:
    upsample = {
        9: node("Upsample", "s", "scales", out="r", mode="linear"),
        10: node("Resize", "s", "scales", out="r", mode="linear"),
    }
    path = tails.write(
        tmp_path / "n.onnx",
        [upsample.get(opset, resize("s", "r")), node("ArgMax", "r", out="y", axis=1)],
        opset=opset,
    )
    model = onnx.load(path)
    model.ir_version = IR_OF[opset]
    onnx.save(model, path)
    report = bring(path).report
    assert bool(report.operators) == (opset >= 11)
    assert_same_labels(path)


def half_network(path: Path, *, ports: bool) -> Path:
    """Write a network with weights of float16 and, with `ports`, such inputs and outputs."""
    nodes = [node("Cast", "s", out="w", to=TensorProto.FLOAT), resize("w", "r")]
    tail = node("ArgMax", "r", out="y", axis=1)
    if ports:
        tail = node("Cast", "r", out="y", to=TensorProto.FLOAT16)
    tails.write(path, [*nodes, tail], half=True)
    if ports:
        model = onnx.load(path)
        (cast,) = (n for n in model.graph.node if "half" in n.output)
        model.graph.node.remove(cast)
        model.graph.input[0].name = "half"
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        onnx.save(model, path)
    return path


def test_weights_of_float16_are_imported(tmp_path: Path) -> None:
    path = half_network(tmp_path / "n.onnx", ports=False)
    assert bring(path).report.operators == ("Resize", "ArgMax")
    assert_same_labels(path)


def test_inputs_and_outputs_of_float16_become_float32(tmp_path: Path) -> None:
    path = half_network(tmp_path / "n.onnx", ports=True)
    assert bring(path, LOGITS).manifest.output.kind == "logits"
    graph = onnx.load(tmp_path / "m.onnx").graph
    types = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert types == {TensorProto.FLOAT}
    whole = half_network(tmp_path / "labels.onnx", ports=False)
    assert_same_labels(path, whole)


def test_external_data_and_free_sides_are_cut_too(tmp_path: Path) -> None:
    nodes = [resize("s", "r"), node("ArgMax", "r", out="y", axis=1)]
    path = tails.write(tmp_path / "n.onnx", nodes)
    model = onnx.load(path)
    for dim, name in zip(
        model.graph.input[0].type.tensor_type.shape.dim, ("n", None, "h", "w"), strict=True
    ):
        if name is not None:
            dim.dim_param = name
    onnx.save(model, path, save_as_external_data=True, location="n.data", size_threshold=500)
    assert bring(path).report.operators == ("Resize", "ArgMax")
    (tmp_path / "n.data").rename(tmp_path / "away.data")
    image = np.zeros((*SIZE, 3), np.uint8)
    assert Segmenter.load(tmp_path / "m.onnx")(image).confidence is not None


def loop_of(body_input: str) -> onnx.NodeProto:
    """Return a Loop that doubles `body_input` three times."""
    body = helper.make_graph(
        [
            node("Add", "value", "value", out="sum"),
            node("Identity", "go", out="goes"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
    )
    return node("Loop", "three", "yes", body_input, out="looped", body=body)


def test_a_loop_inside_is_kept_and_the_tail_behind_it_is_cut(tmp_path: Path) -> None:
    nodes = [loop_of("s"), resize("looped", "r"), node("ArgMax", "r", out="y", axis=1)]
    path = tails.write(tmp_path / "n.onnx", nodes, three=np.int64(3), yes=np.array(True))
    assert bring(path).report.operators == ("Resize", "ArgMax")
    assert_same_labels(path)


def test_a_tail_that_a_branch_reads_is_left_whole(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [node("Cast", source, out=f"{name}_y", to=TensorProto.INT64)], name, [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.INT64, None)],
        )
        for name, source in (("then", "i"), ("else", "r"))
    }  # fmt: skip
    nodes = [
        resize("s", "r"),
        node("ArgMax", "r", out="i", axis=1),
        node("If", "yes", out="y", **branches),
    ]
    path = tails.write(tmp_path / "n.onnx", nodes, yes=np.array(True))
    assert bring(path).report.reason.startswith("it ends in If")
    assert_same_labels(path)


def test_a_sequence_is_refused_by_name(tmp_path: Path) -> None:
    path = tails.write(tmp_path / "n.onnx", [node("SequenceConstruct", "s", out="y")])
    model = onnx.load(path)
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    onnx.save(model, path)
    with pytest.raises(ManifestError, match="the network gives y .sequence_type of unknown shape"):
        bring(path, LOGITS)
    assert not (tmp_path / "m.onnx").exists()


def test_custom_operators_are_refused_by_name(tmp_path: Path) -> None:
    path = tails.write(tmp_path / "n.onnx", [node("Relu", "s", out="y")])
    model = onnx.load(path)
    model.graph.node[-1].domain = "mmdeploy"
    model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
    onnx.save(model, path)
    with pytest.raises(ManifestError, match="custom operators are never loaded: export it with"):
        bring(path, LOGITS)


def test_several_outputs_of_one_kind_are_named(tmp_path: Path) -> None:
    nodes = [node("Relu", "s", out="aux"), node("Identity", "s", out="y")]
    path = tails.write(tmp_path / "n.onnx", nodes, outputs=("aux",))
    with pytest.raises(ManifestError, match="several outputs, aux .*y .*: say output.name"):
        bring(path, LOGITS)
    partly = {key: LOGITS[key] for key in ("classes", "input")}
    (tmp_path / "part.yaml").write_text(str(partly).replace("(", "[").replace(")", "]"))
    with pytest.raises(ManifestError, match=r"does not say .*output.kind, output.name; a draft"):
        import_onnx(path, tmp_path / "part.yaml", tmp_path / "m.onnx", rounds=0)


def test_a_tail_of_a_quantized_network_is_cut(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "s", "step", "middle", out="q"),
        node("DequantizeLinear", "q", "step", "middle", out="d"),
        resize("d", "r"),
        node("ArgMax", "r", out="y", axis=1),
    ]
    path = tails.write(tmp_path / "n.onnx", nodes, step=np.float32(0.01), middle=np.uint8(128))
    report = bring(path).report
    assert report.operators == ("Resize", "ArgMax")
    assert report.ties > 0  # of scores that are whole steps
    assert report.equal_labels is not None
    assert report.equal_labels < 1  # the others tie, or the import would have been refused


def test_stored_tensors_of_other_shapes_are_no_scores(tmp_path: Path) -> None:
    nodes = [node("ArgMax", "table", out="y", axis=1)]
    table = np.random.default_rng(0).normal(size=(1, CLASSES, 4)).astype(np.float32)
    path = tails.write(tmp_path / "n.onnx", [*nodes], table=table)
    model = onnx.load(path)
    assert {t.name for t in model.graph.initializer} >= {"table"}
    assert numpy_helper.to_array(model.graph.initializer[0]).size
    report = bring(path).report
    assert "no scores" in report.reason
