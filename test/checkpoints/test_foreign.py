"""Any ONNX network and its card become a model whose labels are the closed form's, or an error."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support import foreign, rounding
from support.foreign import write_card, write_network
from support.paths import ROOT
from torch.nn.functional import interpolate

from seg_perception.checkpoints import graphs
from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.cli import main
from seg_perception.errors import ManifestError, ModelError, SegPerceptionError
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.runtimes.onnx_file import OnnxFile
from seg_perception.segmenter import Segmenter

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE = (32, 48)
OUTPUTS = list(itertools.product(["logits", "probabilities", "labels"], ["NCHW", "NHWC"]))
INPUTS = [
    {"dtype": "float32", "layout": "NCHW", "color": "RGB", "resize": "stretch"},
    {"dtype": "float32", "layout": "NHWC", "color": "BGR", "resize": "keep_ratio_pad"},
    {"dtype": "uint8", "layout": "NCHW", "color": "BGR", "resize": "keep_ratio_pad"},
    {"dtype": "uint8", "layout": "NHWC", "color": "RGB", "resize": "stretch"},
]


def bring(folder: Path, card: dict[str, Any] | None = None, **network: Any) -> Path:
    """Write a network and its card, import both, and return the model file."""
    path = write_network(folder / "network.onnx", **network)
    import_onnx(path, write_card(folder / "card.yaml", **(card or {})), folder / "model.onnx")
    return folder / "model.onnx"


def random_image(height: int, width: int) -> np.ndarray:
    """Return a smooth random image, RGB."""
    coarse = np.random.default_rng(1).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def reference(image: np.ndarray, spec: dict[str, Any], *, nearest: bool) -> tuple[Any, Any, Any]:
    """Return labels, the winner's probability and scores (K,H,W), by numpy and torch."""
    height, width = image.shape[:2]
    rows, columns = SIZE
    if spec["resize"] == "keep_ratio_pad":
        ratio = min(SIZE[0] / height, SIZE[1] / width)
        rows, columns = round(height * ratio), round(width * ratio)
    x = np.full((*SIZE, 3), spec.get("pad_value", 0), np.float64)
    x[:rows, :columns] = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
    if spec["color"] == "BGR":
        x = x[..., ::-1]
    if spec["dtype"] == "float32":
        x = (spec["scale"] * x - np.array(spec["mean"])) / np.array(spec["std"])
    block = foreign.BLOCK
    scores = x.reshape(SIZE[0] // block, block, SIZE[1] // block, block, 3).mean((1, 3))
    scores = foreign.GAIN * scores[: rows // block, : columns // block].transpose(2, 0, 1)
    scores = torch.from_numpy(scores.astype(np.float32))[None]
    if nearest:
        ids = scores.argmax(1, keepdim=True).float()
        labels = interpolate(ids, (height, width), mode="nearest-exact")[0, 0].numpy()
        return labels.astype(np.uint8), None, None
    shares = scores.softmax(1)
    if spec["kind"] == "probabilities":
        full = interpolate(shares, (height, width), mode="bilinear")[0]
        winner = full.max(0).values
    else:
        full = interpolate(scores, (height, width), mode="bilinear")[0]
        winner = full.softmax(0).max(0).values
    return full.argmax(0).numpy(), winner.numpy(), full.numpy()


@pytest.mark.parametrize(("kind", "out_layout"), OUTPUTS)
@pytest.mark.parametrize("given", INPUTS, ids=lambda i: "-".join(i.values()))
@pytest.mark.parametrize("dynamic", [False, True])
def test_labels_and_confidence_equal_an_independent_reference(
    given: dict[str, Any], kind: str, out_layout: str, dynamic: bool, tmp_path: Path
) -> None:
    spec: dict[str, Any] = {**given, "size": list(SIZE)}
    if given["dtype"] == "float32":
        spec |= {"scale": 1 / 255, "mean": MEAN, "std": STD}
    if given["resize"] == "keep_ratio_pad":
        spec["pad_value"] = 114
    card = {"input": spec, "output": {"kind": kind, "layout": out_layout}}
    model = bring(
        tmp_path, card, dtype=given["dtype"], layout=given["layout"], kind=kind,
        out_layout=out_layout, dynamic=dynamic,
    )  # fmt: skip
    image = random_image(64, 128)
    result = Segmenter.load(model)(image)
    labels, winner, full = reference(image, {**spec, "kind": kind}, nearest=kind == "labels")
    assert len(np.unique(labels)) == 3
    if kind == "labels":
        assert (result.labels == labels).all()
        assert result.confidence is None
    else:
        mean = rounding.of_a_sum(foreign.BLOCK**2) * np.abs(full).max()  # of a block of pixels
        near = rounding.of_a_resize(full) + mean
        assert rounding.only_ties_differ(result.labels, labels, full, near)
        assert result.confidence is not None
        assert np.abs(result.confidence - 255 * winner).max() <= rounding.OF_A_SOFTMAX


def test_the_float_input_is_the_formula_to_the_last_bit(tmp_path: Path) -> None:
    spec = {"size": [32, 48], "scale": 1 / 255, "mean": MEAN, "std": STD}
    image = random_image(*SIZE)
    exact = ((image / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)
    for layout, axes in (("NCHW", (2, 0, 1)), ("NHWC", (0, 1, 2))):
        card = {"input": {**spec, "layout": layout}}
        x = Segmenter.load(bring(tmp_path, card, layout=layout)).to_input(image)
        assert x.dtype == np.float32
        np.testing.assert_array_max_ulp(x[0], exact.transpose(axes), maxulp=1)


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("out_layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("label_dtype", ["uint8", "int32", "int64"])
def test_label_maps_of_every_shape_and_type_are_read(
    rank: int, out_layout: str, label_dtype: str, tmp_path: Path
) -> None:
    model = bring(
        tmp_path, {"output": {"kind": "labels"}}, kind="labels", out_layout=out_layout,
        label_rank=rank, label_dtype=label_dtype,
    )  # fmt: skip
    image = random_image(*SIZE)
    means = image.reshape(8, 4, 12, 4, 3).mean((1, 3))
    expected = means.argmax(-1).repeat(4, 0).repeat(4, 1)
    assert (Segmenter.load(model)(image).labels == expected).all()
    groups = Segmenter.load(model, label_space="groups")(image).labels
    assert (groups == np.array([4, 6, 0])[expected]).all()


@pytest.mark.parametrize("label_dtype", ["int32", "int64"])
def test_ids_that_are_no_class_are_refused_or_become_unknown(
    label_dtype: str, tmp_path: Path
) -> None:
    """The network gives -1, 1 and 256 for red, green and blue."""
    path = write_network(tmp_path / "n.onnx", kind="labels", label_dtype=label_dtype)
    model = onnx.load(path)
    table = np.array([-1, 1, 256], label_dtype)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    model.graph.node.append(helper.make_node("Gather", ["table", "cast"], ["strange"]))
    kind = foreign.TYPES[label_dtype]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("strange", kind, [1, 1, 8, 12]))
    onnx.save(model, path)
    card, out = write_card(tmp_path / "c.yaml", output={"kind": "labels"}), tmp_path / "m.onnx"
    with pytest.raises(ManifestError, match=r"ids \[-1, 256\], classes names 0..2 .*in void_ids"):
        import_onnx(path, card, out)
    assert not out.exists()
    graphs.set_metadata(model, METADATA_KEY, Manifest.from_card(card).to_json())
    onnx.save(model, out)
    image = random_image(*SIZE)
    labels = Segmenter.load(out)(image).labels
    means = image.reshape(8, 4, 12, 4, 3).mean((1, 3)).argmax(-1).repeat(4, 0).repeat(4, 1)
    assert (labels == np.array([255, 1, 255])[means]).all()


def test_void_ids_of_a_label_network_become_unknown(tmp_path: Path) -> None:
    card = {
        "classes": ["red", "green"],
        "groups": {},
        "void_ids": [2],
        "output": {"kind": "labels"},
    }
    image = random_image(*SIZE)
    labels = Segmenter.load(bring(tmp_path, card, kind="labels"))(image).labels
    means = image.reshape(8, 4, 12, 4, 3).mean((1, 3)).argmax(-1).repeat(4, 0).repeat(4, 1)
    assert (labels == np.array([0, 1, 255])[means]).all()


def test_only_the_chosen_output_is_kept_and_computed(tmp_path: Path) -> None:
    nodes = (
        helper.make_node("Relu", ["logits"], ["auxiliary"]),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2]))),
        helper.make_node("Mul", ["logits", "two"], ["double"]),
    )
    outputs = tuple(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])
        for name in ("auxiliary", "double")
    )
    with pytest.raises(
        ManifestError, match=r"several outputs, logits .*auxiliary .*double .*say output.name"
    ):
        bring(tmp_path, extra_nodes=nodes, extra_outputs=outputs)
    card = {"output": {"name": "double"}}
    graph = onnx.load(bring(tmp_path, card, extra_nodes=nodes, extra_outputs=outputs)).graph
    assert [n.op_type for n in graph.node] == ["Conv", "Mul"]
    assert {t.name for t in graph.initializer} == {"kernel", "two"}
    (output,) = graph.output
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 3, 8, 12]


def test_what_a_branch_reads_from_outside_is_kept(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["logits", name], [f"{name}_y"])], name, [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))
        for name, value in (("yes", True), ("then", np.float32(2)), ("else", np.float32(-1)))
    ]
    nodes.append(helper.make_node("If", ["yes"], ["chosen"], **branches))
    output = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)
    model = bring(
        tmp_path, {"output": {"name": "chosen"}}, extra_nodes=tuple(nodes), extra_outputs=(output,)
    )
    image = random_image(*SIZE)
    plain = Segmenter.load(bring(tmp_path))(image).labels
    assert (Segmenter.load(model)(image).labels == plain).all()


def test_initializers_that_are_inputs_become_constants(tmp_path: Path) -> None:
    kernel = helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [3, 3, 4, 4])
    graph = onnx.load(bring(tmp_path, extra_inputs=(kernel,))).graph
    assert [v.name for v in graph.input] == ["x"]


def test_weights_in_constant_nodes_are_hashed(tmp_path: Path) -> None:
    path = write_network(tmp_path / "n.onnx")
    model = onnx.load(path)
    (kernel,) = (t for t in model.graph.initializer if t.name == "kernel")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["kernel"], value=kernel))
    del model.graph.initializer[:]
    onnx.save(model, path)
    card, out = write_card(tmp_path / "c.yaml"), tmp_path / "m.onnx"
    digest = import_onnx(path, card, out).manifest.sha256
    for stated in (digest, OnnxFile(path).weights_sha256()):  # of the file written or the one given
        card = write_card(tmp_path / "c.yaml", sha256=stated)
        assert import_onnx(path, card, out).manifest.sha256 == digest
    whole = out.read_bytes()
    (damaged := bytearray(whole))[whole.index(np.float32(10 / 16).tobytes())] ^= 1
    out.write_bytes(damaged)
    with pytest.raises(ModelError, match=f"manifest says {digest[:12]}"):
        Segmenter.load(out)


@pytest.mark.parametrize("count", [1, 255])
def test_one_class_and_the_most_classes_work(count: int, tmp_path: Path) -> None:
    path = write_network(tmp_path / "n.onnx")
    model = onnx.load(path)
    kernel = np.zeros((count, 3, 4, 4), np.float32)
    kernel[-1] = 1
    (stored,) = (t for t in model.graph.initializer if t.name == "kernel")
    stored.CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    onnx.save(model, path)
    names = [f"class {i}" for i in range(count)]
    card = write_card(tmp_path / "c.yaml", classes=names, groups={})
    import_onnx(path, card, tmp_path / "m.onnx")
    assert (Segmenter.load(tmp_path / "m.onnx")(random_image(40, 50)).labels == count - 1).all()


DISAGREEMENTS = [
    ({}, {"dtype": "uint8"}, "input dtype float32, the network takes uint8: say dtype: uint8"),
    (
        {},
        {"layout": "NHWC"},
        r"\(1, 3, 32, 48\) \(NCHW\), the network takes \(1, 32, 48, 3\): say l",
    ),
    ({}, {"size": (64, 48)}, r"its size is \[64, 48\], layout NCHW: say so"),
    ({}, {"size": (48, 32)}, r"size is \[height, width\]: say \[48, 32\]"),
    ({"classes": ["a"], "groups": {}}, {}, "classes has 1 names, the network gives 3 channels"),
    ({"input": {"size": [32, 48], "name": "y"}}, {}, "input.name is 'y' but .* inputs are x "),
    ({"output": {"name": "y"}}, {}, "output.name is 'y' but the network's outputs are logits"),
    ({"output": {"layout": "NHWC"}}, {}, "gives 12 channels .*say output layout: NCHW"),
    ({"output": {"kind": "labels"}}, {}, "float32 .*: say kind: logits or probabilities"),
    ({}, {"kind": "labels"}, "needs float32, the network gives .*int64 .*: say kind: labels"),
    ({"output": {"kind": "probabilities"}}, {}, "scores reach 0 to 10: say kind: logits"),
    ({}, {"kind": "probabilities"}, "lie in 0..1 and sum to 1: say kind: probabilities"),
    (
        {"input": {"size": list(SIZE), "dtype": "uint8", "multiple": 1}},
        {},
        "imported for one size: leave multiple out",
    ),
    ({"sha256": "0" * 64}, {}, "is for weights with sha256 000000000000.*leave sha256 out"),
]


@pytest.mark.parametrize(("card", "network", "reason"), DISAGREEMENTS)
def test_each_disagreement_is_named_and_nothing_is_written(
    card: dict[str, Any], network: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    out = tmp_path / "model.onnx"
    out.write_text("the file before")
    with pytest.raises(ManifestError, match=reason):
        bring(tmp_path, card, **network)
    assert out.read_text() == "the file before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.yaml", "model.onnx", "network.onnx"]


def test_all_disagreements_come_at_once(tmp_path: Path) -> None:
    card = {"classes": ["a", "b"], "groups": {}, "input": {"size": [9, 9], "dtype": "uint8"}}
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, [1])
    node = helper.make_node("Add", ["logits", "other"], ["sum"])
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 3, 8, 12])
    card |= {"output": {"name": "sum"}}
    card["input"]["name"] = "x"
    with pytest.raises(ManifestError) as caught:
        bring(tmp_path, card, extra_inputs=(other,), extra_nodes=(node,), extra_outputs=(output,))
    text = str(caught.value)
    for part in ("needs other (float32 (1))", "dtype uint8", "(1, 3, 9, 9)", "classes has 2"):
        assert f"\n  - {part}" in text or part in text
    assert text.count("\n  - ") == 4


def test_scores_that_are_not_finite_are_named(tmp_path: Path) -> None:
    node = helper.make_node("Log", ["logits"], ["y"])  # of a black image: minus infinity
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    with pytest.raises(ManifestError, match="NaN or infinite: check scale, mean and std"):
        bring(tmp_path, {"output": {"name": "y"}}, extra_nodes=(node,), extra_outputs=(output,))


def test_probabilities_must_sum_to_one(tmp_path: Path) -> None:
    node = helper.make_node("Sigmoid", ["logits"], ["shares"])
    output = helper.make_tensor_value_info("shares", TensorProto.FLOAT, None)
    card = {"output": {"kind": "probabilities", "name": "shares"}}
    with pytest.raises(ManifestError, match="over the classes they sum to 1.5 to 3: choose"):
        bring(tmp_path, card, extra_nodes=(node,), extra_outputs=(output,))


def test_a_size_that_the_network_cannot_take_is_named(tmp_path: Path) -> None:
    """The shape of the export's own size is baked in, as tracing does."""
    shape = numpy_helper.from_array(np.array([1, 3, 8, 12], np.int64), "shape")
    nodes = (
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Reshape", ["logits", "shape"], ["y"]),
    )
    outputs = (helper.make_tensor_value_info("y", TensorProto.FLOAT, None),)
    network = {"extra_nodes": nodes, "extra_outputs": outputs, "dynamic": True}
    assert bring(tmp_path, {"output": {"name": "y"}}, **network).exists()
    card = {"output": {"name": "y"}, "input": {"size": [64, 96]}}
    with pytest.raises(ModelError, match=r"network.onnx .*Reshape"):
        bring(tmp_path, card, **network)


def test_newer_files_and_custom_operators_are_named(tmp_path: Path) -> None:
    path, card = write_network(tmp_path / "n.onnx"), write_card(tmp_path / "c.yaml")
    model = onnx.load(path)
    for change, reason in [
        ({"ir_version": 999}, "newer than ONNX Runtime.*update that, or export with an older"),
        ({"opset": 999}, "newer than ONNX Runtime"),
        ({"domain": "com.example.gpu"}, "libraries of custom operators are never loaded"),
    ]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.ir_version = change.get("ir_version", changed.ir_version)
        changed.opset_import[0].version = change.get("opset", 17)
        if "domain" in change:
            changed.graph.node[-1].domain = change["domain"]
            changed.opset_import.append(helper.make_opsetid(change["domain"], 1))
        path.write_bytes(changed.SerializeToString())
        with pytest.raises(ManifestError, match=reason):
            import_onnx(path, card, tmp_path / "m.onnx")


def test_external_data_is_taken_in_from_the_folder_alone(tmp_path: Path) -> None:
    path, card = write_network(tmp_path / "n.onnx"), write_card(tmp_path / "c.yaml")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="n.data", size_threshold=0)
    digest = import_onnx(path, card, tmp_path / "m.onnx").manifest.sha256
    (tmp_path / "n.data").rename(tmp_path / "away.data")
    assert Segmenter.load(tmp_path / "m.onnx").manifest.sha256 == digest
    with pytest.raises(ModelError, match=r"'n.data', which is not in .*copy it there"):
        import_onnx(path, card, tmp_path / "m.onnx")


def test_the_command_imports_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, card = write_network(tmp_path / "n.onnx"), write_card(tmp_path / "c.yaml")
    out = tmp_path / "new" / "m.onnx"
    assert main(["import", str(path), "--manifest", str(card), "-o", str(out)]) == 0
    assert f"{out}: 3 classes, logits, input float32 (1, 3, 32, 48)" in capsys.readouterr().out
    assert main(["models", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"# {out}\n# sha256 of the weights matches")
    card.write_text(shown)  # what is shown is a card again
    assert main(["import", str(path), "--manifest", str(card), "-o", str(out)]) == 0
    assert main(["import", str(path), "--manifest", str(path), "-o", str(out)]) == 1
    assert "n.onnx cannot be read" in capsys.readouterr().err
    assert main(["import", "net.pth", "--manifest", str(card), "-o", str(out)]) == 1
    assert "net.pth holds weights without their network" in capsys.readouterr().err
    assert main(["import", "net.pth", "-o", str(out)]) == 1
    assert "no checkpoint at net.pth" in capsys.readouterr().err
    assert main(["import", str(path), "-o", str(out)]) == 1
    assert f"a draft of its card is {out.parent / 'm.card.yaml'}" in capsys.readouterr().err


def test_the_card_in_the_docs_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "card.md").read_text("utf-8")
    (text,) = re.findall(r"```yaml\n(name:.*?)```", page, re.DOTALL)
    (tmp_path / "card.yaml").write_text(text)
    path = write_network(tmp_path / "network.onnx", dynamic=True)
    model = onnx.load(path)
    kernel = np.random.default_rng(0).normal(size=(7, 3, 4, 4)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    onnx.save(model, path)
    manifest = import_onnx(path, tmp_path / "card.yaml", tmp_path / "model.onnx").manifest
    assert manifest.input.shape == (1, 3, 384, 640)
    labels = Segmenter.load(tmp_path / "model.onnx", label_space="groups")(
        random_image(90, 160)
    ).labels
    assert set(np.unique(labels)) <= {1, 2, 4, 5, 6, 7, 255}


def test_the_command_needs_neither_torch_nor_ros(tmp_path: Path) -> None:
    path, card = write_network(tmp_path / "n.onnx"), write_card(tmp_path / "c.yaml")
    code = (
        "import sys\n"
        "for name in ('rclpy', 'torch'): sys.modules[name] = None\n"
        "from seg_perception.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["import", str(path), "--manifest", str(card), "-o", str(tmp_path / "m.onnx")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_damaged_networks_are_refused_and_nothing_else(tmp_path: Path) -> None:
    path, card = write_network(tmp_path / "n.onnx"), write_card(tmp_path / "c.yaml")
    whole, random = path.read_bytes(), np.random.default_rng(2)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data)
        try:
            import_onnx(path, card, tmp_path / "m.onnx")
        except SegPerceptionError:
            refused += 1
    assert 20 < refused < 150
    assert not list(tmp_path.glob("*.part"))
