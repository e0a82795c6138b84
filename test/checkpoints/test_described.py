"""ONNX files that say what they are need no card; others get a draft of one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto
from support import tails
from support.foreign import query_network, write_network
from support.tails import CLASSES, SIZE, node, resize

from seg_perception.cards import load_card
from seg_perception.checkpoints import graphs
from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.cli import main
from seg_perception.errors import ManifestError, ModelError
from seg_perception.segmenter import Segmenter

TAIL = [
    resize("s", "r"),
    node("ArgMax", "r", out="i", axis=1, keepdims=0),
    node("Cast", "i", out="output0", to=TensorProto.UINT8),
]
NAMES = [f"kind {i}" for i in range(CLASSES)]
METADATA = {
    "author": "Ultralytics",
    "description": "Ultralytics YOLO26n-sem model trained on x.yaml",
    "version": "8.4.0",
    "license": "AGPL-3.0 License",
    "task": "semantic",
    "stride": "32",
    "imgsz": str([*SIZE]),
    "names": str(dict(enumerate(NAMES))),
}
CONFIG = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "id2label": {str(i): name for i, name in enumerate(NAMES)},
}
PREPROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.1, 0.2, 0.3],
    "size": {"height": SIZE[0], "width": SIZE[1]},
}


def with_metadata(path: Path, **changes: str | None) -> Path:
    """Give a network the metadata of an Ultralytics export, with changes."""
    model = onnx.load(path)
    for key, text in {**METADATA, **changes}.items():
        if text is not None:
            graphs.set_metadata(model, key, text)
    onnx.save(model, path)
    return path


def yolo(folder: Path, **changes: str | None) -> Path:
    return with_metadata(tails.write(folder / "yolo.onnx", TAIL), **changes)


def bring(path: Path, card: Path | None = None, **options: Any) -> Any:
    return import_onnx(path, card, path.parent / "out" / "m.onnx", rounds=0, **options)


def test_a_semantic_export_of_ultralytics_needs_no_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.onnx"
    assert main(["import", str(yolo(tmp_path)), "-o", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["dialect"] == "ultralytics"
    assert facts["cut"] == ["Resize", "ArgMax", "Cast"]
    assert facts["equal_labels"] == 1
    segmenter = Segmenter.load(out)
    manifest, spec = segmenter.manifest, segmenter.manifest.input
    assert manifest.classes == tuple(NAMES)
    assert (spec.size, spec.color, spec.scale) == (SIZE, "RGB", 1 / 255)
    assert (spec.resize, spec.pad_value) == ("keep_ratio_pad", 114)
    assert (manifest.license, manifest.name) == ("AGPL-3.0 License", "yolo26n-sem")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    result = segmenter(image)
    x = (image.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    assert (result.labels == tails.run(tmp_path / "yolo.onnx", x)[0]).all()
    assert result.confidence is not None


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify", "depth", "new"])
def test_exports_of_other_tasks_are_refused_with_what_they_are(task: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"export of task '{task}': it gives .*name ends in -sem"):
        bring(yolo(tmp_path, task=task))
    assert [p.name for p in tmp_path.iterdir()] == ["yolo.onnx"]


def test_free_sides_are_those_of_the_metadata_or_of_the_command(tmp_path: Path) -> None:
    nodes = [node("ArgMax", "s", out="y", axis=1)]
    path = with_metadata(tails.write(tmp_path / "n.onnx", nodes, stride=1))
    model = onnx.load(path)
    shape = model.graph.input[0].type.tensor_type.shape
    for dim, name in zip(shape.dim, ("batch", None, "height", "width"), strict=True):
        if name is not None:
            dim.dim_param = name
    onnx.save(model, path)
    assert bring(path).manifest.input.size == SIZE
    assert bring(path, size=(16, 24)).manifest.input.size == (16, 24)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": "{1: 'a'}"}, "which name no classes 0, 1, 2"),
        ({"names": "{0: __import__('os')}"}, "metadata names .* which cannot be read"),
        ({"names": "[" * 5000}, "metadata names .* which cannot be read"),
        ({"imgsz": "nonsense ("}, "metadata imgsz 'nonsense .*cannot be read"),
        ({"names": None}, "which name no classes"),
    ],
)
def test_metadata_that_cannot_be_are_named(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = tails.write(tmp_path / "yolo.onnx", TAIL)
    model = with_metadata(path, **changes)
    with pytest.raises(ModelError, match=reason):
        bring(model)


def test_classes_of_a_known_data_set_bring_its_palette_and_groups(tmp_path: Path) -> None:
    card = load_card("cityscapes")
    path = tails.write(tmp_path / "n.onnx", TAIL, classes=19)
    result = bring(with_metadata(path, names=str(dict(enumerate(card["classes"])))))
    assert result.manifest.groups == card["groups"]
    assert result.manifest.dataset == "cityscapes"
    assert any("are those of cityscapes" in note for note in result.notes)
    assert any("groups are not known" in note for note in bring(yolo(tmp_path)).notes)


def test_a_network_of_one_class_gives_background_and_that_class(tmp_path: Path) -> None:
    nodes = [
        resize("s", "r"),
        node("Greater", "r", "zero", out="g"),
        node("Squeeze", "g", "one", out="q"),
        node("Cast", "q", out="output0", to=TensorProto.UINT8),
    ]
    path = tails.write(tmp_path / "n.onnx", nodes, classes=1, zero=np.float32(0))
    result = bring(with_metadata(path, names="{0: 'road'}"))
    assert result.manifest.classes == ("background", "road")
    assert result.report.reason.startswith("it ends in Cast")


def optimum(folder: Path, config: Any = CONFIG, preprocessor: Any = PREPROCESSOR) -> Path:
    """Write what Optimum writes of a network whose logits are a quarter of the size."""
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return tails.write(folder / "model.onnx", [node("Identity", "s", out="logits")])


def test_an_export_of_optimum_needs_no_card(tmp_path: Path) -> None:
    result = bring(optimum(tmp_path))
    manifest = result.manifest
    assert result.dialect == "transformers"
    assert manifest.classes == tuple(NAMES)
    assert (manifest.input.mean, manifest.input.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert (manifest.input.scale, manifest.input.resize) == (1 / 255, "stretch")
    assert (manifest.output.kind, manifest.output.align_corners) == ("logits", False)


def test_what_optimum_files_leave_out_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"does not say input.resize, input.scale, .*draft"):
        bring(optimum(tmp_path, preprocessor=None))
    draft = yaml.safe_load((tmp_path / "out" / "m.card.yaml").read_text())
    assert draft["classes"] == NAMES
    draft["input"] |= {"resize": "stretch", "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}
    card = tmp_path / "card.yaml"
    card.write_text(yaml.safe_dump(draft))
    assert bring(tmp_path / "model.onnx", card).manifest.classes == tuple(NAMES)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({**CONFIG, "architectures": ["DetrForObjectDetection"]}, "export of DetrForObjectDetec"),
        ({**CONFIG, "id2label": {"1": "a"}}, "id2label .* names no classes 0, 1, 2"),
        ({**CONFIG, "id2label": ["a"]}, "id2label .* names no classes 0, 1, 2"),
        ("{", "config.json cannot be read"),
        ("[" * 100_000, "config.json cannot be read"),
    ],
)
def test_configs_that_cannot_be_are_named(config: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        bring(optimum(tmp_path, config))


def test_a_config_that_contradicts_the_graph_is_named(tmp_path: Path) -> None:
    config = {**CONFIG, "id2label": {"0": "a", "1": "b"}}
    with pytest.raises(ManifestError, match="classes has 2 names, the network gives 5 channels"):
        bring(optimum(tmp_path, config))
    assert not (tmp_path / "out" / "m.onnx").exists()


def test_a_draft_holds_what_can_be_seen(tmp_path: Path) -> None:
    path = tails.write(tmp_path / "n.onnx", [node("Relu", "s", out="y")])
    out = tmp_path / "new" / "m.onnx"
    assert main(["import", str(path), "-o", str(out)]) == 1
    assert [p.name for p in out.parent.iterdir()] == ["m.card.yaml"]
    text = (tmp_path / "new" / "m.card.yaml").read_text()
    assert "#   x (float32 (1, 3, 32, 48))\n#   gives y (float32 (1, 5, 8, 12))" in text
    assert yaml.safe_load(text) == {
        "classes": ["?"] * CLASSES,
        "input": {
            "size": [*SIZE], "layout": "NCHW", "color": "?", "dtype": "float32", "resize": "?",
            "scale": "?", "mean": "?", "std": "?",
        },
        "output": {"kind": "?", "layout": "NCHW", "align_corners": "?"},
    }  # fmt: skip


def test_a_draft_is_never_written_over_and_says_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tails.write(tmp_path / "n.onnx", TAIL)
    out, draft = tmp_path / "m.onnx", tmp_path / "m.card.yaml"
    assert main(["import", str(path), "-o", str(out)]) == 1
    assert f"input.std; a draft of its card is {draft}: " in capsys.readouterr().err
    card = yaml.safe_load(draft.read_text())
    assert card["output"] == {"kind": "labels"}
    card["classes"] = NAMES
    draft.write_text(edited := yaml.safe_dump(card))
    assert main(["import", str(path), "-o", str(out)]) == 1
    assert f"fill in {draft}, which is there" in capsys.readouterr().err
    assert draft.read_text() == edited
    assert main(["import", str(path), "--manifest", str(draft), "-o", str(out)]) == 1
    assert "input has mean: '?'; give a list" in capsys.readouterr().err
    card["input"] |= {"color": "RGB", "resize": "none", "scale": 1, "mean": [0] * 3, "std": [1] * 3}
    draft.write_text(yaml.safe_dump(card))
    assert main(["import", str(path), "--manifest", str(draft), "-o", str(out)]) == 0


def test_inputs_of_bytes_and_channels_last_are_seen(tmp_path: Path) -> None:
    path = write_network(tmp_path / "n.onnx", dtype="uint8", layout="NHWC", kind="labels")
    with pytest.raises(ManifestError, match="does not say classes, input.color, input.resize;"):
        bring(path)
    seen = yaml.safe_load((tmp_path / "out" / "m.card.yaml").read_text())["input"]
    assert (seen["layout"], seen["dtype"], seen["size"]) == ("NHWC", "uint8", [*SIZE])


def queries(folder: Path) -> Path:
    """Write masks of queries under the names that the transformers library gives them."""
    path = query_network(folder / "q.onnx")
    model = onnx.load(path)
    model.graph.node.extend(
        [
            node("Identity", "logits", out="masks_queries_logits"),
            node("Identity", "queries", out="class_queries_logits"),
        ]
    )
    for name, old in (("masks_queries_logits", "logits"), ("class_queries_logits", "queries")):
        value = next(v for v in model.graph.output if v.name == old)
        value.name = name
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def test_masks_of_queries_need_no_card_but_names(tmp_path: Path) -> None:
    path = queries(tmp_path)
    with pytest.raises(ManifestError, match=r"q.onnx does not say classes; a draft"):
        bring(path)
    card = tmp_path / "names.yaml"
    card.write_text("classes: [a, b, c, d]\n")
    manifest = bring(path, card).manifest
    assert (manifest.output.kind, manifest.output.name) == ("masks", "masks_queries_logits")
    assert manifest.output.class_logits == "class_queries_logits"
    assert manifest.input.mean == (0.485, 0.456, 0.406)
    labels = {str(i): name for i, name in enumerate("abcd")}
    config = {"architectures": ["Mask2FormerForUniversalSegmentation"], "id2label": labels}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert bring(path).manifest.classes == ("a", "b", "c", "d")
