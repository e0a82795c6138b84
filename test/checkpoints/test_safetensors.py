"""Safetensors files are read by their library, and refused with what is wrong with them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.recorded import by_rule

from seg_perception.checkpoints.official import load_checkpoint
from seg_perception.checkpoints.safetensors_file import read_safetensors
from seg_perception.errors import CheckpointError


def write(path: Path, header: bytes, data: bytes = b"", *, length: int | None = None) -> Path:
    length = len(header) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + header + data)
    return path


def entry(kind: str = "F32", end: int = 4) -> dict[str, Any]:
    return {"dtype": kind, "shape": [1], "data_offsets": [0, end]}


def test_a_file_alone_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(by_rule("hugging_face", "segformer_b0|saved"), path)
    loaded = load_checkpoint(path)
    assert (loaded.fit.dialect.name, loaded.fit.arch) == ("hugging_face", "segformer_b0")
    assert loaded.source.names == ()
    with pytest.raises(CheckpointError, match="leave --ema out"):
        load_checkpoint(path, ema=True)


def test_tensors_of_half_precision_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    weights = by_rule("hugging_face", "segformer_b0|saved")
    save_file({k: v.bfloat16() if v.is_floating_point() else v for k, v in weights.items()}, path)
    network = load_checkpoint(path).network
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "holds no tensors|is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 5000, "is no JSON"),
        (b"[]", "holds no tensors"),
        (b'{"__metadata__": {}}', "holds no tensors"),
        (json.dumps({"a": entry("F8_E4M3", 1)}).encode(), "a is F8_E4M3.*save the network in"),
        (json.dumps({"a": entry("C64", 8)}).encode(), "a is C64"),
        (json.dumps({"a": 3}).encode(), "a is None"),
        (b'{"a": {}, "a": {}}', "names 'a' twice"),
        (json.dumps({"a": entry(end=400)}).encode(), "damaged or truncated"),
        (json.dumps({"a": {"dtype": "F32"}}).encode(), "damaged or truncated"),
    ],
)
def test_a_damaged_header_is_named(header: bytes, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", header, bytes(4))
    with pytest.raises(CheckpointError, match=said):
        read_safetensors(path)


def test_a_truncated_file_and_a_huge_header_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"12")
    with pytest.raises(CheckpointError, match=r"\(2 bytes\) is truncated"):
        read_safetensors(path)
    write(path, b"{}", length=1 << 62)
    with pytest.raises(CheckpointError, match="is truncated, or no safetensors file"):
        read_safetensors(path)
    with path.open("wb") as file:  # a hole: it takes no place on the disk
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(200_000_100)
    with pytest.raises(CheckpointError, match="has 200000000 bytes, more than 100000000"):
        read_safetensors(path)
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        read_safetensors(path)


def test_without_its_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(CheckpointError, match=r"pip install '\.\[safetensors\]'"):
        read_safetensors(path)
