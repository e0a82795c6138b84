"""Export a network to a self-describing ONNX file that takes picture bytes, and prove it equal."""

import copy
import io
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from seg_perception.errors import ModelError
from seg_perception.manifest import METADATA_KEY, InputSpec, Manifest
from seg_perception.models.layers import fastest_form, written_as
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.runtimes.onnx_file import OnnxFile

OPSET = 17
TOLERANCE = 1e-5  # largest difference allowed, as a share of the largest |logit| ...
NOISE = 5.0  # ... or as a multiple of the network's own float32 rounding, where that is larger
TIE = 1e-4  # two scores this close are a tie: either label is right


class Parity(NamedTuple):
    """How far the file is from the network: logits, as a share of the largest, and labels.

    `noise` is how far the network in float32 is from itself in float64, in the same measure.
    """

    difference: float
    noise: float
    labels_differ: int
    labels: int


class FromBytes(nn.Module):
    """Take uint8 (1,H,W,3) BGR and fold normalisation and colour order into the first convolution.

    The mean is still subtracted, so that the convolution's zero padding means what it meant in
    training; 1/std and the channel swap go into the weights.
    """

    mean: Tensor

    def __init__(
        self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        first = next(m for m in self.network.modules() if isinstance(m, nn.Conv2d))
        scale = torch.tensor(std, dtype=first.weight.dtype)[:, None, None]
        with torch.no_grad():
            first.weight.copy_((first.weight / scale).flip(1))  # RGB -> BGR
        self.register_buffer("mean", torch.tensor(mean[::-1])[:, None, None])

    def forward(self, picture: Tensor) -> Tensor:
        x = picture.float().permute(0, 3, 1, 2) - self.mean
        y: Tensor = self.network(x)
        return y


def export_onnx(
    network: nn.Module,
    manifest: Manifest,
    path: Path,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Parity:
    """Write `network` (normalised RGB in, logits out) as ONNX at `manifest.input.size`.

    `mean` and `std` (RGB, 0..255) are what the network was trained with. The file takes uint8
    pictures in BGR, carries the manifest with the sha256 of its weights, passes onnx.checker and
    equals the torch network on seeded pictures; only then it is renamed to `path`. Raises
    ModelError, and leaves nothing behind, when it does not.
    """
    spec = InputSpec(size=manifest.input.size, layout="NHWC", color="BGR", dtype="uint8",
                     resize=manifest.input.resize)  # fmt: skip
    folded = FromBytes(network.float().cpu(), mean=mean, std=std)
    graph = _trace(folded, spec)
    onnx.checker.check_model(graph, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        onnx.save(graph, str(beside))
        manifest = replace(manifest, input=spec, sha256=OnnxFile(beside).weights_sha256())
        entry = graph.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, manifest.to_json()
        onnx.save(graph, str(beside))
        parity = compare(network, OnnxRuntime(beside), mean=mean, std=std)
        limit = max(TOLERANCE, NOISE * parity.noise)
        if parity.difference > limit or parity.labels_differ:
            raise ModelError(
                f"the exported file differs from the network: {parity.difference:.2e} of the "
                f"largest logit (allowed {limit:.1e}), {parity.labels_differ} of {parity.labels} "
                "labels; nothing was written"
            )
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return parity


def compare(
    network: nn.Module,
    runtime: OnnxRuntime,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    pictures: int = 2,
) -> Parity:
    """Run both on seeded pictures, smooth and noisy, and return the largest disagreement."""
    height, width = runtime.manifest.input.size
    random = np.random.default_rng(0)
    precise = copy.deepcopy(network).double().eval()
    difference, noise, differ, total = 0.0, 0.0, 0, 0
    for _ in range(pictures):
        coarse = random.integers(0, 256, (-(-height // 16), -(-width // 16), 3))
        picture = np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
        picture = np.clip(picture + random.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
        rgb = torch.from_numpy(picture[..., ::-1].astype(np.float32).transpose(2, 0, 1)[None])
        x = (rgb - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        with torch.no_grad():
            expected = network.eval()(x).numpy()
            exact = precise(x.double()).numpy()
        actual = runtime.run(picture[None])
        largest = float(np.abs(expected).max())
        _check_comparable(largest, float(np.abs(actual).max()))
        difference = max(difference, float(np.abs(actual - expected).max()) / largest)
        noise = max(noise, float(np.abs(exact - expected).max()) / largest)
        top = np.sort(expected, axis=1)
        clear = (top[:, -1] - top[:, -2] if top.shape[1] > 1 else top[:, -1]) > TIE
        differ += int(((actual.argmax(1) != expected.argmax(1)) & clear).sum())
        total += clear.size
    return Parity(difference, noise, differ, total)


def _check_comparable(expected: float, actual: float) -> None:
    """Raise ModelError when a largest |logit| is NaN, infinite, or 0 throughout the network."""
    if not (0 < expected < np.inf and actual < np.inf):
        raise ModelError(
            f"the largest |logit| of the network is {expected}, of the exported file {actual}, so "
            "they cannot be compared: look for NaN in the checkpoint, or train the network again"
        )


def _trace(module: nn.Module, spec: InputSpec) -> onnx.ModelProto:
    buffer = io.BytesIO()
    picture = torch.zeros(spec.shape, dtype=torch.uint8)
    form = fastest_form(module.eval(), picture)
    with warnings.catch_warnings(), torch.no_grad(), written_as(form):
        # The tracing exporter writes the leaner static graph, and says that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (picture,),
            buffer,  # type: ignore[arg-type]  # takes a file object, says the documentation
            input_names=["picture"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())
