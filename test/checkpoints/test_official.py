"""Official checkpoints load strictly and safely, or say why not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import reference
from support.paths import DATA

from seg_perception.checkpoints import load_official
from seg_perception.checkpoints.official import load_checkpoint
from seg_perception.errors import CheckpointError
from seg_perception.models import create_model
from seg_perception.models.loading import without_data

DATA = DATA / "topformer"


class Stranger:
    """Something that a weights-only load must refuse: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return reference.state_dict(DATA, "tiny_ade20k")


def test_official_wrappers_and_prefixes_are_taken_off(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrapped = {
        "meta": {"epoch": 3},
        "state_dict": {f"module.{k}": v for k, v in weights.items()},
    }
    model = load_official(
        save(tmp_path / "c.pth", wrapped), arch="topformer_tiny", dataset="ade20k"
    )
    assert not model.training
    x = reference.image(64, 64)
    assert model(x).shape == (1, 150, 8, 8)
    assert model.scores(x).shape == (1, 150, 64, 64)


def test_a_wrong_architecture_is_named(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = save(tmp_path / "c.pth", weights)
    with pytest.raises(
        CheckpointError,
        match="topformer_base on ade20k.*--arch topformer_tiny --dataset ade20k fits",
    ):
        load_official(path, arch="topformer_base", dataset="ade20k")
    with pytest.raises(
        CheckpointError, match=r"linear_fuse.conv.weight.*\(128, 1, 1, 1\)|conv_seg"
    ):
        load_official(path, arch="topformer_tiny", dataset="cityscapes")


def test_leftover_keys_are_an_error(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = save(tmp_path / "c.pth", {**weights, "extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 are unknown ..extra.weight"):
        load_official(path, arch="topformer_tiny", dataset="ade20k")


def test_nan_weights_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    bad = {**weights, "decode_head.conv_seg.bias": torch.full((150,), float("nan"))}
    with pytest.raises(CheckpointError, match="NaN or infinite.*conv_seg.bias"):
        load_official(save(tmp_path / "c.pth", bad), arch="topformer_tiny", dataset="ade20k")


def test_pickles_with_code_are_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "code_ran"
    path = save(tmp_path / "c.pth", {"state_dict": {}, "meta": Stranger(trace)})
    with pytest.raises(CheckpointError, match="could run code"):
        load_official(path, arch="topformer_tiny", dataset="ade20k")
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file would have run code"


def test_damaged_and_missing_files_are_named(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_official(tmp_path / "absent.pth", arch="topformer_tiny", dataset="ade20k")
    whole = save(tmp_path / "c.pth", weights).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        load_official(tmp_path / "cut.pth", arch="topformer_tiny", dataset="ade20k")
    with pytest.raises(CheckpointError, match="holds list, not a state dict"):
        load_official(save(tmp_path / "l.pth", [1]), arch="topformer_tiny", dataset="ade20k")


@pytest.mark.parametrize("prefix", ["module.module.", "model.", "module.model."])
def test_prefixes_come_off_as_long_as_all_keys_share_them(
    prefix: str, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = save(tmp_path / "c.pth", {prefix + k: v for k, v in weights.items()})
    load_official(path, arch="topformer_tiny", dataset="ade20k")


def test_moving_averages_are_named_and_taken_when_asked_for(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    key = "decode_head.conv_seg.weight"
    averages = {"ema_" + k.replace(".", "_"): v for k, v in weights.items() if "running" not in k}
    averages["ema_" + key.replace(".", "_")] = weights[key] + 1
    path = save(tmp_path / "c.pth", {**weights, **averages})
    loaded = load_checkpoint(path)
    assert loaded.source.notes == ("not used: the keys that start with ema_; --ema takes them",)
    assert torch.equal(loaded.network.state_dict()[key], weights[key])
    loaded = load_checkpoint(path, ema=True)
    assert torch.equal(loaded.network.state_dict()[key], weights[key] + 1)
    with pytest.raises(CheckpointError, match="no moving averages: leave --ema out"):
        load_checkpoint(save(tmp_path / "plain.pth", weights), ema=True)


def test_a_wrong_class_count_is_told_as_such(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    other = create_model("topformer_tiny", dataset="ade20k", num_classes=21).state_dict()
    path = save(tmp_path / "c.pth", other)
    with pytest.raises(CheckpointError, match="it tells 21 classes apart, ade20k has 150") as told:
        load_official(path, arch="topformer_tiny", dataset="ade20k")
    assert "--dataset" not in str(told.value)  # none of them has 21
    segvit = without_data("segvit_vitb", "ade20k", 171).state_dict()
    full = {key: torch.zeros(value.shape) for key, value in segvit.items()}
    with pytest.raises(CheckpointError, match="tells 171 classes apart, ade20k has 150") as told:
        load_official(save(tmp_path / "s.pth", full), arch="segvit_vitb", dataset="ade20k")
    assert "--arch segvit_vitb --dataset cocostuff10k fits" in str(told.value)


def test_the_refused_variant_is_never_advised(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = save(tmp_path / "c.pth", {**weights, "extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 are unknown") as told:
        load_official(path, arch="topformer_tiny", dataset="ade20k")
    assert "--arch topformer_tiny --dataset ade20k" not in str(told.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(
    dtype: torch.dtype, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
    model = load_official(save(tmp_path / "c.pth", given), arch="topformer_tiny", dataset="ade20k")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.is_contiguous() and p.requires_grad for p in model.parameters())


def test_what_a_network_computes_has_values_and_is_its_own(tmp_path: Path) -> None:
    network = create_model("hrformer_small_ocr_v2", dataset="cityscapes").eval()
    given = network.state_dict()
    wrong = {k: v + 5 if k.endswith("position_index") else v for k, v in given.items()}
    lacking = {k: v for k, v in given.items() if not k.endswith("position_index")}
    x = reference.image(32, 32)
    for weights in (wrong, lacking):
        path = save(tmp_path / "c.pth", weights)
        model = load_official(path, arch="hrformer_small_ocr_v2", dataset="cityscapes")
        with torch.no_grad():
            assert torch.equal(model(x), network(x))
