"""Training begins with any model: what fits is kept, classes are matched by their names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.own_data import write_card, write_drives
from support.train import small
from torch import nn

from seg_perception import weights
from seg_perception.bags.clip import bundled_images
from seg_perception.checkpoints.unfolding import unfold
from seg_perception.cli import main as command
from seg_perception.errors import CheckpointError, UsageError
from seg_perception.images import resized
from seg_perception.manifest import Manifest
from seg_perception.models import create_model
from seg_perception.runtimes import read_manifest
from seg_perception.runtimes.pt_file import write_model
from seg_perception.training.card import card_of, data_set
from seg_perception.training.start import freeze, initialise, rate_factors, start
from seg_perception.training.state import WithAuxiliaryHeads
from seg_perception.training.train import main

HEAD = "decode_head.conv_seg"
OWN = card_of({"classes": ["road", "robot", "Sign Symbol"]})


def images(size: tuple[int, int]) -> list[np.ndarray]:
    return [resized(image, size)[..., ::-1] for image in bundled_images(2)]


def model_file(
    path: Path, classes: list[str], arch: str = "topformer_tiny"
) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    network = create_model(arch, dataset="", num_classes=len(classes))
    card = {"classes": classes, "architecture": arch, "input": {"size": [64, 96]},
            "output": {"kind": "logits"}}  # fmt: skip
    write_model(network, Manifest.from_dict(card), path)
    return network.state_dict()


def test_from_nothing_as_before() -> None:
    begun = start("", "afformer_tiny", OWN, images)
    assert (begun.arch, begun.changes) == ("afformer_tiny", {})
    assert begun.network.get_submodule("decode_head.conv_seg").out_channels == 3


def test_the_default_keeps_its_backbone_and_the_rows_of_known_names() -> None:
    begun = start("tiny", "segformer_b0", OWN, images)
    assert begun.arch == "topformer_tiny"
    assert "2 classes kept by name, the head is new for robot" in begun.notes[0]
    path = weights.resolve("tiny")
    kept, manifest = unfold(path, images(read_manifest(path).input.size))
    theirs, ours = kept.state_dict(), begun.network.state_dict()
    row = {name: i for i, name in enumerate(manifest.classes)}
    for key, value in ours.items():
        if key.startswith(HEAD):
            assert torch.equal(value[0], theirs[key][row["road"]])
            assert torch.equal(value[2], theirs[key][row["sign_symbol"]])
            assert value[1].abs().max() < 0.1
        else:
            assert torch.equal(value, theirs[key]), key


def test_a_card_of_the_same_classes_keeps_all_in_whatever_order(tmp_path: Path) -> None:
    state = model_file(tmp_path / "m.pt", ["a", "b", "c"])
    begun = start(str(tmp_path / "m.pt"), "", card_of({"classes": ["c", "a", "b"]}), images)
    assert "all 3 classes kept" in begun.notes[0]
    found = begun.network.state_dict()[f"{HEAD}.weight"]
    assert torch.equal(found, state[f"{HEAD}.weight"][[2, 0, 1]])


def test_a_checkpoint_of_another_data_set_keeps_the_variant_that_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ade = create_model("topformer_tiny", dataset="ade20k")  # fuses depthwise
    torch.save({"state_dict": ade.state_dict()}, tmp_path / "ade.pth")
    begun = start(str(tmp_path / "ade.pth"), "", OWN, images)
    assert begun.changes == {"depthwise_fuse": True}
    key = "decode_head.linear_fuse.conv.weight"
    assert torch.equal(begun.network.state_dict()[key], ade.state_dict()[key])
    assert "1 classes kept by name" in begun.notes[0]  # road
    same = start(str(tmp_path / "ade.pth"), "", data_set("ade20k"), images)
    assert same.changes == {}
    assert torch.equal(same.network.state_dict()[f"{HEAD}.bias"], ade.state_dict()[f"{HEAD}.bias"])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_text("nothing")
    with pytest.raises(CheckpointError, match="m.pt"):
        start(str(tmp_path / "m.pt"), "", OWN, images)


def with_heads() -> WithAuxiliaryHeads:
    network = create_model("topformer_tiny", dataset="", num_classes=3)
    initialise(network)
    return WithAuxiliaryHeads(network, classes=3, size=(32, 64))


def test_frozen_and_slower_parts_are_found_by_name_or_refused() -> None:
    model = with_heads()
    norms = freeze(model, ["backbone.tpm"])
    assert {id(n) for n in norms} == {
        id(m) for m in model.network.backbone.tpm.modules() if isinstance(m, nn.BatchNorm2d)
    }
    factors = rate_factors(model, {"backbone": 0.1, "backbone.trans": 0.5})
    assert not any(key.startswith("network.backbone.tpm") for key in factors)
    assert {v for k, v in factors.items() if k.startswith("network.backbone.trans.")} == {0.5}
    assert {v for k, v in factors.items() if k.startswith("network.backbone.SIM.")} == {0.1}
    assert {v for k, v in factors.items() if "backbone" not in k} == {1.0}
    with pytest.raises(UsageError, match="'backbon', which is no module; there are backbone"):
        freeze(model, ["backbon"])
    with pytest.raises(UsageError, match="rates names 'x'"):
        rate_factors(model, {"x": 0.1})


def test_frozen_layers_stay_as_they_were_to_the_bit(tmp_path: Path) -> None:
    data = write_drives(tmp_path / "data")
    card = write_card(tmp_path / "card.yaml")
    state = model_file(tmp_path / "m.pt", ["floor", "wall", "sky"], "topformer_small")
    config = small(
        data, tmp_path / "run", card=str(card), init=str(tmp_path / "m.pt"), epochs=1,
        freeze=("backbone",), average=0.0,
    )  # fmt: skip
    main(config)
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["averaged"]
    for key, value in state.items():
        same = torch.equal(saved[f"network.{key}"], value)
        assert same == key.startswith("backbone."), key
    manifest = read_manifest(tmp_path / "run" / "model.onnx")
    assert manifest.architecture == "topformer_small"


def test_training_goes_on_from_a_run_of_other_classes_by_the_command_line(tmp_path: Path) -> None:
    data = write_drives(tmp_path / "data")
    card = write_card(tmp_path / "card.yaml")
    main(small(data, tmp_path / "run", card=str(card), epochs=1))
    more = write_card(tmp_path / "more.yaml", map={})
    more.write_text(more.read_text().replace("- wall", "- wall\n- sofa"))
    config = tmp_path / "c.yaml"
    config.write_text("epochs: 1\nbatch: 4\ncrop: [32, 64]\nthreads: 1\nworkers: 0\n")
    out = tmp_path / "more.onnx"
    arguments = ["--data", str(data), "--card", str(more), "--config", str(config), "-o", str(out)]
    init = ["--init", str(tmp_path / "run" / "checkpoint.pt"), "--slower", "backbone=0.1"]
    ids = "ids: {0: floor, 1: wall, 2: person}\n"
    more.write_text(more.read_text() + ids)
    assert command(["train", *arguments, *init]) == 0
    assert "from checkpoint.pt" in read_manifest(out).source
