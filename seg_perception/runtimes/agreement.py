"""Whether a manifest and a network agree: every difference, named with the next step."""

from collections.abc import Sequence
from typing import NamedTuple

from seg_perception.decoding.outputs import Shape, agrees, label_axes
from seg_perception.manifest import Manifest

LABEL_DTYPES = ("uint8", "int32", "int64")
LAYOUTS = ("NCHW", "NHWC")


class Port(NamedTuple):
    """An input or output of a network; `shape` is None where not even the rank is known."""

    name: str
    dtype: str
    shape: Shape | None

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype} {_text(self.shape)})"


class Agreement(NamedTuple):
    """The ports that a manifest chooses, None where it is unclear, and every difference.

    `outputs` are the scores or labels and, where the manifest names it, the classes of queries.
    """

    input: Port | None
    outputs: list[Port] | None
    problems: list[str]


def compare(manifest: Manifest, inputs: Sequence[Port], outputs: Sequence[Port]) -> Agreement:
    """Compare a manifest with the ports of a network; what is not known of a shape agrees."""
    problems: list[str] = []
    source = _choose(inputs, manifest.input.name, "input", problems)
    result = _choose(outputs, manifest.output.name, "output", problems)
    if source is not None:
        others = [str(port) for port in inputs if port is not source]
        if others:
            problems.append(
                f"next to the image the network needs {', '.join(others)}, which nothing feeds: "
                "give them initializers or export it without them"
            )
        problems += _input_problems(manifest, source)
    if result is None:
        return Agreement(source, None, problems)
    if manifest.output.is_of_queries:
        classes = _choose(
            outputs, manifest.output.class_logits, "output", problems, key="class_logits"
        )
        if classes is None:
            return Agreement(source, None, problems)
        problems += _query_problems(manifest, result, classes)
        return Agreement(source, [result, classes], problems)
    if manifest.output.kind == "labels":
        problems += _label_problems(result)
    else:
        problems += _score_problems(manifest, result)
    return Agreement(source, [result], problems)


def _choose(
    ports: Sequence[Port],
    name: str | None,
    what: str,
    problems: list[str],
    key: str = "name",
) -> Port | None:
    listed = ", ".join(map(str, ports))
    if name is None and len(ports) == 1:
        return ports[0]
    for port in ports:
        if port.name == name:
            return port
    if name is None:
        problems.append(f"the network has several {what}s, {listed}: say {what}.name")
    else:
        problems.append(f"{what}.{key} is {name!r} but the network's {what}s are {listed}")
    return None


def _input_problems(manifest: Manifest, port: Port) -> list[str]:
    spec, problems = manifest.input, []
    if port.dtype != spec.dtype:
        advice = (
            f"say dtype: {port.dtype}"
            if port.dtype in ("float32", "uint8")
            else "export it with float32 or uint8 input"
        )
        problems.append(
            f"the manifest says input dtype {spec.dtype}, the network takes {port.dtype}: {advice}"
        )
    if port.shape is not None and not agrees(port.shape, spec.shape):
        problems.append(
            f"the manifest says input {spec.shape} ({spec.layout}), the network takes "
            f"{_text(port.shape)}: {_input_advice(manifest, port.shape)}"
        )
    return problems


def _input_advice(manifest: Manifest, shape: Shape) -> str:
    if len(shape) != 4:
        return "export it with one image of four dimensions"
    height, width = manifest.input.size
    layout = next((x for x in LAYOUTS if agrees(shape, _lay_out(x, None, 3, None, None))), None)
    if layout is None:
        return "it is no batch of one image with three channels; export it with that"
    if layout != manifest.input.layout and agrees(shape, _lay_out(layout, 1, 3, height, width)):
        return f"say layout: {layout}"
    if agrees(shape, _lay_out(layout, 1, 3, width, height)):
        return f"size is [height, width]: say [{width}, {height}]"
    if not agrees(shape[:1], (1,)):
        return "export it for one image at a time, or with a dynamic batch"
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    return f"its size is [{', '.join(map(str, sides))}], layout {layout}: say so"


def _score_problems(manifest: Manifest, port: Port) -> list[str]:
    spec, count = manifest.output, len(manifest.classes)
    if port.dtype != "float32":
        advice = "say kind: labels" if port.dtype in LABEL_DTYPES else "export it with float32"
        return [f"output kind {spec.kind} needs float32, the network gives {port}: {advice}"]
    if port.shape is None:
        return []
    if len(port.shape) != 4 or not agrees(port.shape[:1], (1,)):
        return [
            f"output kind {spec.kind} needs scores of one image in four dimensions, the network "
            f"gives {port}: choose another output or export it so"
        ]
    channels = {"NCHW": port.shape[1], "NHWC": port.shape[3]}
    if channels[spec.layout] == count or not isinstance(channels[spec.layout], int):
        return []
    other = next(x for x in LAYOUTS if x != spec.layout)
    advice = (
        f"say output layout: {other}"
        if channels[other] == count
        else "name every channel in classes, in the network's order, or choose another output"
    )
    if spec.kind == "masks":
        advice += "; where they are queries, name the output of their classes in class_logits"
    return [
        f"classes has {count} names, the network gives {channels[spec.layout]} channels "
        f"({port}, layout {spec.layout}): {advice}"
    ]


def _query_problems(manifest: Manifest, masks: Port, classes: Port) -> list[str]:
    """Compare masks (1,Q,h,w) and class logits (1,Q,K+1) with each other and the classes."""
    if [len(port.shape or ()) for port in (masks, classes)] == [3, 4]:
        swapped = f"{masks} looks like class logits and {classes} like masks"
        return [f"{swapped}: swap name and class_logits"]
    problems = []
    for port, rank in ((masks, 4), (classes, 3)):
        if port.dtype != "float32":
            problems.append(f"masks and class_logits need float32, the network gives {port}")
        elif port.shape is not None and not agrees(port.shape, (1, *(None,) * (rank - 1))):
            problems.append(
                f"masks have four dimensions and class_logits three, of one image; the network "
                f"gives {port}: choose another output or export it so"
            )
    if problems or masks.shape is None or classes.shape is None:
        return problems
    count, axis = len(manifest.classes), 1 if manifest.output.layout == "NCHW" else 3
    if not agrees(classes.shape[2:], (count + 1,)):
        problems.append(
            f"classes has {count} names, class_logits {classes} are of "
            f'{_text(classes.shape[2:])} and need one more than names, the last for "no class": '
            "name every class, or export the logits with that entry"
        )
    queries = classes.shape[1]
    if isinstance(queries, int) and not agrees(masks.shape[axis : axis + 1], (queries,)):
        problems.append(
            f"class_logits {classes} tell of {queries} queries, the masks {masks}, layout "
            f"{manifest.output.layout}, of {masks.shape[axis]}: correct the output's layout, or "
            "choose another output"
        )
    return problems


def _label_problems(port: Port) -> list[str]:
    if port.dtype not in LABEL_DTYPES:
        advice = "say kind: logits or probabilities" if port.dtype == "float32" else "cast them"
        return [
            f"output kind is labels, which are {', '.join(LABEL_DTYPES)}; the network gives "
            f"{port}: {advice}"
        ]
    if port.shape is not None and label_axes(port.shape) is None:
        return [
            "output kind is labels, which are (1,H,W), (1,1,H,W), (1,H,W,1) or (H,W); the network "
            f"gives {port}: choose another output or export it so"
        ]
    return []


def _lay_out(
    layout: str, batch: int | None, channels: int, height: int | None, width: int | None
) -> tuple[int | None, ...]:
    if layout == "NCHW":
        return (batch, channels, height, width)
    return (batch, height, width, channels)


def _text(shape: Shape | None) -> str:
    if shape is None:
        return "of unknown shape"
    return f"({', '.join('?' if n is None else str(n) for n in shape)})"
