"""What a model file says of itself: classes, pre-processing, output, licence, origin.

The same keys stand in a YAML card for people and, as JSON, in the ONNX metadata entry
`seg_perception`; a model never travels without them. Source: CONTRACTS "Manifest / card".
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from seg_perception.errors import ManifestError
from seg_perception.labels import (
    GROUP_COLOURS,
    GROUPS,
    UNKNOWN,
    LabelSpace,
    distinct_colours,
)

METADATA_KEY = "seg_perception"
MAX_CLASSES = 255  # ids are uint8 and 255 means unknown

CHOICES = {
    "layout": ("NCHW", "NHWC"),
    "color": ("RGB", "BGR"),
    "dtype": ("float32", "uint8"),
    "resize": ("stretch", "keep_ratio_pad", "none"),
    "kind": ("logits", "probabilities", "labels"),
}


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the input: x = (scale * pixel - mean) / std in `color` order."""

    size: tuple[int, int]  # height, width
    layout: str = "NCHW"
    color: str = "RGB"
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "stretch"
    pad_value: float = 0.0
    name: str | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the input array in its layout."""
        height, width = self.size
        return (1, 3, height, width) if self.layout == "NCHW" else (1, height, width, 3)


@dataclass(frozen=True)
class OutputSpec:
    """What comes out of the network and how it grows to the picture's size."""

    kind: str = "logits"
    layout: str = "NCHW"
    align_corners: bool = False
    name: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The whole card; only `classes`, `input` and `output` are required."""

    classes: tuple[str, ...]
    input: InputSpec
    output: OutputSpec
    name: str = ""
    palette: tuple[tuple[int, int, int], ...] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    void_ids: tuple[int, ...] = ()
    architecture: str = ""
    dataset: str = ""
    license: str = ""
    attribution: str = ""
    source: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @classmethod
    def from_dict(cls, card: Any) -> "Manifest":
        """Build and check a manifest; ManifestError names the key and what it may be."""
        if not isinstance(card, Mapping):
            raise ManifestError(f"a manifest is a mapping of keys, not {type(card).__name__}")
        missing = [key for key in ("classes", "input", "output") if key not in card]
        if missing:
            raise ManifestError(f"manifest lacks the required keys {missing}")
        values = dict(card)
        values["input"] = _section(InputSpec, card["input"], "input")
        values["output"] = _section(OutputSpec, card["output"], "output")
        manifest = _section(cls, values, "manifest")
        manifest._check()
        return manifest

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, where: str) -> "Manifest":
        """Read the manifest from an ONNX file's metadata; `where` names the file in errors."""
        if METADATA_KEY not in metadata:
            raise ManifestError(
                f"{where} holds no manifest, so its classes and pre-processing are unknown; "
                f"add one with: seg-perception import {where} --manifest CARD.yaml -o OUT.onnx"
            )
        try:
            return cls.from_dict(json.loads(metadata[METADATA_KEY]))
        except json.JSONDecodeError as error:
            raise ManifestError(f"the manifest in {where} is damaged: {error}") from error
        except ManifestError as error:
            raise ManifestError(f"{where}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, ready for JSON or YAML."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def to_json(self) -> str:
        """Return the text of the ONNX metadata entry."""
        return json.dumps(self.to_dict())

    def label_space(self, space: str = "model") -> LabelSpace:
        """Return ids, names and colours of `model` classes or planner `groups`."""
        if space not in ("model", "groups"):
            raise ManifestError(f"label_space {space!r} is neither 'model' nor 'groups'")
        void = {i for i in self.void_ids if i < len(self.classes)}
        lut = np.full(256, UNKNOWN, np.uint8)
        colours = np.zeros((256, 3), np.uint8)
        for i, name in enumerate(self.classes):
            if i not in void:
                lut[i] = i if space == "model" else GROUPS.index(self.groups.get(name, "other"))
        if space == "groups":
            colours[: len(GROUPS)] = GROUP_COLOURS
            return LabelSpace(GROUPS, colours, lut)
        count = len(self.classes)
        colours[:count] = self.palette if self.palette is not None else distinct_colours(count)
        names = tuple("" if i in void else name for i, name in enumerate(self.classes))
        return LabelSpace(names, colours, lut)

    def _check(self) -> None:
        count = len(self.classes)
        if not 1 <= count <= MAX_CLASSES:
            raise ManifestError(f"{count} classes: a label image holds 1 to {MAX_CLASSES}")
        doubled = sorted({c for c in self.classes if self.classes.count(c) > 1})
        if doubled:
            raise ManifestError(f"class names must differ; given twice: {doubled}")
        if self.palette is not None and len(self.palette) != count:
            raise ManifestError(f"palette has {len(self.palette)} colours for {count} classes")
        for name, group in self.groups.items():
            if name not in self.classes:
                raise ManifestError(f"groups names {name!r}, which is no class")
            if group not in GROUPS:
                raise ManifestError(
                    f"groups maps {name!r} to {group!r}; choose one of {', '.join(GROUPS)}"
                )
        if any(not 0 <= i <= 255 for i in self.void_ids):
            raise ManifestError(f"void_ids {self.void_ids} must lie in 0..255")
        if min(self.input.size) < 1 or len(self.input.size) != 2:
            raise ManifestError(f"input size {self.input.size} must be [height, width] above 0")
        if len(self.input.mean) != 3 or len(self.input.std) != 3 or 0 in self.input.std:
            raise ManifestError("input mean and std are three numbers each, std never 0")
        for section in (self.input, self.output):
            for key, choices in CHOICES.items():
                value = getattr(section, key, choices[0])
                if value not in choices:
                    raise ManifestError(f"{key} {value!r} must be one of {', '.join(choices)}")


Section = TypeVar("Section", Manifest, InputSpec, OutputSpec)


def _section(kind: type[Section], values: Any, where: str) -> Section:
    """Build a dataclass from a mapping: unknown keys are errors, lists become tuples."""
    if not isinstance(values, Mapping):
        raise ManifestError(f"{where} is a mapping of keys, not {values!r}")
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ManifestError(f"{where} has unknown keys {unknown}; known are {', '.join(known)}")
    try:
        return kind(**{key: _frozen(value) for key, value in values.items()})
    except TypeError as error:
        raise ManifestError(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
