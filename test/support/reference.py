"""Reference weights, inputs and goldens: the rule `crc32-uniform-v1`, written again for the tests.

Every tensor is drawn from PCG64 seeded with the crc32 of its name, so a network's official
outputs can be compared without its official weights.
"""

import copy
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

QUERY_TABLES = ("decode_head.q.weight", "decode_head.atm.q.weight")


def uniform(name: str, count: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).random(count)


def tensor(key: str, shape: list[int]) -> np.ndarray:
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros((), np.int64)
    u = uniform(key, math.prod(shape))
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        value = 0.5 + u
    elif leaf == "running_mean":
        value = 0.4 * u - 0.2
    elif len(shape) <= 1:
        value = 0.2 * u - 0.1
    elif leaf in ("pos_embed", "cls_token", "relative_position_bias_table"):
        value = u - 0.5
    elif key in QUERY_TABLES:
        value = 1.7 * (2 * u - 1)
    else:
        value = (2 * u - 1) * 1.7 / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32).reshape(shape)


def state_dict(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    """Return the weights of every key but the buffers that a network computes for itself."""
    manifest = json.loads((folder / f"{variant}.manifest.json").read_text())
    alias_of = manifest.get("alias_of", {})
    return {
        key: torch.from_numpy(tensor(alias_of.get(key, key), shape))
        for key, shape, _ in manifest["keys"]
        if not key.endswith("relative_position_index")
    }


def tolerance(given: np.ndarray | torch.Tensor, exact: np.ndarray | torch.Tensor) -> float:
    """Return how far another float32 computation may be from `given`, on this machine.

    The goldens' rule: five times the network's own rounding, which `exact`, the same in float64,
    shows, and at least 1e-4 of the spread.
    """
    given, exact = np.asarray(given), np.asarray(exact)
    return max(1e-4 * float(given.std()), 5 * float(np.abs(exact - given).max()))


def in_float64(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what a network gives in double precision."""
    result: torch.Tensor = copy.deepcopy(network).double()(x.double())
    return result


def image(height: int, width: int) -> torch.Tensor:
    """Return the normalised reference input, float32 (1,3,H,W)."""
    name = f"input:1x3x{height}x{width}"
    rows, columns = -(-height // 16), -(-width // 16)
    coarse = uniform(f"{name}:coarse", 3 * rows * columns).reshape(1, 3, rows, columns)
    coarse = coarse.repeat(16, 2).repeat(16, 3)[:, :, :height, :width]
    fine = uniform(f"{name}:fine", 3 * height * width).reshape(1, 3, height, width)
    return torch.from_numpy((1.5 * (2 * coarse - 1) + 0.75 * (2 * fine - 1)).astype(np.float32))


def config(folder: Path, variant: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / f"{variant}.config.json").read_text())
    return loaded


def stored_part(golden: dict[str, np.ndarray], key: str, array: np.ndarray) -> np.ndarray:
    """Return the elements of `array` that the golden file keeps."""
    assert tuple(golden[f"{key}__shape"]) == array.shape
    return array[tuple(slice(None, None, int(s)) for s in golden[f"{key}__stride"])]


def outputs(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Return what the goldens hold of a network: logits (SegViT: masks, class_logits), final."""
    with torch.no_grad():
        result = model(x)
        parts = result if isinstance(result, tuple) else (result,)
        named = dict(zip(("logits", "class_logits"), parts, strict=False))
        named["final"] = model.scores(x)
    return {name: value.numpy() for name, value in named.items()}


def check_golden(folder: Path, variant: str, model: nn.Module) -> None:
    """Compare with recorded outputs, within what float32 loses against a float64 run."""
    golden = dict(np.load(folder / f"{variant}.golden.npz"))
    recorded = config(folder, variant)["golden"]
    for size in sorted({key.split("|")[0] for key in golden}):
        x = image(*map(int, size.split("x")))
        noise = recorded[size].get("f32_vs_f64_maxabs") or {}
        actual = outputs(model, x)
        for name in [n for n in actual if f"{size}|{n}" in golden]:
            _compare(golden, f"{size}|{name}", actual[name], noise.get(name, 0.0))
        if f"{size}|final64" in golden:
            actual = outputs(model.double(), x.double())
            _compare(golden, f"{size}|logits64", actual["logits"], 0.0)
            _compare(golden, f"{size}|final64", actual["final"], 0.0)
            model.float()


def _compare(golden: dict[str, np.ndarray], key: str, actual: np.ndarray, noise: float) -> None:
    expected = golden[key]
    difference = np.abs(stored_part(golden, key, actual) - expected).max()
    share = 1e-7 if expected.dtype == np.float64 else 1e-4
    assert difference <= max(share * expected.std(), 5 * noise), (key, float(difference))


def check_statistics(folder: Path, variant: str, model: nn.Module) -> None:
    """Compare with the recorded statistics of an output of which no golden was kept.

    If no score is further off than the goldens' rule allows, neither is the largest, nor the mean
    of deviations; a gap between two scores is off by twice that at most.
    """
    for size, recorded in config(folder, variant)["golden"].items():
        with torch.no_grad():
            final = model.scores(image(*map(int, size.split("x"))))
        assert list(final.shape) == recorded["final_shape"]
        near = 1e-4 * float(final.std())
        assert float(final.abs().max()) == pytest.approx(recorded["final_absmax"], abs=near)
        assert len(final.argmax(1).unique()) == recorded["n_argmax_classes"]
        spread = float(final[0].flatten(1).std(1).mean())
        assert spread == pytest.approx(recorded["final_std_space"], abs=near)
        top = final[0].flatten(1).topk(2, 0).values
        gap = float(np.median((top[0] - top[1]).numpy()))
        assert gap == pytest.approx(recorded["median_top2_gap"], abs=2 * near)
