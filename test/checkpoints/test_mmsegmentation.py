"""Checkpoints of mmsegmentation, and official ones, bring their classes and need no options."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.recorded import NAMES, by_rule

from seg_perception import cli
from seg_perception.checkpoints.official import load_checkpoint
from seg_perception.manifest import Manifest
from seg_perception.models import create_model
from seg_perception.runtimes import read_manifest


def mm_checkpoint(path: Path, **content: Any) -> Path:
    weights = by_rule("mmsegmentation", "segformer_b0|small")
    torch.save({"state_dict": weights, **content}, path)
    return path


META: dict[str, Any] = {
    "1.x": {"dataset_meta": {"classes": tuple(NAMES), "palette": [[i, i, i] for i in range(7)]}},
    "0.x": {"CLASSES": NAMES, "PALETTE": [[i, i, i] for i in range(7)]},
}


@pytest.mark.parametrize("version", META)
def test_mmsegmentations_names_and_colours_are_taken(version: str, tmp_path: Path) -> None:
    path = mm_checkpoint(
        tmp_path / "c.pth", meta=META[version], optimizer={"state": {}}, message_hub={}
    )
    out = tmp_path / "m.pt"
    assert cli.main(["import", str(path), "--size", "64x96", "-o", str(out)]) == 0
    manifest = read_manifest(out)
    assert manifest.classes == tuple(NAMES)
    assert manifest.palette == tuple((i, i, i) for i in range(7))
    assert manifest.network == {"head": "conv", "coarse_eps": 1e-6}
    assert load_checkpoint(path).source.notes == (
        "left out, as only training needs it: optimizer, message_hub",
    )


def test_names_that_do_not_go_with_the_weights_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mm_checkpoint(tmp_path / "c.pth", meta={"CLASSES": NAMES[:5]})
    command = ["import", str(path), "-o", str(tmp_path / "m.pt")]
    assert cli.main(command) == 1
    assert "names 5 classes, its weights tell 7 apart" in capsys.readouterr().err
    weights = by_rule("mmsegmentation", "segformer_b0|small")
    one = {key: value[:1] if "conv_seg" in key else value for key, value in weights.items()}
    mm_checkpoint(path, state_dict=one, meta={"CLASSES": NAMES[:2]})
    assert cli.main(command) == 1
    assert "one score for two classes (paved road, Sidewalk)" in capsys.readouterr().err
    mm_checkpoint(path)
    assert cli.main(command) == 1
    assert "does not name them: give --dataset, or --groups" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth"]


def test_the_averages_of_mmengine_are_told_and_taken_when_asked_for(tmp_path: Path) -> None:
    weights = by_rule("mmsegmentation", "segformer_b0|small")
    other = {f"module.{key}": value + 1 for key, value in weights.items()}
    path = mm_checkpoint(tmp_path / "c.pth", ema_state_dict={**other, "steps": torch.tensor(5)})
    own = "decode_head.linear_pred.bias"
    key = "decode_head.conv_seg.bias"
    plain, averaged = (load_checkpoint(path, ema=ema) for ema in (False, True))
    assert torch.equal(plain.network.state_dict()[own], weights[key])
    assert torch.equal(averaged.network.state_dict()[own], weights[key] + 1)
    assert plain.source.notes[0].startswith("not used: the weights under ema_state_dict; --ema")
    assert "mmengine exchanges the two" in averaged.source.notes[0]


def test_a_data_preprocessors_numbers_are_taken(tmp_path: Path) -> None:
    weights = by_rule("mmsegmentation", "segformer_b0|small")
    weights["data_preprocessor.mean"] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    weights["data_preprocessor.std"] = torch.tensor([4.0, 5.0, 6.0])[:, None, None]
    path = mm_checkpoint(tmp_path / "c.pth", state_dict=weights)
    assert load_checkpoint(path).source.input == {"mean": [1, 2, 3], "std": [4, 5, 6]}


def test_names_of_a_known_data_set_bring_its_card(tmp_path: Path) -> None:
    network = create_model("segformer_b0", dataset="camvid")
    names = ["Sky", "building", "Pole", "road", "pavement", "tree", "sign-symbol", "fence", "car",
             "pedestrian", "bicyclist"]  # fmt: skip
    path = tmp_path / "c.pth"
    torch.save({"state_dict": network.state_dict(), "meta": {"CLASSES": names}}, path)
    out = tmp_path / "m.pt"
    assert cli.main(["import", str(path), "--size", "64x64", "-o", str(out)]) == 0
    manifest = read_manifest(out)
    assert manifest.dataset == "camvid"
    assert manifest.void_ids == (11,)


def test_an_official_checkpoint_needs_no_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.pth"
    for classes, status, said in (
        (19, 0, "19 classes without names: those of cityscapes"),
        (23, 1, "tells 23 classes apart and does not name them"),
    ):
        torch.save(create_model("segformer_b0", num_classes=classes).state_dict(), path)
        out = tmp_path / "m.pt"
        assert cli.main(["import", str(path), "--size", "64x64", "-o", str(out)]) == status
        said_by_both = "".join(capsys.readouterr())
        assert said in said_by_both
    assert Manifest.from_dict(read_manifest(out).to_dict()).dataset == "cityscapes"
