"""A tail that the decoders do exactly is cut, with the same labels; a look-alike stays."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto
from support import rounding, tails
from support.foreign import write_card
from support.tails import CLASSES, LABELS, SIZE, node, resize

from seg_perception.checkpoints import resizes, tail
from seg_perception.checkpoints.cutting import Report
from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.cli import main
from seg_perception.manifest import Manifest
from seg_perception.segmenter import Segmenter

ARGMAX = node("ArgMax", "r", out="y", axis=1)
NHWC = {"perm": [0, 2, 3, 1]}
BACK = {"perm": [0, 3, 1, 2]}
UINT8, HALF = TensorProto.UINT8, TensorProto.FLOAT16


def bring(
    folder: Path, nodes: list[NodeProto], card: Any = LABELS, **network: Any
) -> tuple[Manifest, Report]:
    """Write a network and its card and import both, untimed."""
    path = tails.write(folder / "n.onnx", nodes, **network)
    card = {"input": {"size": [*SIZE], "scale": 1 / 255}, **card}
    written = write_card(folder / "c.yaml", **card)
    result = import_onnx(path, written, folder / "m.onnx", rounds=0)
    return result.manifest, result.report


def images() -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (*SIZE, 3)).astype(np.uint8) for _ in range(4)]


CASES: dict[str, tuple[list[NodeProto], str, dict[str, Any]]] = {
    "resize, argmax": ([resize("s", "r"), ARGMAX], "logits", {}),
    "align corners": (
        [resize("s", "r", coordinate_transformation_mode="align_corners"), ARGMAX],
        "logits",
        {},
    ),
    "as torch's exporter": (
        [
            node("Resize", "s", "", "", "sizes", out="r", mode="linear",
                 coordinate_transformation_mode="pytorch_half_pixel"),
            node("ArgMax", "r", out="i", axis=1, keepdims=0, select_last_index=0),
            node("Cast", "i", out="y", to=UINT8),
        ],
        "logits",
        {},
    ),
    "cubic": ([resize("s", "r", mode="cubic"), ARGMAX], "logits", {}),
    "softmax after the resize": (
        [resize("s", "f"), node("Softmax", "f", out="r", axis=1), ARGMAX],
        "logits",
        {},
    ),
    "softmax before the resize": (
        [node("Softmax", "s", out="p", axis=1), resize("p", "r"), ARGMAX],
        "probabilities",
        {},
    ),
    "sigmoid after the resize": (
        [resize("s", "f"), node("Sigmoid", "f", out="r"), ARGMAX],
        "masks",
        {},
    ),
    "moved to the end": (
        [
            resize("s", "f"),
            node("Transpose", "f", out="t", **NHWC),
            node("LogSoftmax", "t", out="r", axis=-1),
            node("ArgMax", "r", out="i", axis=-1, keepdims=1),
            node("Squeeze", "i", out="q"),
            node("Unsqueeze", "q", "one0", out="y"),
        ],
        "logits",
        {"one0": np.int64([0])},
    ),
    "channels last": (
        [
            node("Transpose", "s", out="t", **NHWC),
            resize("t", "r"),
            node("ArgMax", "r", out="y", axis=3),
        ],
        "logits",
        {"scales": np.float32([1, 4, 4, 1])},
    ),
    "sizes by shapes": (
        [
            node("Shape", "x", out="all"),
            node("Slice", "all", "two", "four", out="sides"),
            node("Concat", "begin", "sides", out="to", axis=0),
            node("Resize", "s", "", "", "to", out="r", mode="linear"),
            ARGMAX,
        ],
        "logits",
        {"two": np.int64([2]), "four": np.int64([4]), "begin": np.int64([1, CLASSES])},
    ),
    "argmax alone": ([node("ArgMax", "s", out="y", axis=1)], "logits", {"stride": 1}),
    "float16": (
        [node("Cast", "s", out="w", to=TensorProto.FLOAT), resize("w", "r"), ARGMAX],
        "logits",
        {"half": True},
    ),
    "an older squeeze": (
        [
            resize("s", "r"),
            node("ArgMax", "r", out="i", axis=1),
            node("Squeeze", "i", out="y", axes=[1]),
        ],
        "logits",
        {"opset": 11},
    ),
    "the softmax of older opsets": (
        [
            resize("s", "f"),
            node("Transpose", "f", out="t", **NHWC),
            node("Softmax", "t", out="p", axis=3),
            node("Transpose", "p", out="r", **BACK),
            ARGMAX,
        ],
        "logits",
        {"opset": 11},
    ),
    "axes of newer opsets": (
        [
            node("Resize", "s", "", "", "sides", out="r", mode="linear", axes=[2, 3]),
            node("ArgMax", "r", out="y", axis=1),
        ],
        "logits",
        {"opset": 18, "sides": np.int64(SIZE)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_tail_is_cut_and_labels_are_those_of_the_network_by_itself(
    name: str, tmp_path: Path
) -> None:
    nodes, kind, network = CASES[name]
    manifest, report = bring(tmp_path, nodes, **network)
    assert report.operators, report.reason
    assert (manifest.output.kind, report.equal_labels) == (kind, 1)
    operators = [n.op_type for n in onnx.load(tmp_path / "m.onnx").graph.node]
    assert not {"Resize", "ArgMax", "LogSoftmax"} & set(operators)
    segmenter = Segmenter.load(tmp_path / "m.onnx")
    seen: set[int] = set()
    for image in images():
        result = segmenter(image)
        expected = tails.run(tmp_path / "n.onnx", segmenter_input(image)).reshape(SIZE)
        assert (result.labels == expected).all()
        assert result.confidence is not None
        seen |= set(np.unique(expected))
    assert len(seen) >= 3


def segmenter_input(image: np.ndarray) -> np.ndarray:
    """Return float32 (1,3,H,W) of an RGB image, scaled to 0..1."""
    return (image.transpose(2, 0, 1)[None] / 255).astype(np.float32)


def test_scores_at_full_size_lose_their_resize_and_keep_their_confidence(tmp_path: Path) -> None:
    for kind in ("logits", "probabilities"):
        nodes = [resize("s", "r")]
        if kind == "probabilities":
            nodes.append(node("Softmax", "r", out="p", axis=1))
        card = {**LABELS, "output": {"kind": kind}}
        manifest, report = bring(tmp_path, nodes, card)
        assert report.operators == ("Resize", "Softmax")[: len(nodes)]
        assert manifest.output.kind == "logits"
        image = images()[0]
        result = Segmenter.load(tmp_path / "m.onnx")(image)
        scores = tails.run(tmp_path / "n.onnx", segmenter_input(image))[0].astype(np.float64)
        if kind == "logits":
            scores = np.exp(scores) / np.exp(scores).sum(0)
        assert (result.labels == scores.argmax(0)).all()
        assert result.confidence is not None
        assert np.abs(result.confidence - 255 * scores.max(0)).max() <= rounding.OF_A_SOFTMAX


LOOK_ALIKES: dict[str, tuple[list[NodeProto], str, dict[str, Any]]] = {
    "another axis": (
        [resize("s", "f"), node("Softmax", "f", out="r", axis=2), ARGMAX],
        "another axis than the classes",
        {},
    ),
    "last index": (
        [resize("s", "r"), node("ArgMax", "r", out="y", axis=1, select_last_index=1)],
        "select_last_index",
        {},
    ),
    "antialias": ([resize("s", "r", antialias=1), ARGMAX], "antialias", {"opset": 18}),
    "aspect ratio": (
        [
            node("Resize", "s", "", "", "sides", out="r", mode="linear", axes=[2, 3],
                 keep_aspect_ratio_policy="not_larger"),
            ARGMAX,
        ],
        "keeps the aspect ratio",
        {"opset": 18, "sides": np.int64(SIZE)},
    ),
    "asymmetric": (
        [resize("s", "r", coordinate_transformation_mode="asymmetric"), ARGMAX],
        "places samples as asymmetric",
        {},
    ),
    "nearest": ([resize("s", "r", mode="nearest"), ARGMAX], "Resize is nearest", {}),
    "opset 10": (
        [node("Resize", "s", "scales", out="r", mode="linear"), ARGMAX],
        "opset 10 starts",
        {"opset": 10},
    ),
    "opset 9": (
        [node("Upsample", "s", "scales", out="r", mode="linear"), ARGMAX],
        "Upsample",
        {"opset": 9},
    ),
    "steep cubic": (
        [resize("s", "r", mode="cubic", cubic_coeff_a=-0.5), ARGMAX],
        "a = -0.5",
        {},
    ),
    "cubic without what is outside": (
        [resize("s", "r", mode="cubic", exclude_outside=1), ARGMAX],
        "exclude_outside",
        {},
    ),
    "a scale that is no ratio": (
        [resize("s", "r"), ARGMAX],
        "scales 8 by 4.1",
        {"scales": np.float32([1, 1, 4.1, 4.05])},
    ),
    "a sigmoid before the resize": (
        [node("Sigmoid", "s", out="p"), resize("p", "r"), ARGMAX],
        "Sigmoid comes before",
        {},
    ),
    "two activations": (
        [resize("s", "f"), node("Softmax", "f", out="g", axis=1), node("Sigmoid", "g", out="r"),
         ARGMAX],
        "Sigmoid|Softmax",
        {},
    ),
    "labels of a smaller size": (
        [node("ArgMax", "s", out="y", axis=1)],
        "labels or probabilities at 8x12, and the input is 32x48",
        {},
    ),
    "several consumers": (
        [
            resize("s", "r"),
            node("ArgMax", "r", out="i", axis=1),
            node("ReduceMin", "r", out="least", keepdims=0),
            node("Mul", "least", "zero", out="nothing"),
            node("Cast", "nothing", out="whole", to=TensorProto.INT64),
            node("Add", "whole", "one", out="axis"),
            node("Squeeze", "i", "axis", out="y"),
        ],
        "'r' inside the tail is also read by ReduceMin",
        {"zero": np.float32(0)},
    ),
    "turned labels": (
        [resize("s", "f"), node("Transpose", "f", out="r", perm=[0, 1, 3, 2]),
         ARGMAX],
        "does not end in height before width",
        {},
    ),
    "the softmax of older opsets over all": (
        [resize("s", "f"), node("Softmax", "f", out="r", axis=1), ARGMAX],
        "Softmax of opset 11 runs over axes 1 to 3",
        {"opset": 11},
    ),
    "rounded scores": (
        [resize("s", "f"), node("Cast", "f", out="g", to=TensorProto.INT32),
         node("ArgMax", "g", out="y", axis=1)],
        "Cast makes scores of type INT32",
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_only_looks_like_a_tail_is_left_whole(name: str, tmp_path: Path) -> None:
    nodes, reason, network = LOOK_ALIKES[name]
    manifest, report = bring(tmp_path, nodes, **network)
    assert report.operators == ()
    assert manifest.output.kind == "labels"
    assert re.search(reason, report.reason), report.reason
    ours = {n.op_type for n in onnx.load(tmp_path / "m.onnx").graph.node}
    assert {n.op_type for n in nodes} <= ours


def test_an_output_inside_the_tail_is_dropped_or_chosen(tmp_path: Path) -> None:
    nodes = [resize("s", "r"), ARGMAX]
    _, report = bring(
        tmp_path, nodes, {**LABELS, "output": {"kind": "labels", "name": "y"}}, outputs=("r",)
    )
    assert report.operators == ("Resize", "ArgMax")
    manifest, _ = bring(
        tmp_path, nodes, {**LABELS, "output": {"kind": "logits", "name": "r"}}, outputs=("r",)
    )
    assert manifest.output.name == "s"
    model = onnx.load(tmp_path / "n.onnx")
    found = tail.cut(model, Manifest.from_card(tmp_path / "c.yaml"), lambda names: {})
    assert found == "'r' inside the tail is also read by ArgMax"
    card = write_card(tmp_path / "c.yaml", **LABELS | {"output": {"kind": "labels", "name": "y"}})
    found = tail.cut(model, Manifest.from_card(card), lambda names: {})
    assert found == "'r' inside the tail is an output too: choose that one"


@pytest.mark.parametrize("bias", [0, 1e6])
def test_a_cut_that_would_change_labels_is_noticed(
    bias: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first class always wins, so that the network's own labels show nothing."""
    monkeypatch.setitem(resizes.CORNERS, "align_corners", False)
    nodes = [
        node("Add", "s", "bias", out="b"),
        resize("b", "r", coordinate_transformation_mode="align_corners"),
        ARGMAX,
    ]
    manifest, report = bring(tmp_path, nodes, bias=np.float32([[[[bias]], *[[[0]]] * 4]]))
    assert re.search(r"^\d+ of \d+ labels would differ", report.reason)
    assert manifest.output.kind == "labels"
    image = images()[0]
    expected = tails.run(tmp_path / "n.onnx", segmenter_input(image)).reshape(SIZE)
    assert (Segmenter.load(tmp_path / "m.onnx")(image).labels == expected).all()
    assert len(np.unique(expected)) == (1 if bias else 5)


def test_a_sigmoid_that_saturates_decides_and_stays(tmp_path: Path) -> None:
    """Of scores that are all 1 the first wins, whatever they were before."""
    nodes = [
        node("Mul", "s", "thousand", out="m"),
        resize("m", "f"),
        node("Sigmoid", "f", out="r"),
        ARGMAX,
    ]
    _, report = bring(tmp_path, nodes, thousand=np.float32(1000))
    assert "labels would differ" in report.reason


def test_the_command_prints_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tails.write(tmp_path / "n.onnx", [resize("s", "r"), ARGMAX])
    card = write_card(tmp_path / "c.yaml", input={"size": [*SIZE], "scale": 1 / 255}, **LABELS)
    command = ["import", str(path), "--manifest", str(card), "-o", str(tmp_path / "m.onnx")]
    assert main(command) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first == "cut: Resize, ArgMax; nodes 3 -> 1, equal labels 100.0000%, of 5 classes"
    assert re.search(r"^network and labels: [\d.]+ ms -> [\d.]+ ms, time ratio [\d.]+$", second)
    assert main([*command, "--json", "--rounds", "2"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cut"] == ["Resize", "ArgMax"]
    assert (facts["classes"], facts["nodes"], facts["equal_labels"]) == (CLASSES, [3, 1], 1)
    assert facts["time_ratio"] > 0
    tails.write(path, [resize("s", "r", mode="nearest"), ARGMAX])
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["cut"], facts["time_ratio"], facts["equal_labels"]) == ([], None, None)
    assert "nearest" in facts["left_whole"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--rounds", "-1"])
