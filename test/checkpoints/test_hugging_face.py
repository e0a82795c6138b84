"""Hugging Face folders are imported by one command, or refused with what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from support.recorded import CLASSES, GUESSED, NAMES, by_rule

from seg_perception import cli, models
from seg_perception.checkpoints.official import load_checkpoint
from seg_perception.errors import CheckpointError
from seg_perception.models import segformer_dialects
from seg_perception.runtimes import read_manifest

CONFIG: dict[str, Any] = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "model_type": "segformer",
    "id2label": {str(i): name for i, name in enumerate(NAMES)},
    **segformer_dialects.expected_config(models.segformer.CONFIGS["segformer_b0"]),
}
PROCESSOR = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "do_reduce_labels": False,
    "rescale_factor": 1 / 255, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25],
    "size": {"height": 64, "width": 96}, "resample": 2,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder as save_pretrained writes it."""
    path = tmp_path / "mine"
    path.mkdir()
    save_file(by_rule("hugging_face", "segformer_b0|saved"), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return path


def test_a_hugging_face_folder_is_imported_by_one_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.onnx"
    assert cli.main(["import", str(folder), "-o", str(out), "--json"]) == 0
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    found = json.loads(line)
    assert (found["architecture"], found["dialect"]) == ("segformer_b0", "hugging_face")
    assert found["classes"] == CLASSES
    for name, group in zip(NAMES, GUESSED, strict=True):
        assert f"{name}: {group} (" in said.err
    manifest = read_manifest(out)
    assert manifest.classes == tuple(NAMES)
    assert [manifest.groups[name] for name in NAMES] == GUESSED
    assert manifest.input.size == (64, 96)
    assert "read as hugging_face" in manifest.source
    assert manifest.official is None
    assert cli.main(["verify", str(out), "--against", str(folder)]) == 0
    assert "equals segformer_b0" in capsys.readouterr().out


def test_the_image_processors_numbers_are_taken(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert loaded.source.input == {
        "scale": 1 / 255, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "size": [64, 96]
    }  # fmt: skip
    change(folder / "preprocessor_config.json", do_rescale=False, do_normalize=False, size=512)
    assert load_checkpoint(folder).source.input == {
        "scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3, "size": [512, 512]
    }  # fmt: skip
    change(folder / "preprocessor_config.json", size={"shortest_edge": 512}, resample=3)
    change(folder / "preprocessor_config.json", do_reduce_labels=True)
    change(
        folder / "config.json", id2label={str(i): n for i, n in enumerate(["Other", *NAMES[1:]])}
    )
    notes = " ".join(load_checkpoint(folder).source.notes)
    for said in ("size {'shortest_edge': 512}", "resample 3", "class 0 is named 'Other'"):
        assert said in notes
    change(folder / "preprocessor_config.json", image_mean=[1, 2])
    change(folder / "preprocessor_config.json", do_normalize=True)
    with pytest.raises(CheckpointError, match=r"image_mean of .* is \[1, 2\]: give three numbers"):
        load_checkpoint(folder)
    (folder / "preprocessor_config.json").unlink()
    loaded = load_checkpoint(folder)
    assert loaded.source.input == {}
    assert "preprocessor_config.json is missing" in loaded.source.notes[0]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_pt_file_of_a_dialect_builds_its_own_variant_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.pt"
    assert cli.main(["import", str(folder), "-o", str(out)]) == 0
    manifest = read_manifest(out)
    assert manifest.network == {"block_eps": 1e-5}
    assert manifest.dataset == ""
    exported = tmp_path / "m.onnx"
    assert cli.main(["export", str(out), "--size", "64x64", "-o", str(exported)]) == 0


def test_a_file_of_weights_stands_for_its_folder(folder: Path) -> None:
    weights = by_rule("hugging_face", "segformer_b0|saved")
    key, own = "decode_head.classifier.bias", "decode_head.linear_pred.bias"
    torch.save({**weights, key: weights[key] + 1}, folder / "pytorch_model.bin")
    for name, more in (("model.safetensors", 0), ("pytorch_model.bin", 1)):
        loaded = load_checkpoint(folder / name)
        assert loaded.source.names == tuple(NAMES)
        assert torch.equal(loaded.network.state_dict()[own], weights[key] + more)


def test_shards_and_torch_files_are_read_as_well(folder: Path) -> None:
    whole = load_checkpoint(folder).network.state_dict()
    weights = by_rule("hugging_face", "segformer_b0|saved")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    bins = load_checkpoint(folder)
    assert bins.source.files == (folder / "pytorch_model.bin",)
    (folder / "pytorch_model.bin").unlink()
    where = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(weights)}
    for name in set(where.values()):
        save_file({k: v for k, v in weights.items() if where[k] == name}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    shards = load_checkpoint(folder)
    assert len(shards.source.files) == 2
    for other in (bins, shards):
        state = other.network.state_dict()
        assert state.keys() == whole.keys()
        assert all(torch.equal(state[key], whole[key]) for key in whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002.safetensors, which is missing"):
        load_checkpoint(folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(where, "../model.safetensors")}))
    with pytest.raises(CheckpointError, match="no file of its folder"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"depths": [3, 4, 6, 3]}, r"depths is \[3, 4, 6, 3\], segformer_b0 has \[2, 2, 2, 2\]"),
        ({"num_attention_heads": [1, 2, 4, 8]}, "num_attention_heads is"),
        ({"hidden_act": "relu"}, "hidden_act is relu, segformer_b0 has gelu"),
        ({"id2label": {"0": "a", "1": "b"}}, "names 2 classes, its weights tell 7 apart"),
        ({"id2label": {"0": "a", "5": "b"}}, r"has ids \[0, 5\]"),
        ({"id2label": ["a"]}, "no table of ids and names"),
        ({"architectures": ["SegformerForImageClassification"]}, "only networks of semantic"),
        ({"model_type": "beit"}, "model_type is beit, segformer_b0 has segformer"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(
    folder: Path, values: dict[str, Any], said: str
) -> None:
    change(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(folder)


def test_a_folder_without_its_files_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no weights: neither model.safetensors nor"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="a folder without config.json"):
        load_checkpoint(folder)


def test_groups_come_from_a_table_and_name_what_the_file_does_not(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "m.pt", tmp_path / "groups.yaml"
    command = ["import", str(folder), "-o", str(out), "--groups", str(table)]
    table.write_text("{gizmo: obstacle}")
    assert cli.main(command) == 0
    assert "1 as given; other: paved road" in capsys.readouterr().out
    assert read_manifest(out).groups["gizmo"] == "obstacle"
    out.unlink()
    for text, said in (
        ("{gadget: obstacle}", r"names ['gadget'], which are no classes"),
        ("{gizmo: wall}", "maps 'gizmo' to 'wall'"),
        ("[gizmo]", "no table of class: group"),
    ):
        table.write_text(text)
        assert cli.main(command) == 1
        assert said in capsys.readouterr().err
        assert not out.exists()
    change(folder / "config.json", id2label={str(i): f"LABEL_{i}" for i in range(CLASSES)})
    assert cli.main(command[:4]) == 1
    assert "does not name them: give --dataset, or --groups" in capsys.readouterr().err
    table.write_text(yaml.safe_dump(dict(zip(NAMES, GUESSED, strict=True)), sort_keys=False))
    assert cli.main(command) == 0
    assert read_manifest(out).classes == tuple(NAMES)
