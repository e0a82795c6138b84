"""What is known of each data set: classes, palette, planner groups, attribution (YAML cards)."""

from importlib import resources
from typing import Any

import yaml

from seg_perception.errors import ManifestError


def load_card(dataset: str) -> dict[str, Any]:
    """Return the manifest keys that a data set decides; raises ManifestError for an unknown one."""
    folder = resources.files(__name__)
    known = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name[-5:] == ".yaml")
    if dataset not in known:
        raise ManifestError(f"no card for data set {dataset!r}; there are {', '.join(known)}")
    card: dict[str, Any] = yaml.safe_load(folder.joinpath(f"{dataset}.yaml").read_text("utf-8"))
    return card
