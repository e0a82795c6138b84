"""Where an ONNX graph ends in steps that our decoders do exactly: cut there, or the reason why not.

A tail is a chain of operators from class scores to the output: a Resize to the input's size, one
activation that keeps the order of classes, ArgMax over the classes, and moves that change no value.
Every attribute is judged, so that what only looks like a tail is left whole.
Source: ONNX operator definitions of Resize 11-19, Softmax 1-13, ArgMax 1-13.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from seg_perception.checkpoints import graphs, resizes
from seg_perception.checkpoints.graphs import attributes_of
from seg_perception.checkpoints.resizes import LeftWholeError
from seg_perception.manifest import Manifest, OutputSpec
from seg_perception.runtimes.agreement import LAYOUTS

MOVES = ("Cast", "Identity", "Squeeze", "Transpose", "Unsqueeze")
ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
STEPS = (*MOVES, *ACTIVATIONS, "ArgMax", "Resize", "Upsample")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
NARROW = (TensorProto.BOOL, TensorProto.INT8)  # types that do not hold every class id
OF_CLASSES = {"NCHW": 1, "NHWC": 3}  # layout -> axis
ONNX = ("", "ai.onnx")  # domains of the standard operators

Arrays = Mapping[str, NDArray[Any]]
Evaluate = Callable[[Sequence[str]], Arrays]  # values of tensors for one image


class Tail(NamedTuple):
    """A model without its tail, and what the decoder does in its place.

    `operators` were removed, in the order in which they ran. `scores` and `full` name the tensors
    of the whole graph that hold the scores where it is cut and at the input's size, in
    `output.layout`.
    """

    model: ModelProto
    output: OutputSpec
    operators: tuple[str, ...]
    scores: str
    full: str


@dataclass
class _Walk:
    """What is known of the tensor that the walk along the tail has reached.

    `axes[i]` is the axis of the scores that dimension i shows, None where it is an added one.
    """

    opset: int
    axes: list[int | None] = field(default_factory=lambda: [0, 1, 2, 3])
    classes: int | None = None  # the scores' axis of the classes, once an operator shows it
    activation: str = ""
    is_labels: bool = False


def cut(model: ModelProto, manifest: Manifest, evaluate: Evaluate) -> Tail | str:
    """Return the model cut before its tail, or the reason why it is left whole.

    `model` has fixed sizes, and the outputs that the manifest chooses. `evaluate` gives the values
    of its tensors for one image. The model that comes in is not changed.
    """
    try:
        return _cut(model, manifest, evaluate)
    except LeftWholeError as reason:
        return str(reason)


def _cut(model: ModelProto, manifest: Manifest, evaluate: Evaluate) -> Tail:
    graph, spec = model.graph, manifest.output
    output = spec.name or graph.output[0].name
    chain = list(_chain(graph, output))
    _check_readers(graph, chain, output)
    scores = chain[0].input[0]
    values = _values(graph, chain, evaluate)
    walk = _Walk(opset=_opset(model))
    way = spec
    for node in chain:
        if node.op_type == "Resize":
            way = resizes.way(node, values, walk.opset, spec)
        else:
            _step(node, walk, values)
    layout = _layout(walk, spec, values[scores].shape)
    _check_size(chain, values, layout, manifest.input.size)
    kind = _kind(walk, spec, _origin(graph, scores))
    full = chain[0].output[0] if chain[0].op_type == "Resize" else scores
    shorter, name = _without(model, output, scores, values[scores])
    changed = replace(way, kind=kind, layout=layout, name=spec.name and name)
    return Tail(shorter, changed, tuple(node.op_type for node in chain), scores, full)


def _chain(graph: GraphProto, output: str) -> Iterator[NodeProto]:
    """Yield the operators of the tail in the order in which they run."""
    producers = {name: node for node in graph.node for name in node.output}
    chain: list[NodeProto] = []
    node = producers.get(output)
    ends_in = node.op_type if node is not None else "its input"
    while node is not None and node.domain in ONNX and node.op_type in STEPS:
        chain.insert(0, node)
        if node.op_type in ("Resize", "Upsample"):
            break
        node = producers.get(node.input[0])
    while chain and chain[0].op_type in MOVES:  # they cost nothing before the decoder
        chain.pop(0)
    if not chain:
        raise LeftWholeError(f"it ends in {ends_in}, with no Resize, activation or ArgMax to cut")
    if chain[0].op_type == "Upsample":
        raise LeftWholeError("Upsample places samples in another way than the decoders")
    yield from chain


def _check_readers(graph: GraphProto, chain: Sequence[NodeProto], output: str) -> None:
    """Raise LeftWholeError where something else needs a tensor of the tail."""
    inside = {node.output[0] for node in chain}
    given = {value.name for value in graph.output}
    for name in (chain[0].input[0], *sorted(inside - {output})):
        if name in given:
            raise LeftWholeError(f"{name!r} inside the tail is an output too: choose that one")
    for node in graph.node:
        shared = inside.intersection(graphs.reads(node))
        if shared and not any(node is other for other in chain):
            raise LeftWholeError(f"{shared.pop()!r} inside the tail is also read by {node.op_type}")
    for node in chain:
        for name in node.input[1:]:
            if not graphs.follows_from_shapes(graph, name):
                raise LeftWholeError(f"{node.op_type} reads {name!r}, which follows the image")


def _values(graph: GraphProto, chain: Sequence[NodeProto], evaluate: Evaluate) -> Arrays:
    """Return the tensors that the tail reads and writes, for one image."""
    stored = {t.name: t for t in graph.initializer}
    names = {name for node in chain for name in (*node.input, *node.output) if name}
    known = {name: numpy_helper.to_array(stored[name]) for name in names & set(stored)}
    values = {**evaluate(sorted(names - set(known))), **known}
    if values[chain[0].input[0]].ndim != 4 or values[chain[0].input[0]].dtype.kind != "f":
        given = values[chain[0].input[0]]
        raise LeftWholeError(f"{chain[0].op_type} takes {given.dtype} {given.shape}, no scores")
    return values


def _step(node: NodeProto, walk: _Walk, values: Arrays) -> None:
    """Follow one operator that is no Resize."""
    given = values[node.input[0]].shape
    attributes = attributes_of(node)
    match node.op_type:
        case "Cast":
            _check_cast(attributes["to"], walk)
        case "Transpose":
            order = attributes.get("perm", range(len(given))[::-1])
            walk.axes = [walk.axes[i] for i in order]
        case "Squeeze":
            dropped = _axes(node, attributes, values, len(given))
            dropped = dropped or [i for i, n in enumerate(given) if n == 1]
            walk.axes = [axis for i, axis in enumerate(walk.axes) if i not in dropped]
        case "Unsqueeze":
            for i in sorted(_axes(node, attributes, values, len(values[node.output[0]].shape))):
                walk.axes.insert(i, None)
        case "ArgMax":
            _argmax(attributes, walk)
        case "Softmax" | "LogSoftmax" | "Sigmoid":
            _activate(node.op_type, attributes, walk, given)


def _check_cast(to: int, walk: _Walk) -> None:
    if (to in NARROW) if walk.is_labels else (to not in FLOATS):
        what = "labels" if walk.is_labels else "scores"
        raise LeftWholeError(f"Cast makes {what} of type {TensorProto.DataType.Name(to)}")


def _axes(node: NodeProto, attributes: Mapping[str, Any], values: Arrays, rank: int) -> list[int]:
    """Return the axes of Squeeze or Unsqueeze, an attribute before opset 13 and then an input."""
    named = len(node.input) > 1 and node.input[1]
    axes = values[node.input[1]].tolist() if named else attributes.get("axes", [])
    return [int(axis) % rank for axis in axes]


def _argmax(attributes: Mapping[str, Any], walk: _Walk) -> None:
    if walk.is_labels:
        raise LeftWholeError("ArgMax follows another ArgMax")
    if attributes.get("select_last_index", 0):
        raise LeftWholeError("ArgMax takes the last of equal scores (select_last_index)")
    i = attributes.get("axis", 0) % len(walk.axes)
    _set_classes(walk, walk.axes[i], "ArgMax")
    walk.is_labels = True
    walk.axes[i : i + 1] = [None] if attributes.get("keepdims", 1) else []


def _activate(name: str, attributes: Mapping[str, Any], walk: _Walk, given: Sequence[int]) -> None:
    if walk.is_labels or walk.activation:
        raise LeftWholeError(f"{name} follows {'ArgMax' if walk.is_labels else walk.activation}")
    walk.activation = name
    if name == "Sigmoid":
        return
    i = attributes.get("axis", -1 if walk.opset >= 13 else 1) % len(given)
    if walk.opset < 13 and any(n != 1 for n in given[i + 1 :]):  # one softmax over them all
        raise LeftWholeError(f"{name} of opset {walk.opset} runs over axes {i} to {len(given) - 1}")
    _set_classes(walk, walk.axes[i], name)


def _set_classes(walk: _Walk, axis: int | None, name: str) -> None:
    if axis is None or walk.classes not in (None, axis):
        raise LeftWholeError(f"{name} runs over another axis than the classes")
    walk.classes = axis


def _layout(walk: _Walk, spec: OutputSpec, shape: Sequence[int]) -> str:
    """Return the layout of the scores; the walk must end in height before width."""
    if walk.is_labels == (spec.kind != "labels"):
        raise LeftWholeError(f"the card says kind {spec.kind}")
    if not walk.is_labels:
        is_batch = len(walk.axes) == 4 and walk.axes[0] == 0
        axis = walk.axes[OF_CLASSES[spec.layout]] if is_batch else None
        _set_classes(walk, axis, "the card's layout")
    layout = next((x for x in LAYOUTS if OF_CLASSES[x] == walk.classes), None)
    sides = {"NCHW": [2, 3], "NHWC": [1, 2]}
    if layout is None or shape[0] != 1:
        raise LeftWholeError(f"its operators run over another axis than the classes of {shape}")
    if [axis for axis in walk.axes if axis not in (None, 0, walk.classes)] != sides[layout]:
        raise LeftWholeError("it does not end in height before width")
    return layout


def _check_size(
    chain: Sequence[NodeProto], values: Arrays, layout: str, size: tuple[int, int]
) -> None:
    """Raise LeftWholeError where the tail does not work at the input's size, or mixes classes."""
    first = chain[0]
    given, classes = values[first.input[0]].shape, OF_CLASSES[layout]
    full = values[first.output[0]].shape if first.op_type == "Resize" else given
    if (full[0], full[classes]) != (1, given[classes]):
        raise LeftWholeError("Resize changes the batch or the number of classes")
    sides = full[2:] if layout == "NCHW" else full[1:3]
    if sides != size:
        raise LeftWholeError(
            f"its scores become labels or probabilities at {sides[0]}x{sides[1]}, and the input "
            f"is {size[0]}x{size[1]}: decoded at that size they would be others"
        )


def _kind(walk: _Walk, spec: OutputSpec, origin: str) -> str:
    """Return the manifest's kind of the scores before the tail; `origin` is what made them."""
    if origin == "Sigmoid" and spec.kind != "probabilities":
        raise LeftWholeError("a Sigmoid comes before its Resize, and no kind of output says that")
    if origin == "Softmax":
        if walk.activation:
            raise LeftWholeError(f"{walk.activation} follows a Softmax")
        return "probabilities"
    if walk.activation == "Sigmoid":
        return "masks"
    if walk.is_labels or walk.activation:
        return "logits"
    return spec.kind


def _origin(graph: GraphProto, name: str) -> str:
    """Return the operator that makes a tensor, moves left aside."""
    producers = {output: node for node in graph.node for output in node.output}
    node = producers.get(name)
    while node is not None and node.op_type in MOVES:
        node = producers.get(node.input[0])
    return node.op_type if node is not None else ""


def _without(
    model: ModelProto, output: str, scores: str, example: NDArray[Any]
) -> tuple[ModelProto, str]:
    """Return the model whose `output` is replaced by its scores, as float32, and their name."""
    shorter = ModelProto()
    shorter.CopyFrom(model)
    graph, name = shorter.graph, scores
    if example.dtype != np.float32:
        name = f"{scores}_float32"
        graph.node.append(helper.make_node("Cast", [scores], [name], to=TensorProto.FLOAT))
    place = next(value for value in graph.output if value.name == output)
    place.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, example.shape))
    graphs.keep_outputs(graph, [value.name for value in graph.output])
    return shorter, name


def _opset(model: ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ONNX), default=1)
