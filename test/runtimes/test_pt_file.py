"""A .pt model file that is damaged, or says what no network does, is refused with a reason."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg_perception.checkpoints.zoo import describe
from seg_perception.errors import SegPerceptionError
from seg_perception.models import create_model
from seg_perception.runtimes.pt_file import read_model, sha256_of, write_model
from seg_perception.segmenter import Segmenter

ARCH, DATASET = "topformer_tiny", "cityscapes"
BIAS = "decode_head.conv_seg.bias"


@pytest.fixture
def change(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of a good model file without a hash, after a change of its content."""
    path = tmp_path / "m.pt"
    network = create_model(ARCH, dataset=DATASET).eval()
    write_model(network, describe(ARCH, DATASET, classes=19, size=(64, 64)), path)

    def write(alter: Callable[[dict[Any, Any], dict[str, Any]], None]) -> Path:
        saved = torch.load(path, weights_only=True)
        manifest = json.loads(saved["seg_perception"])
        manifest["sha256"] = ""
        alter(saved["state_dict"], manifest)
        torch.save({**saved, "seg_perception": json.dumps(manifest)}, path)
        return path

    return write


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.full((19,), float("nan")), "NaN or infinite weights in ..decode_head.conv_seg.bias"),
        (torch.zeros(18), r"do not fit its architecture topformer_tiny.*\(18,\)"),
        (torch.zeros(19).to_sparse(), "neither dense nor real"),
        (torch.zeros(19, device="meta"), "without data"),
        (3, "int, no tensor"),
    ],
)
def test_weights_that_no_network_has_are_refused(
    value: Any, told: str, change: Callable[..., Path]
) -> None:
    path = change(lambda weights, _: weights.update({BIAS: value}))
    with pytest.raises(SegPerceptionError, match=told):
        Segmenter.load(path)


def test_a_lacking_and_a_nameless_weight_are_refused(change: Callable[..., Path]) -> None:
    with pytest.raises(SegPerceptionError, match="1 keys are missing"):
        read_model(change(lambda weights, _: weights.__delitem__(BIAS)))
    with pytest.raises(SegPerceptionError, match="7: its name is no text"):
        read_model(change(lambda weights, _: weights.update({7: torch.zeros(1)})))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("input", "layout", "NHWC"),
        ("input", "dtype", "uint8"),
        ("output", "layout", "NHWC"),
        ("output", "kind", "labels"),
    ],
)
def test_a_manifest_that_no_network_of_the_zoo_has_is_refused(
    section: str, key: str, value: str, change: Callable[..., Path]
) -> None:
    def alter(_: dict[str, Any], manifest: dict[str, Any]) -> None:
        manifest[section][key] = value
        if value == "uint8":
            manifest["input"].update(mean=[0, 0, 0], std=[1, 1, 1])

    with pytest.raises(SegPerceptionError, match=f"says {section} {key} {value}, and networks of"):
        read_model(change(alter))


def test_the_hash_is_that_of_the_bytes_of_any_type() -> None:
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3).T,
        "a": torch.tensor(3),
        "c": torch.zeros(0),
        "d": torch.tensor([True]),
    }
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + np.ascontiguousarray(tensors[key].numpy()).tobytes())
    assert sha256_of(tensors) == digest.hexdigest()
    half = torch.tensor([1.5, -2], dtype=torch.bfloat16)
    digest = hashlib.sha256(b"w" + half.view(torch.int16).numpy().tobytes())
    assert sha256_of({"w": half}) == digest.hexdigest()


def test_a_file_of_half_precision_is_read(change: Callable[..., Path]) -> None:
    def alter(weights: dict[str, Any], manifest: dict[str, Any]) -> None:
        weights.update({k: v.bfloat16() for k, v in weights.items() if v.is_floating_point()})
        manifest["sha256"] = sha256_of(weights)

    network, _ = read_model(change(alter))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
