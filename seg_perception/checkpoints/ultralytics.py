"""What an ONNX file of Ultralytics says of itself in its metadata.

Facts: the exporter writes `task`, `names`, `imgsz` and `description`; images come RGB, divided by
255, with their ratio kept and padded with the value 114. Networks of one class give ids 0 and 1.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from seg_perception.errors import ModelError

PADDING = 114
# Task -> what such a network gives.
OTHERS = {
    "detect": "boxes (detection)",
    "segment": "masks of single objects (instance segmentation)",
    "pose": "key points (pose)",
    "obb": "turned boxes",
    "classify": "one class an image",
    "depth": "distances",
}


def is_ultralytics(metadata: Mapping[str, str]) -> bool:
    """Return whether these are the metadata of an Ultralytics export."""
    return metadata.get("author") == "Ultralytics" and "task" in metadata


def card_of(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return what the metadata say, as keys of a card; ModelError for networks of another task."""
    task = metadata["task"]
    if task != "semantic":
        gives = OTHERS.get(task, f"results of its task {task!r}")
        raise ModelError(
            f"{where} is an Ultralytics export of task {task!r}: it gives {gives}, and no class of "
            "every pixel. Export a semantic network instead, whose name ends in -sem: "
            "YOLO('yolo26n-sem.pt').export(format='onnx')"
        )
    names = _names(metadata, where)
    if len(names) == 1:
        names = ["background", *names]
    described = metadata.get("description", "").replace("Ultralytics", "").split()
    version = metadata.get("version", "of unknown version")
    card: dict[str, Any] = {
        "name": described[0].lower() if described else "ultralytics",
        "classes": names,
        "input": {
            "color": "RGB",
            "scale": 1 / 255,
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "resize": "keep_ratio_pad",
            "pad_value": PADDING,
        },
        "output": {},
        "license": metadata.get("license", ""),
        "source": f"Ultralytics {version}, {' '.join(described) or 'no description'}",
    }
    size = _literal(metadata, "imgsz", where)
    if isinstance(size, Sequence) and len(size) == 2:
        card["input"]["size"] = [int(side) for side in size]
    return card


def _names(metadata: Mapping[str, str], where: str) -> list[str]:
    """Return the names in the order of their ids."""
    names = _literal(metadata, "names", where)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or sorted(names) != list(range(len(names))) or not names:
        raise ModelError(
            f"{where} has the metadata names {str(names)[:80]!r}, which name no classes 0, 1, 2 "
            "...: export it again, or give a card with --manifest"
        )
    return [str(names[i]) for i in range(len(names))]


def _literal(metadata: Mapping[str, str], key: str, where: str) -> Any:
    """Return a value that was written as Python writes it; no code of it is run."""
    text = metadata.get(key, "None")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ModelError(
            f"{where} has the metadata {key} {text[:80]!r}, which cannot be read: export it again, "
            "or give a card with --manifest"
        ) from error
