"""A file that is no checkpoint is named for what it is, and nothing in it is run."""

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_perception.checkpoints import load_official
from seg_perception.errors import CheckpointError
from seg_perception.runtimes.safe_load import read_weights_only

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page"),
        (b"\n  <HTML>404</HTML>", "it is a web page"),
        (POINTER, "it is a git-lfs pointer.*git lfs pull"),
        (b"", "it is empty"),
        (b"epoch,loss\n1,0.5\n", r"it begins with b'epoch,loss"),
        (b"PK\x03\x04 and no more", "damaged or truncated"),
        (b"\x80\x02}q\x00(X", "damaged or truncated"),
    ],
)
def test_what_is_no_torch_file_is_named(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        read_weights_only(path)
    assert "weights_only=False" not in str(caught.value)


def test_an_onnx_file_is_sent_to_its_own_import(make_model: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="it is an ONNX file.: import it with --manifest"):
        load_official(make_model(), arch="topformer_tiny", dataset="ade20k")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        read_weights_only(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_both_kinds_of_torch_file_list_what_they_hold(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    content = {"state_dict": OrderedDict(w=torch.zeros(2)), "meta": Path("/tmp")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"more than tensors \(pathlib\.\w+\), and loading"):
        read_weights_only(path)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
def test_the_advice_makes_a_checkpoint_that_loads(wrapper: str | None, tmp_path: Path) -> None:
    path, out = tmp_path / "c.pth", tmp_path / "out.pth"
    weights = {"w": torch.zeros(2)}
    torch.save({**({wrapper: weights} if wrapper else weights), "args": Path("/tmp")}, path)
    with pytest.raises(CheckpointError, match="weights_only=False") as caught:
        read_weights_only(path)
    code = str(caught.value).partition("alone: ")[2]
    code = code.replace("FILE", repr(str(path))).replace("OUT", repr(str(out)))
    exec(code, {"torch": torch})
    assert list(read_weights_only(out)) == ["w"]


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({}, "an empty state dict"),
        ({"a": 3}, "'a': int, no tensor"),
        ({7: torch.zeros(1)}, "7: its name is no text but int"),
        ({"a": torch.zeros(3).to_sparse()}, "neither dense nor real"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "neither dense nor real"),
        ({"a": torch.zeros(3, device="meta")}, "a tensor without data"),
    ],
)
def test_entries_that_are_no_weights_are_named(
    weights: dict[Any, Any], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.pth"
    torch.save({"state_dict": weights}, path)
    with pytest.raises(CheckpointError, match=told):
        load_official(path, arch="topformer_tiny", dataset="ade20k")


def test_every_way_to_cut_a_file_is_answered(tmp_path: Path) -> None:
    whole, cut = tmp_path / "c.pth", tmp_path / "cut.pth"
    for zipped in (True, False):
        torch.save({"w": torch.arange(5.0)}, whole, _use_new_zipfile_serialization=zipped)
        content = whole.read_bytes()
        for length in range(0, len(content), 7):
            cut.write_bytes(content[:length])
            with pytest.raises(CheckpointError, match=re.escape(str(cut))) as caught:
                read_weights_only(cut)
            assert "weights_only=False" not in str(caught.value)
