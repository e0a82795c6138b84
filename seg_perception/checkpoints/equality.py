"""Compare a network with its form without the tail, label by label, on images and on seeded scores.

A network may give one class for every image that is at hand. So the tail is also run alone, on
scores in which all classes win somewhere.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from seg_perception import images
from seg_perception.checkpoints import graphs, tail
from seg_perception.checkpoints.dry_run import synthetic_images
from seg_perception.checkpoints.tail import Tail
from seg_perception.decoding import outputs
from seg_perception.decoding.masks import NEGLIGIBLE
from seg_perception.decoding.outputs import Masks
from seg_perception.manifest import InputSpec, Manifest
from seg_perception.runtimes.onnx import OnnxRuntime, evaluate

REAL, SEEDED = 4, 4  # images of the bundled clip, and of smooth noise
EPS = float(np.finfo(np.float32).eps)
# Products and sums of one interpolated score, and its steepest change between two samples, both
# in units of the largest score. The cubic's 31 operations weigh up to 1.375 an axis, its slope 3.
OPERATIONS = {"bilinear": 7.0, "cubic": 31 * 1.375**2}
SLOPE = {"bilinear": 2.0, "cubic": 2 * 3 * 1.375}

Array = NDArray[Any]
Image = NDArray[np.uint8]


class Pair(NamedTuple):
    """What the whole network and the cut one give, and a call that gives scores at full size."""

    whole: Array | Masks
    cut: Array | Masks
    full: Callable[[], Array]


@dataclass
class Equality:
    """Counts of labels: all, those that differ, those of them that are ties; and classes seen."""

    labels: int = 0
    differing: int = 0
    ties: int = 0
    classes: set[int] = field(default_factory=set)

    @property
    def share(self) -> float:
        """Share of equal labels."""
        return 1 - self.differing / self.labels


def compare(
    model: ModelProto, found: Tail, whole: OnnxRuntime, cut: OnnxRuntime, inputs: list[Array]
) -> tuple[Equality, Equality]:
    """Count the labels that differ, of `inputs`, and of the tail alone on seeded scores.

    `model` runs as `whole`, and without its tail as `cut`.
    """
    of_images = _of_images(model, found, whole, cut, inputs)
    of_scores = _of_scores(model, found, whole.manifest, inputs[0])
    one, other = whole.manifest, cut.manifest
    return _count(of_images, found, one, other), _count(of_scores, found, one, other)


def _count(pairs: Iterable[Pair], found: Tail, whole: Manifest, cut: Manifest) -> Equality:
    result = Equality()
    for pair in pairs:
        one, other = labels_of(pair.whole, whole), labels_of(pair.cut, cut)
        result.labels += one.size
        result.classes |= set(np.unique(one).tolist())
        if (one != other).any():
            result.differing += int((one != other).sum())
            result.ties += _ties(pair, found, cut, one, other)
    return result


def labels_of(y: Array | Masks, manifest: Manifest) -> Image:
    """Return labels uint8 (H,W) at the input's size, of what a network gives."""
    size = manifest.input.size
    return outputs.decode(y, manifest, size, size, with_confidence=False)[0]


def proof_images(spec: InputSpec) -> list[Image]:
    """Return synthetic, seeded and real images of the input's size, in its order of colours."""
    random = np.random.default_rng(0)
    seeded = [random.integers(0, 256, (9, 12, 3)).astype(np.uint8) for _ in range(SEEDED)]
    real = [images.convert(image, "bgr8", spec.color) for image in _real_images()]
    fitted = [images.fit(image, spec.size, "stretch").image for image in (*seeded, *real)]
    return [*synthetic_images(spec.size), *fitted]


@lru_cache(maxsize=1)
def _real_images() -> list[Image]:
    """Return images of the bundled clip, BGR."""
    from seg_perception.bags.clip import bundled_images

    return bundled_images(REAL)


def tensors(model: ModelProto, names: list[str], **feeds: Array) -> dict[str, Array]:
    """Return tensors inside a model, for what it is fed with."""
    probed = ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return evaluate(probed.SerializeToString(), names, feeds)


def _of_images(
    model: ModelProto, found: Tail, whole: OnnxRuntime, cut: OnnxRuntime, inputs: list[Array]
) -> Iterator[Pair]:
    name = graphs.input_ports(model.graph)[0].name
    for x in inputs:
        full = partial(_tensor, model, found.full, {name: x})
        yield Pair(whole.run(x), cut.run(x), full)


def _tensor(model: ModelProto, name: str, feeds: dict[str, Array]) -> Array:
    return tensors(model, [name], **feeds)[name]


def _of_scores(model: ModelProto, found: Tail, manifest: Manifest, x: Array) -> Iterator[Pair]:
    """Run the tail alone, on noise of every pixel and on smooth noise."""
    port = graphs.input_ports(model.graph)[0].name
    output = manifest.output.name or model.graph.output[0].name
    alone, example = _alone(model, found, output, port, x)
    random = np.random.default_rng(1)
    for step in (1, 4):
        scores = _seeded(random, example.shape, found.output.layout, step)
        if found.output.kind == "probabilities":
            axis = tail.OF_CLASSES[found.output.layout]
            scores = np.exp(scores) / np.exp(scores).sum(axis, keepdims=True)
        scores = scores.astype(example.dtype)
        feeds = {port: x, found.scores: scores}
        whole, cut = _tensor(alone, output, feeds), scores.astype(np.float32)
        full = partial(_tensor, alone, found.full, feeds)
        if manifest.output.is_of_queries:
            logits = random.normal(0, 3, (1, example.shape[1], len(manifest.classes) + 1))
            yield Pair(Masks(whole, logits), Masks(cut, logits), full)
        else:
            yield Pair(whole, cut, full)


def _alone(
    model: ModelProto, found: Tail, output: str, port: str, x: Array
) -> tuple[ModelProto, Array]:
    """Return the model whose scores are an input, and an example of them."""
    example = _tensor(model, found.scores, {port: x})
    alone = ModelProto()
    alone.CopyFrom(model)
    for node in alone.graph.node:
        node.output[:] = [f"{n}_computed" if n == found.scores else n for n in node.output]
    kind = helper.np_dtype_to_tensor_dtype(example.dtype)
    alone.graph.input.append(helper.make_tensor_value_info(found.scores, kind, example.shape))
    stale = [value for value in alone.graph.value_info if value.name == found.scores]
    for value in stale:
        alone.graph.value_info.remove(value)
    graphs.keep_outputs(alone.graph, [output])
    return alone, example


def _seeded(
    random: np.random.Generator, shape: tuple[int, ...], layout: str, step: int
) -> NDArray[np.float64]:
    """Return noise whose samples are `step` apart, interpolated between them."""
    _, *sides = shape if layout == "NHWC" else (shape[0], *shape[2:], shape[1])
    height, width, classes = sides
    rough = (-(-height // step), -(-width // step))
    planes = [
        cv2.resize(random.normal(0, 3, rough), (width, height), interpolation=cv2.INTER_LINEAR)
        for _ in range(classes)
    ]
    return np.asarray(np.stack(planes, axis=-1 if layout == "NHWC" else 0)[None], np.float64)


def _ties(pair: Pair, found: Tail, manifest: Manifest, one: Image, other: Image) -> int:
    """Return how many labels that differ are of scores that tie, as the whole network sees them."""
    places = np.nonzero(one != other)
    squashed = not set(tail.ACTIVATIONS).isdisjoint(found.operators)
    layout, way = found.output.layout, found.output.interpolation
    if isinstance(pair.cut, Masks):
        assert isinstance(pair.whole, Masks)
        full = outputs.class_scores(Masks(pair.full(), pair.whole.class_logits), manifest)
        tolerance = rounding(outputs.planes_first(pair.cut.planes, layout), way, squashed)
        tolerance += float(NEGLIGIBLE)
    else:
        full = outputs.planes_first(pair.full(), layout)
        tolerance = rounding(outputs.planes_first(pair.cut, layout), way, squashed)
    gap = np.abs(full[(one[places], *places)] - full[(other[places], *places)])
    return int((gap <= 2 * tolerance).sum())


def rounding(scores: NDArray[np.float32], interpolation: str, squashed: bool) -> float:
    """Return how far two float32 ways to interpolate `scores` (K,h,w) may be apart.

    Both round every product and sum, and the place of a pixel among n samples by n/2 EPS. Where an
    exponential follows, `squashed`, its own rounding by EPS is as if the score were rounded so.
    """
    largest, samples = float(np.abs(scores).max()), int(max(scores.shape[1:]))
    largest = max(largest, 1) if squashed else largest
    way = interpolation
    return 2 * EPS * largest * (OPERATIONS[way] + samples / 2 * SLOPE[way])
