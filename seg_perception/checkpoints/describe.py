"""The card of an ONNX network: what a person gave, what the file says, and what its graph shows.

What none of them says is asked for: it stands as `?` in a draft of the card.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from onnx import ModelProto

from seg_perception.cards import card_of_classes
from seg_perception.checkpoints import graphs, transformers_export, ultralytics
from seg_perception.errors import ManifestError
from seg_perception.files import atomic_write
from seg_perception.manifest import Manifest
from seg_perception.runtimes.agreement import LABEL_DTYPES, Port

UNKNOWN = "?"
SECTIONS = ("input", "output")
REQUIRED = ("classes", *SECTIONS)


class Described(NamedTuple):
    """A whole manifest, who says what is in it, and lines for people."""

    manifest: Manifest
    dialect: str
    notes: tuple[str, ...] = ()


def describe(
    model: ModelProto, network: Path, card: Path | None, size: tuple[int, int] | None, out: Path
) -> Described:
    """Return the manifest of a network: a whole `card` alone decides, a part of one comes first.

    `size` (height, width) fixes free sides. Raises ManifestError where something is not known,
    after writing a draft of the card next to `out`; ModelError for networks of another task.
    """
    given = _read(card) if card is not None else {}
    if card is not None and set(REQUIRED) <= set(given):
        return Described(Manifest.from_card(card), "onnx")
    dialect, said = _said(model, network)
    shown = shown_by(model)
    merged = _merged(_merged(shown, said), given)
    if size is not None:
        merged["input"]["size"] = list(size)
    known = card_of_classes(merged["classes"])
    notes = [f"described by {dialect}: {len(merged['classes'])} classes"]
    if known is not None:
        merged = _merged(known, merged)
        notes.append(f"classes are those of {known['dataset']}: palette and groups are its")
    elif "groups" not in merged:
        notes.append("groups are not known: every class is in the group other, until a card says")
    open_keys = list(_open(merged))
    if open_keys:
        raise ManifestError(_draft(merged, open_keys, model, network, out))
    return Described(Manifest.from_dict(merged), dialect, tuple(notes))


def _said(model: ModelProto, network: Path) -> tuple[str, dict[str, Any]]:
    """Return whose export it is, and what its metadata or the files next to it say."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if ultralytics.is_ultralytics(metadata):
        return "ultralytics", ultralytics.card_of(metadata, str(network))
    config = transformers_export.read_config(network.parent)
    if config is not None:
        return "transformers", transformers_export.card_of(config, network.parent, str(network))
    return "onnx", {}


def shown_by(model: ModelProto) -> dict[str, Any]:
    """Return what the graph shows of its card; `?` where it does not."""
    inputs, outputs = graphs.input_ports(model.graph), graphs.output_ports(model.graph)
    images = [port for port in inputs if port.shape is None or len(port.shape) == 4] or inputs
    card: dict[str, Any] = {"classes": UNKNOWN, "input": _input(images), "output": {}}
    if len(inputs) > 1:
        card["input"]["name"] = images[0].name if len(images) == 1 else UNKNOWN
    names = [port.name for port in outputs]
    if set(transformers_export.QUERIES) <= set(names):
        masks, logits = (outputs[names.index(n)] for n in transformers_export.QUERIES)
        card["output"] = {"kind": "masks", "name": masks.name, "class_logits": logits.name}
        card["input"] |= {"color": "RGB", **transformers_export.normalisation()}
        card["classes"] = _unnamed(logits.shape, 2, less=1)
        return card
    if len(outputs) > 1:
        card["output"] = {"kind": UNKNOWN, "name": UNKNOWN}
        return card
    card["output"], card["classes"] = _output(outputs[0], card["input"])
    return card


def _input(ports: list[Port]) -> dict[str, Any]:
    port = ports[0]
    shape = port.shape or (None,) * 4
    layout = "NHWC" if len(shape) == 4 and shape[3] == 3 and shape[1] != 3 else "NCHW"
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    free = not all(isinstance(side, int) for side in sides)
    is_bytes = port.dtype == "uint8"
    spec: dict[str, Any] = {
        "size": UNKNOWN if free else list(sides),
        "layout": layout,
        "color": UNKNOWN,
        "dtype": "uint8" if is_bytes else "float32",
        "resize": UNKNOWN,
    }
    return spec if is_bytes else {**spec, "scale": UNKNOWN, "mean": UNKNOWN, "std": UNKNOWN}


def _output(port: Port, spec: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the card's output and classes, as far as one output shows them."""
    if port.dtype in LABEL_DTYPES:
        return {"kind": "labels"}, UNKNOWN
    output: dict[str, Any] = {"kind": UNKNOWN, "layout": UNKNOWN, "align_corners": UNKNOWN}
    shape, size = port.shape, spec["size"]
    if shape is None or len(shape) != 4 or size == UNKNOWN:
        return output, UNKNOWN
    for layout, axis, sides in (("NCHW", 1, shape[2:]), ("NHWC", 3, shape[1:3])):
        whole = all(isinstance(side, int) for side in sides)
        if whole and int(sides[0] or 0) * size[1] == int(sides[1] or 0) * size[0]:
            output["layout"] = layout
            if list(sides) == size:
                del output["align_corners"]  # nothing grows
            return output, _unnamed(shape, axis)
    return output, UNKNOWN


def _unnamed(shape: Any, axis: int, *, less: int = 0) -> Any:
    count = shape[axis] if shape is not None and len(shape) > axis else None
    return [UNKNOWN] * (count - less) if isinstance(count, int) else UNKNOWN


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both cards as one; what `above` says wins, key by key of input and output."""
    sections = {k: {**(below.get(k) or {}), **(above.get(k) or {})} for k in SECTIONS}
    return {**below, **above, **sections}


def _open(card: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that nothing says."""
    for key, value in card.items():
        if key in SECTIONS:
            yield from (f"{key}.{name}" for name in _open(value))
        elif value == UNKNOWN or (isinstance(value, list) and UNKNOWN in value):
            yield key


def _draft(
    card: Mapping[str, Any], keys: list[str], model: ModelProto, network: Path, out: Path
) -> str:
    """Write a draft of the card next to `out`, and return what is missing and what to do."""
    path = out.with_name(f"{out.stem}.card.yaml")
    missing = f"{network} does not say {', '.join(keys)}"
    if path.exists():
        return f"{missing}; fill in {path}, which is there, and give it with --manifest {path}"
    ports = [f"#   {port}" for port in graphs.input_ports(model.graph)]
    ports += [f"#   gives {port}" for port in graphs.output_ports(model.graph)]
    text = yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True, default_flow_style=None)
    lines = (
        f"# Draft of the card of {network.name}: replace each ? and give it with --manifest.",
        "# docs/card.md explains every key. The network takes and gives:",
        *ports,
    )
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join((*lines, text)), "utf-8")
    return f"{missing}; a draft of its card is {path}: replace each ? and give it with --manifest"


def _read(card: Path) -> dict[str, Any]:
    """Return a card, whole or in part, as a mapping; ManifestError for what is none."""
    try:
        content = yaml.safe_load(card.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        Manifest.from_card(card)  # says what is wrong
        raise
    if not isinstance(content, dict):
        raise ManifestError(f"{card}: a card is a mapping of keys, not {type(content).__name__}")
    wrong = [key for key in SECTIONS if not isinstance(content.get(key, {}), dict)]
    if wrong:
        raise ManifestError(f"{card}: {wrong[0]} is a mapping of keys")
    return content
