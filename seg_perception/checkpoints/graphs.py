"""Changes of ONNX graphs that keep their meaning: fixed sizes, fewer outputs, constant weights."""

from collections.abc import Callable, Iterator, Mapping, MutableSequence
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from seg_perception.decoding.outputs import Shape
from seg_perception.errors import ModelError
from seg_perception.runtimes.agreement import Port
from seg_perception.runtimes.onnx_file import OnnxFile

OPSET = 17  # of every graph that is made here
MAX_WEIGHTS = 2**31 - 2**24  # bytes; a protobuf message holds up to 2 GiB


def read_graph(path: Path) -> ModelProto:
    """Read an ONNX file with the external data of its folder; ModelError says why not."""
    file = OnnxFile(path)
    file.check_external_data()
    if file.tensor_bytes() > MAX_WEIGHTS:
        raise ModelError(
            f"{path} holds {file.tensor_bytes() / 1e9:.1f} GB of weights; one self-describing file "
            "holds up to 2 GB: export it in float16 inside, or take a smaller network"
        )
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's and onnx's own types
        raise ModelError(f"{path} cannot be read: {error}; export it again") from error


def input_ports(graph: GraphProto) -> list[Port]:
    """Return the inputs that must be fed: those without an initializer."""
    given = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [_port(value) for value in graph.input if value.name not in given]


def output_ports(graph: GraphProto) -> list[Port]:
    """Return all outputs."""
    return [_port(value) for value in graph.output]


def pin_input(graph: GraphProto, name: str, shape: tuple[int, ...]) -> None:
    """Give the input `name` a fixed shape; shapes that followed from a free one are forgotten."""
    value = next(v for v in graph.input if v.name == name)
    if _port(value).shape == shape:
        return
    tensor = value.type.tensor_type
    value.CopyFrom(helper.make_tensor_value_info(name, tensor.elem_type, shape))
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def widen(graph: GraphProto) -> None:
    """Let inputs and outputs of float16 be float32: a Cast each, exact but for the input's."""
    given = {t.name for t in graph.initializer}
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16 and value.name not in given:
            narrow = f"{value.name}_float16"
            for node in graph.node:
                _rename_inputs(node, value.name, narrow)
            cast = helper.make_node("Cast", [value.name], [narrow], to=TensorProto.FLOAT16)
            graph.node.insert(0, cast)
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            narrow = f"{value.name}_float16"
            for node in graph.node:
                _rename_inputs(node, value.name, narrow)
                node.output[:] = [narrow if n == value.name else n for n in node.output]
            cast = helper.make_node("Cast", [narrow], [value.name], to=TensorProto.FLOAT)
            graph.node.append(cast)
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    changed = {value.name for value in (*graph.input, *graph.output)}
    _keep(graph.value_info, lambda value: value.name not in changed)  # types of before


def keep_outputs(graph: GraphProto, names: list[str]) -> None:
    """Drop every other output and the nodes that only they need: a runtime would compute them."""
    producers = {output: node for node in graph.node for output in node.output}
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        value = waiting.pop()
        if value not in needed and value in producers:
            waiting += reads(producers[value])
        needed.add(value)
    _keep(graph.output, lambda value: value.name in names)
    _keep(graph.node, lambda node: not needed.isdisjoint(node.output))
    _keep(graph.initializer, lambda tensor: tensor.name in needed)


def fix_weights(model: ModelProto) -> None:
    """Make constant nodes initializers, and initializers no inputs: all weights are constants.

    A runtime folds only constants, and the hash of the weights covers initializers.
    """
    graph = model.graph
    constants = {n.output[0]: n.attribute[0].t for n in graph.node if _is_constant(n)}
    for name, tensor in constants.items():
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = name
    _keep(graph.node, lambda node: not _is_constant(node))
    fed = {port.name for port in input_ports(graph)}
    _keep(graph.input, lambda value: value.name in fed)
    model.ir_version = max(model.ir_version, 4)  # before it, initializers had to be inputs


def set_output_shapes(graph: GraphProto, shapes: Mapping[str, Shape | None]) -> None:
    """Write down the shape of each output, by its name."""
    for value in graph.output:
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))


def set_metadata(model: ModelProto, key: str, text: str) -> None:
    """Set one metadata entry, whether or not it was there."""
    _keep(model.metadata_props, lambda entry: entry.key != key)
    model.metadata_props.add(key=key, value=text)


def reads(node: NodeProto) -> Iterator[str]:
    """Yield every name that a node, or a graph inside it, reads."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (v.name for v in graph.output)
            for inner in graph.node:
                yield from reads(inner)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes that are given, by their names."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def follows_from_shapes(graph: GraphProto, name: str) -> bool:
    """Return whether a tensor is the same for every image: made of constants and of shapes."""
    producers = {output: node for node in graph.node for output in node.output}
    fed = {port.name for port in input_ports(graph)}
    waiting, done = [name], {""}
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if name in fed or (node is not None and node.op_type.startswith("Random")):
            return False
        if node is not None and name not in done and node.op_type not in ("Shape", "Size"):
            waiting += reads(node)
        done.add(name)
    return True


def _port(value: ValueInfoProto) -> Port:
    if value.type.WhichOneof("value") != "tensor_type":
        return Port(value.name, str(value.type.WhichOneof("value")), None)
    tensor = value.type.tensor_type
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = f"type {tensor.elem_type}"
    if not tensor.HasField("shape"):
        return Port(value.name, dtype, None)
    # Exporters write 0 or -1, a name or nothing for what is not known before run time.
    dims = [d.dim_value if d.dim_value > 0 else d.dim_param or None for d in tensor.shape.dim]
    return Port(value.name, dtype, tuple(dims))


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]


def _rename_inputs(node: NodeProto, old: str, new: str) -> None:
    """Let a node, and the graphs inside it, read another tensor."""
    node.input[:] = [new if name == old else name for name in node.input]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename_inputs(inner, old, new)
            for value in graph.output:
                value.name = new if value.name == old else value.name


def _keep(repeated: MutableSequence[Any], wanted: Callable[[Any], bool]) -> None:
    """Delete every entry of a repeated field that is not wanted."""
    for i in reversed(range(len(repeated))):
        if not wanted(repeated[i]):
            del repeated[i]
