"""What config.json and preprocessor_config.json next to an ONNX file say, as Optimum writes them.

Facts of the transformers library: `id2label` names the classes; images are RGB, multiplied by
`rescale_factor`, then normalised by `image_mean` and `image_std`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_perception.errors import ModelError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
QUERIES = ("masks_queries_logits", "class_queries_logits")  # names of outputs
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # the library's default for queries
SEMANTIC = ("ForSemanticSegmentation", "ForUniversalSegmentation")
OF_QUERIES = ("MaskFormer", "Mask2Former", "OneFormer", "Eomt")


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the library's config.json of a folder; None where there is none of it."""
    config = _read(folder / CONFIG)
    return config if config is not None and "id2label" in config else None


def card_of(config: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """Return what both files say, as keys of a card; ModelError for networks of another task."""
    architecture = str((config.get("architectures") or ["?"])[0])
    known = architecture.endswith(SEMANTIC) or architecture.startswith(OF_QUERIES)
    if architecture != "?" and not known:
        raise ModelError(
            f"{where} is an export of {architecture}, as {folder / CONFIG} says, which gives no "
            "class of every pixel. Export a network for semantic segmentation instead, one whose "
            "class ends in ForSemanticSegmentation or ForUniversalSegmentation"
        )
    card: dict[str, Any] = {
        "name": Path(str(config.get("_name_or_path") or folder.resolve().name)).name,
        "classes": _classes(config, folder / CONFIG),
        "input": {"color": "RGB", **_preprocessing(folder, architecture)},
        "output": {},
        "source": f"transformers, {architecture}",
    }
    if architecture.endswith("ForSemanticSegmentation"):
        card["output"] = {"kind": "logits", "align_corners": False}
    return card


def _classes(config: Mapping[str, Any], where: Path) -> list[str]:
    labels = config["id2label"]
    ids = sorted(map(int, labels)) if isinstance(labels, dict) and _are_ids(labels) else []
    if not ids or ids != list(range(len(ids))):
        raise ModelError(
            f"{where} has id2label {str(labels)[:80]!r}, which names no classes 0, 1, 2 ...: "
            "correct it, or give a card with --manifest"
        )
    by_id = {int(key): str(name) for key, name in labels.items()}
    return _distinct([by_id[i] for i in ids])


def _are_ids(labels: Mapping[Any, Any]) -> bool:
    return all(str(key).isdecimal() for key in labels)


def _distinct(names: list[str]) -> list[str]:
    """Number the names that are given twice: `door`, `door (2)`."""
    return [n if n not in names[:i] else f"{n} ({i})" for i, n in enumerate(names)]


def _preprocessing(folder: Path, architecture: str) -> dict[str, Any]:
    """Return keys of a card's input; what the file does not say is left out."""
    config = _read(folder / PREPROCESSOR)
    if config is None:
        return normalisation() if architecture.startswith(OF_QUERIES) else {}
    spec: dict[str, Any] = {"mean": [0, 0, 0], "std": [1, 1, 1], "scale": 1}
    if config.get("do_rescale", True):
        spec["scale"] = config.get("rescale_factor", 1 / 255)
    if config.get("do_normalize", True):
        spec["mean"], spec["std"] = config.get("image_mean", "?"), config.get("image_std", "?")
    size = config.get("size")
    if isinstance(size, int) and not architecture.startswith(OF_QUERIES):  # there, a short side
        size = {"height": size, "width": size}
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        spec |= {"size": [size["height"], size["width"]], "resize": "stretch"}
    return spec


def normalisation() -> dict[str, Any]:
    """Return how the library's image processors of query networks prepare an image by default."""
    return {"scale": 1 / 255, "mean": list(MEAN), "std": list(STD), "resize": "stretch"}


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}; repair it, or give a card with --manifest"
        ) from error
    return content if isinstance(content, dict) else None
