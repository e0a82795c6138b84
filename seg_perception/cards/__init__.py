"""What is known of each data set: classes, palette, planner groups, attribution (YAML cards)."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

from seg_perception.errors import ManifestError


def load_card(dataset: str) -> dict[str, Any]:
    """Return the manifest keys that a data set decides; raises ManifestError for an unknown one."""
    folder, known = resources.files(__name__), _known()
    if dataset not in known:
        raise ManifestError(f"no card for data set {dataset!r}; there are {', '.join(known)}")
    card: dict[str, Any] = yaml.safe_load(folder.joinpath(f"{dataset}.yaml").read_text("utf-8"))
    return card


def card_of_classes(classes: Sequence[str]) -> dict[str, Any] | None:
    """Return the card of the data set whose classes are these, in this order; None for others."""
    for dataset in _known():
        card = load_card(dataset)
        if card["classes"] == list(classes):
            return card
    return None


def _known() -> list[str]:
    folder = resources.files(__name__)
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name[-5:] == ".yaml")
