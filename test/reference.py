"""Reference weights, inputs and goldens: the rule `crc32-uniform-v1`, written again for the tests.

Every tensor is drawn from PCG64 seeded with the crc32 of its name, so a network's official
outputs can be compared without its official weights.
"""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch


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
    else:
        value = (2 * u - 1) * 1.7 / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32).reshape(shape)


def state_dict(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    manifest = json.loads((folder / f"{variant}.manifest.json").read_text())
    return {key: torch.from_numpy(tensor(key, shape)) for key, shape, _ in manifest["keys"]}


def picture(height: int, width: int) -> torch.Tensor:
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
