"""What test/record_dialects.py recorded of other libraries: keys and shapes of their networks."""

import gzip
import json

import torch
from torch import Tensor

from support import reference
from support.paths import DATA

DATA = DATA / "dialects"
CLASSES = 7
NAMES = ["paved road", "Sidewalk", "cars", "tree", "sky", "pedestrian", "gizmo"]
GUESSED = ["drivable", "sidewalk", "vehicle", "vegetation", "sky", "person", "other"]


def _read(library: str) -> dict[str, list[tuple[str, list[int]]]]:
    text = gzip.decompress((DATA / f"{library}.keys.json.gz").read_bytes())
    keys: dict[str, list[tuple[str, list[int]]]] = json.loads(text)
    return keys


KEYS = {library: _read(library) for library in ("hugging_face", "mmsegmentation")}


def by_rule(library: str, name: str) -> dict[str, Tensor]:
    """Return a state dict with a library's own keys, its weights drawn by the rule."""
    keys = KEYS[library][name]
    return {key: torch.from_numpy(reference.tensor(key, shape)) for key, shape in keys}
