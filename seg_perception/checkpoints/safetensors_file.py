"""Weights in safetensors files: the header checked first, then read by the safetensors library."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_perception.errors import CheckpointError, first_line

MAX_HEADER = 100_000_000  # bytes, as the library has it
TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; CheckpointError says what is wrong with it."""
    _check_header(path)
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} is read by safetensors, which is not installed: pip install "
            "'.[safetensors]' in the folder of this package's source"
        ) from error
    try:
        weights: dict[str, Tensor] = load_file(path)
    except Exception as error:  # the library has an error type of its own, and torch's
        raise CheckpointError(
            f"{path} is damaged or truncated: {first_line(error)}; copy or download it again"
        ) from error
    return weights


def _check_header(path: Path) -> None:
    """Raise CheckpointError for a header that is cut, huge, no JSON or names a tensor twice."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or 8 + length > size:
            raise CheckpointError(
                f"{path} ({size} bytes) is truncated, or no safetensors file: its header would "
                f"have {length} bytes; copy or download it again"
            )
        if length > MAX_HEADER:
            raise CheckpointError(
                f"the header of {path} has {length} bytes, more than {MAX_HEADER}: it is no file "
                "of weights; download it again"
            )
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_doubles)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"the header of {path} is no JSON: {first_line(error)}; copy or download it again"
        ) from error
    except KeyError as error:
        raise CheckpointError(
            f"{path} names {error} twice: which one is meant cannot be known; save its weights "
            "again"
        ) from error
    _check_types(header, path)


def _check_types(header: Any, path: Path) -> None:
    """Raise CheckpointError for entries that are no tensors, or of types that no weight has."""
    entries = header if isinstance(header, dict) else {}
    types = {
        name: entry.get("dtype") if isinstance(entry, dict) else None
        for name, entry in entries.items()
        if name != "__metadata__"
    }
    if not types:
        raise CheckpointError(f"{path} holds no tensors; save the trained network again")
    bad = [f"{name} is {kind}" for name, kind in types.items() if kind not in TYPES]
    if bad:
        raise CheckpointError(
            f"{path} holds {len(bad)} tensors of types that weights here do not have "
            f"({', '.join(bad[:3])}): save the network in float32, float16 or bfloat16"
        )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of a JSON text; KeyError for a name that is given twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise KeyError(name)
        found[name] = value
    return found
