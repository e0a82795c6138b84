"""Export a network to a self-describing ONNX file that takes image bytes, and prove it equal."""

import copy
import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_perception import input_sizes
from seg_perception.checkpoints.graphs import OPSET
from seg_perception.decoding import outputs
from seg_perception.decoding.outputs import Masks
from seg_perception.errors import ModelError
from seg_perception.files import atomic_write
from seg_perception.manifest import METADATA_KEY, InputSpec, Manifest, OutputSpec
from seg_perception.models.folding import check_size
from seg_perception.models.layers import fastest_form, simplified, written_as
from seg_perception.runtimes import Runtime
from seg_perception.runtimes.onnx import FREE_SIDES, OnnxRuntime
from seg_perception.runtimes.onnx_file import OnnxFile

TOLERANCE = 1e-5  # largest difference allowed, as a share of the largest |logit| ...
SPREADS = 10.0  # of a query's mask over space: TOLERANCE of them is the goldens' 1e-4
NOISE = 5.0  # ... or as a multiple of the network's own float32 rounding, where that is larger
ASPECTS = ((9, 16), (2, 1))  # of free sizes that are compared: height and width of an image
TIE = 1e-4  # two scores this close are a tie: either label is right


class Parity(NamedTuple):
    """How far the file is from the network: logits, as a share of the largest, and labels.

    `noise` is how far the network in float32 is from itself in float64, in the same measure; 0
    where the difference is so small that nobody has to know.
    """

    difference: float
    noise: float
    labels_differ: int
    labels: int

    def is_broken(self) -> bool:
        """Whether that is more than rounding explains."""
        return self.difference > self.limit() or self.labels_differ > 0

    def limit(self) -> float:
        """Return the difference that is allowed."""
        return max(TOLERANCE, NOISE * self.noise)

    def text(self) -> str:
        """Say it in words."""
        return (
            f"{self.difference:.1e} of the largest logit (allowed {self.limit():.1e}), "
            f"{self.labels_differ} of {self.labels} labels"
        )


class Exported(NamedTuple):
    """What a written model file says of itself, and how far it is from its network."""

    manifest: Manifest
    parity: Parity


class FromBytes(nn.Module):
    """Take uint8 (1,H,W,3) BGR and fold normalisation and colour order into the first convolution.

    The mean is still subtracted, so that the convolution's zero padding means what it meant in
    training; 1/std and the channel swap go into the weights.
    """

    mean: Tensor

    def __init__(self, network: nn.Module, trained: InputSpec) -> None:
        """`trained` tells the colour order, scale, mean and std that `network` was trained with."""
        super().__init__()
        self.network = simplified(network)
        first = next(m for m in self.network.modules() if isinstance(m, nn.Conv2d))
        factor = trained.scale / torch.tensor(trained.std, dtype=first.weight.dtype)
        mean = torch.tensor(trained.mean) / trained.scale
        swap = trained.color == "RGB"
        with torch.no_grad():
            weight = first.weight * factor[:, None, None]
            first.weight.copy_(weight.flip(1) if swap else weight)
        self.register_buffer("mean", (mean.flip(0) if swap else mean)[:, None, None])

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = image.float().permute(0, 3, 1, 2) - self.mean
        y: Tensor | tuple[Tensor, Tensor] = self.network(x)
        return y


def export_onnx(network: nn.Module, manifest: Manifest, path: Path) -> Exported:
    """Write `network` as ONNX at `manifest.input.size` and, where it can, for all its multiples.

    `manifest.input` tells how its float32 (1,3,H,W) input was normalised in training. The file
    takes uint8 images in BGR, carries the manifest with the sha256 of its weights, passes
    onnx.checker and equals the torch network on seeded images, wide and tall ones too where the
    size is free; only then it is renamed to `path`. Raises ModelError or ManifestError, and leaves
    nothing behind, when it does not.
    """
    trained = manifest.input
    spec = InputSpec(
        size=trained.size,
        layout="NHWC",
        color="BGR",
        dtype="uint8",
        resize=trained.resize,
        multiple=multiple_of(network, trained),
    )
    network = network.float().cpu().eval()
    trained.check()
    shapes = ASPECTS if spec.multiple else ()
    sizes = dict.fromkeys((spec.size, *(input_sizes.choose(spec, shape) for shape in shapes)))
    for size in sizes:
        check_size(network, size)
    with atomic_write(path) as temporary:
        graph = _trace(FromBytes(network, trained), spec, manifest.output)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, str(temporary))
        manifest = replace(manifest, input=spec, sha256=OnnxFile(temporary).weights_sha256())
        entry = graph.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, manifest.to_json()
        onnx.save(graph, str(temporary))
        del graph  # gigabytes, for the largest networks
        runtime = OnnxRuntime(temporary)
        parity = _worst([compare(network, runtime.at(size), trained) for size in sizes])
        if parity.is_broken():
            raise ModelError(
                f"the exported file differs from the network: {parity.text()}; nothing was written"
            )
    return Exported(manifest, parity)


def multiple_of(network: nn.Module, spec: InputSpec) -> int | None:
    """Return of what height and width may be multiples in a file of `network`.

    None where the network is of one size, where the file's own is none of them, or where images
    keep their shape on their way to the network.
    """
    multiple = getattr(network, "multiple", None)
    if multiple is None or spec.resize != "stretch" or any(n % multiple for n in spec.size):
        return None
    return int(multiple)


def _worst(parities: list[Parity]) -> Parity:
    """Return a broken one, or else the one with the largest difference."""
    return max(parities, key=lambda parity: (parity.is_broken(), parity.difference))


@torch.no_grad()
def compare(network: nn.Module, runtime: Runtime, trained: InputSpec, *, images: int = 2) -> Parity:
    """Run both on seeded images, smooth and noisy, and return the largest disagreement.

    `trained` tells what the network takes; the runtime takes the same images as bytes. Of several
    outputs the worst counts, of masks the worst query; labels are compared by the scores that they
    make together.
    """
    manifest, random = runtime.manifest, np.random.default_rng(0)
    away, noise = np.zeros(1), np.zeros(1)  # of each output, or query
    rounding, differ, total = 0.0, 0, 0
    for _ in range(images):
        image = _smooth_and_noisy(manifest.input.size, random)
        x = _normalised(image, manifest.input.color, trained)
        expected = _run(network.eval(), x)
        actual = outputs.arrays(runtime.run(image[None]))
        _check_comparable(expected, actual)
        shares = _differences(actual, expected)
        scores = _class_scores(expected, manifest)
        unlike = _class_scores(actual, manifest).argmax(0) != scores.argmax(0)
        lead, tie = _gap(scores), TIE * min(1.0, float(np.abs(scores).max()))
        if shares.max() > TOLERANCE or (unlike & (lead > tie)).any():  # worth a second network
            exact = _run(copy.deepcopy(network).double(), x.double())
            noise = np.maximum(noise, _differences(exact, expected))
            away_from_exact = np.abs(_class_scores(exact, manifest) - scores)
            rounding = max(rounding, float(away_from_exact.max()))
        away = np.maximum(away, shares)
        # Ties widen only by the rounding that was measured on the network itself.
        differ += int((unlike & (lead > max(tie, 2 * NOISE * rounding))).sum())
        total += unlike.size
    noise = np.broadcast_to(noise, away.shape)
    worst = int((away - np.maximum(TOLERANCE, NOISE * noise)).argmax())
    return Parity(float(away[worst]), float(noise[worst]), differ, total)


def _smooth_and_noisy(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random image uint8 (H,W,3)."""
    height, width = size
    coarse = random.integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    smooth = np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
    noisy = np.clip(smooth + random.normal(0, 20, smooth.shape), 0, 255)
    return np.asarray(noisy, np.uint8)


def _run(network: nn.Module, x: Tensor) -> tuple[NDArray[Any], ...]:
    """Return every output of a network."""
    y = network(x)
    return tuple(part.numpy() for part in (y if isinstance(y, tuple) else (y,)))


def _differences(
    some: tuple[NDArray[Any], ...], expected: tuple[NDArray[Any], ...]
) -> NDArray[Any]:
    """Return the largest |difference| of each output as a share of its largest value.

    Masks (1,Q,h,w) count query by query: they may differ much more from each other than from place
    to place, so the unit of one is no more than SPREADS of its standard deviations over space.
    """
    found = []
    for a, b in zip(some, expected, strict=True):
        axes = (0, 2, 3) if len(expected) > 1 and b.ndim == 4 else None
        largest = np.abs(b).max()
        unit = np.full(1, largest)
        if axes:
            spread = b.std(axis=axes, dtype=np.float64)
            unit = np.clip(SPREADS * spread, np.finfo(np.float32).eps * largest, largest)
        found.append(np.atleast_1d(np.abs(a - b).max(axis=axes)) / unit)
    return np.concatenate(found)


def _class_scores(parts: tuple[NDArray[Any], ...], manifest: Manifest) -> NDArray[Any]:
    """Return the scores (K,h,w) that labels are made of."""
    if len(parts) == 1:
        return np.asarray(parts[0][0])
    return outputs.class_scores(Masks(*parts), manifest)


def _gap(scores: NDArray[Any]) -> NDArray[Any]:
    """Return by how much the best score of (K,h,w) leads the second."""
    if len(scores) == 1:
        return np.full_like(scores[0], np.inf)
    two = np.partition(scores, len(scores) - 2, axis=0)[-2:]
    return np.asarray(two[1] - two[0])


def _normalised(image: NDArray[np.uint8], color: str, trained: InputSpec) -> Tensor:
    """Return the float32 (1,3,H,W) that a network was trained on, of uint8 (H,W,3) in `color`."""
    ordered = image if color == trained.color else image[..., ::-1]
    x = torch.from_numpy(ordered.astype(np.float32).transpose(2, 0, 1)[None])
    mean, std = (torch.tensor(v)[:, None, None] for v in (trained.mean, trained.std))
    return (trained.scale * x - mean) / std


def _check_comparable(expected: tuple[NDArray[Any], ...], actual: tuple[NDArray[Any], ...]) -> None:
    """Raise ModelError for outputs of other shapes, or NaN, infinite, or 0 throughout."""
    shapes = [", ".join(str(part.shape) for part in parts) for parts in (expected, actual)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"the network gives scores of {shapes[0]}, the exported file of {shapes[1]}: "
            "it is of another network"
        )
    for part, other_part in zip(expected, actual, strict=True):
        largest, other = float(np.abs(part).max()), float(np.abs(other_part).max())
        if not (0 < largest < np.inf and other < np.inf):
            raise ModelError(
                f"the largest |logit| of the network is {largest}, of the exported file {other}, "
                "so they cannot be compared: look for NaN in the checkpoint, or train the network "
                "again"
            )


def _trace(module: nn.Module, spec: InputSpec, output: OutputSpec) -> onnx.ModelProto:
    names = [output.name or "logits"] + ([output.class_logits] if output.class_logits else [])
    buffer = io.BytesIO()
    image = torch.zeros(spec.shape, dtype=torch.uint8)
    form = fastest_form(module.eval(), image)
    # Of the image, whose axes are batch, height, width, channels.
    free = {"image": dict(enumerate(FREE_SIDES, start=1))} if spec.multiple else None
    with warnings.catch_warnings(), torch.no_grad(), written_as(form):
        # The tracing exporter writes the leaner static graph, and says that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (image,),
            buffer,  # type: ignore[arg-type]  # takes a file object, says the documentation
            input_names=["image"],
            output_names=names,
            opset_version=OPSET,
            dynamic_axes=free,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())
