"""Official checkpoints load strictly and safely, or say why not."""

from pathlib import Path
from typing import Any

import pytest
import reference
import torch

from seg_perception.checkpoints import load_official
from seg_perception.errors import CheckpointError

DATA = Path(__file__).parent / "data" / "topformer"


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
    x = reference.picture(64, 64)
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
