"""States of measures in a file: nested dicts of numbers, text and arrays, and nothing that runs."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError
from seg_perception.files import atomic_write
from seg_perception.metrics.metric import State

TREE, ARRAY = "tree", "$array"


def write_state(path: Path, state: State) -> None:
    """Write a state whole or not at all; TypeError for what is no plain data."""
    arrays: dict[str, NDArray[Any]] = {}
    tree = json.dumps(_parted(state, arrays))
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{TREE: np.array(tree), **arrays})


def read_state(path: Path) -> State:
    """Return what write_state wrote; DataError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            state: State = _joined(json.loads(str(arrays[TREE])), arrays)
            return state
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} holds no counts to go on from ({error}); remove it and start again"
        ) from error


def _parted(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return what JSON can hold; the arrays go into `arrays`, under the names it gives them."""
    if isinstance(value, dict):
        return {key: _parted(inner, arrays) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_parted(inner, arrays) for inner in value]
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {ARRAY: name}
    return value.item() if isinstance(value, np.generic) else value


def _joined(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: _joined(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_joined(inner, arrays) for inner in value]
    return value
