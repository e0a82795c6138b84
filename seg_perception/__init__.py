"""Semantic segmentation for ROS 2: camera images in, label images and occupancy out."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_perception.errors import SegPerceptionError
    from seg_perception.segmenter import Segmentation, Segmenter

__all__ = ["SegPerceptionError", "Segmentation", "Segmenter"]
__version__ = "0.1.0"

# ONNX Runtime reads this when it is imported, and every module of ours is imported after this one.
# Without it, its Linux wheels look up a collector on the Internet and keep a device id in HOME.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "SegPerceptionError": "seg_perception.errors",
    "Segmentation": "seg_perception.segmenter",
    "Segmenter": "seg_perception.segmenter",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
