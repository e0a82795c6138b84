"""What a model file says of itself: classes, pre-processing, output, licence, origin.

The same keys stand in a YAML card for people and, as JSON, in the ONNX metadata entry
`seg_perception`; a model never travels without them. Source: CONTRACTS "Manifest / card".
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import yaml

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
MAX_SIDE = 8192  # pixels of the input

# What a key may be, where its type alone would not tell people.
WANTED = {
    "classes": "a list of names, in quotes where YAML reads something else",
    "palette": "a list of [red, green, blue], whole numbers",
    "groups": "a mapping from class to group",
    "void_ids": "a list of ids",
    "metrics": "a mapping from name to value",
    "network": "a mapping from field to value",
    "size": "[height, width], whole numbers",
    "scale": "a number such as 0.00392157 for 1/255",
    "mean": "a list of three numbers",
    "std": "a list of three numbers",
    "align_corners": "true or false",
    "crop": "[height, width], whole numbers",
    "stride": "[height, width], whole numbers",
    "multiple": "a whole number of pixels",
}
CHOICES = {
    "layout": ("NCHW", "NHWC"),
    "color": ("RGB", "BGR"),
    "dtype": ("float32", "uint8"),
    "resize": ("stretch", "keep_ratio_pad", "none"),
    "kind": ("logits", "probabilities", "labels", "masks"),
    "interpolation": ("bilinear", "cubic"),
    "final": ("bilinear", "cubic"),
}


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the input: x = (scale * pixel - mean) / std in `color` order.

    With `multiple` the network runs at other sizes than `size`, too: at all whose height and width
    are whole multiples of it.
    """

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
    multiple: int | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the input array in its layout."""
        height, width = self.size
        return (1, 3, height, width) if self.layout == "NCHW" else (1, height, width, 3)

    def check(self) -> None:
        """Raise ManifestError for values that no network could be fed with."""
        if not all(1 <= side <= MAX_SIDE for side in self.size):
            raise ManifestError(
                f"input size {self.size} must be [height, width], each above 0 and up to {MAX_SIDE}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or 0 in self.std:
            raise ManifestError("input mean and std are three numbers each, std never 0")
        if not (0 <= self.pad_value <= 255 and float(self.pad_value).is_integer()):
            raise ManifestError(
                f"pad_value {self.pad_value} must be a whole number 0..255: the padding is part of "
                "an image of bytes, before normalisation"
            )
        self._check_multiple()
        changed = self.scale != 1 or any(self.mean) or self.std != (1, 1, 1)
        if self.dtype == "uint8" and changed:
            raise ManifestError(
                "input dtype uint8 means the image's bytes as they are: leave scale, mean and "
                "std out, or say dtype: float32"
            )

    def _check_multiple(self) -> None:
        if self.multiple is None:
            return
        if self.multiple < 1 or any(side % self.multiple for side in self.size):
            raise ManifestError(
                f"input size {list(self.size)} must be whole multiples of multiple {self.multiple}"
            )
        if self.resize != "stretch":
            raise ManifestError(
                f"input multiple is for resize: stretch, not {self.resize}, whose images keep "
                "their shape: leave it out"
            )


@dataclass(frozen=True)
class OutputSpec:
    """What comes out of the network and how it grows to the image's size.

    Of kind masks a sigmoid follows the interpolation: one mask a class or, with `class_logits`, the
    name of a second output (1,Q,K+1), one a query. There the softmax of a query's logits, without
    the last entry, "no class", says how much of its mask is of each class.
    """

    kind: str = "logits"
    layout: str = "NCHW"
    align_corners: bool = False
    interpolation: str = "bilinear"
    name: str | None = None
    class_logits: str | None = None

    @property
    def is_of_queries(self) -> bool:
        """Whether the network gives masks of queries and, next to them, their classes."""
        return self.class_logits is not None

    def check(self) -> None:
        """Raise ManifestError for values that do not go together."""
        if self.kind == "labels" and self.interpolation != "bilinear":
            raise ManifestError(
                "output kind labels is not interpolated, each pixel takes the nearest: leave "
                "interpolation out"
            )
        if not self.is_of_queries:
            return
        if self.kind != "masks":
            raise ManifestError(
                f"output class_logits is of kind masks, not {self.kind}: leave it out, or say "
                "kind: masks"
            )
        if self.name is None or self.name == self.class_logits:
            raise ManifestError(
                f"output class_logits is {self.class_logits!r} and output name {self.name!r}: name "
                "the masks' output, another one"
            )
        if self.interpolation != "bilinear":
            raise ManifestError(
                "masks with class_logits are interpolated bilinearly: leave interpolation out"
            )


@dataclass(frozen=True)
class OfficialSpec:
    """How the official code brings an image to the network in tests, and its scores back.

    The image is resized until its short side is `short` (0: not at all), or its long side `long`
    where that comes first (0: no limit); then up to whole multiples of `multiple`; then padded to
    whole multiples of `pad_multiple`. With `crop` (height, width) windows slide by `stride`.
    """

    short: int = 0
    long: int = 0
    multiple: int = 1
    pad_multiple: int = 1
    pad_color: tuple[int, ...] = (0, 0, 0)  # in the network's colour order
    crop: tuple[int, int] | None = None
    stride: tuple[int, int] = (0, 0)
    final: str = "bilinear"  # or cubic: from what the network saw to the image

    def check(self) -> None:
        """Raise ManifestError for values that no image could be tested with."""
        multiples, crop = (self.multiple, self.pad_multiple), self.crop or ()
        if min(self.short, self.long) < 0 or min(multiples) < 1:
            raise ManifestError(
                "official short and long must not be negative, multiple and pad_multiple at least 1"
            )
        if max(self.short, self.long, *multiples, *crop) > MAX_SIDE:
            raise ManifestError(
                f"official short, long, multiple, pad_multiple and crop are up to {MAX_SIDE} pixels"
            )
        if len(self.pad_color) != 3 or not all(0 <= part <= 255 for part in self.pad_color):
            raise ManifestError(
                f"official pad_color {list(self.pad_color)} must be three values 0..255"
            )
        if self.crop and not all(0 < s <= c for s, c in zip(self.stride, self.crop, strict=True)):
            raise ManifestError(
                f"official stride {self.stride} must be above 0 and up to crop {self.crop}"
            )


@dataclass(frozen=True)
class Manifest:
    """The whole card; only `classes`, `input` and `output` are required.

    `network` holds the fields of the architecture's config that are not those of its official
    variant for the data set.
    """

    classes: tuple[str, ...]
    input: InputSpec
    output: OutputSpec
    name: str = ""
    official: OfficialSpec | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    void_ids: tuple[int, ...] = ()
    architecture: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
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
        if card.get("official") is not None:
            values["official"] = _section(OfficialSpec, card["official"], "official")
        manifest = _section(cls, values, "manifest")
        manifest._check()
        return manifest

    @classmethod
    def from_card(cls, path: Path) -> "Manifest":
        """Read a YAML card; ManifestError names the file and what is wrong with it."""
        try:
            return cls.from_dict(yaml.safe_load(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"the card {path} cannot be read: {error}") from error
        except yaml.YAMLError as error:
            raise ManifestError(f"the card {path} is no YAML: {error}") from error
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error

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
        if any(not 0 <= part <= 255 for colour in self.palette or () for part in colour):
            raise ManifestError("palette holds a value outside 0..255")
        for section in (self.input, self.output, self.official):
            for key, choices in CHOICES.items():
                value = getattr(section, key, choices[0])
                if value not in choices:
                    raise ManifestError(f"{key} {value!r} must be one of {', '.join(choices)}")
        self.input.check()
        self.output.check()
        if self.official:
            self.official.check()
            if self.output.interpolation != "bilinear":
                raise ManifestError(
                    f"official rules resize scores bilinearly to what the network saw, and output "
                    f"interpolation is {self.output.interpolation}: leave one of them out (the "
                    "last resize is official final)"
                )


Section = TypeVar("Section", Manifest, InputSpec, OutputSpec, OfficialSpec)


def _section(kind: type[Section], values: Any, where: str) -> Section:
    """Build a dataclass from a mapping: each key known and of its type, lists become tuples."""
    if not isinstance(values, Mapping):
        raise ManifestError(f"{where} is a mapping of keys, not {values!r}")
    hints = get_type_hints(kind)
    unknown = sorted(map(str, set(values) - set(hints)))
    if unknown:
        raise ManifestError(f"{where} has unknown keys {unknown}; known are {', '.join(hints)}")
    frozen = {key: _frozen(value) for key, value in values.items()}
    for key, value in frozen.items():
        if not _fits(value, hints[key]):
            wanted = WANTED.get(key) or {float: "a number", str: "text"}.get(hints[key], "a name")
            raise ManifestError(f"{where} has {key}: {values[key]!r}; give {wanted}")
    try:
        return kind(**frozen)
    except TypeError as error:
        raise ManifestError(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML or JSON is of the type `hint`; numbers are finite."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is UnionType:
        return any(_fits(value, part) for part in parts)
    if kind is tuple and isinstance(value, tuple):
        wanted = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(wanted) == len(value) and all(map(_fits, value, wanted))
    if kind is Mapping and isinstance(value, Mapping):
        return all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if hint in (int, float) and not isinstance(value, bool):
        return isinstance(value, (int, hint)) and math.isfinite(value)
    return hint is Any or (kind is None and isinstance(value, hint))
