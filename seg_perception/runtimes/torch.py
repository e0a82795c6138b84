"""torch: run a network of the model zoo on a GPU, or on the CPU, from a .pt model file.

The file holds a manifest and a state dict, no code; the network is built from its architecture's
name. Pictures go up as bytes, are normalised on the device, and come back as labels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_perception import outputs
from seg_perception.checkpoints.model_file import read_model
from seg_perception.errors import ModelError, ProviderError
from seg_perception.manifest import Manifest
from seg_perception.models.layers import class_map, simplified
from seg_perception.runtimes import PRECISIONS

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16,
          "fp16": torch.float16}  # fmt: skip
WARM_UPS = 3  # before a CUDA graph is captured: libraries choose their kernels in the first runs


class TorchRuntime:
    """A network on one device. `manifest.input` is bytes: normalisation happens on the device."""

    def __init__(
        self,
        network: nn.Module,
        manifest: Manifest,
        *,
        provider: str = "cpu",
        threads: int = 1,
        precision: str = "fp32",
    ) -> None:
        """Take over `network`, which wants what `manifest.input` says, as float32 (1,3,H,W).

        `threads` counts for the whole process, as torch has it. ProviderError names a device or a
        precision that is not to be had.
        """
        self.provider = provider
        self._device = _device(provider)
        self._dtype = _dtype(precision)
        torch.set_num_threads(threads)
        given = manifest.input
        self._mean = torch.tensor(given.mean, device=self._device)
        self._scale = torch.tensor(given.scale, device=self._device)
        self._std = torch.tensor(given.std, device=self._device)
        self.manifest = replace(
            manifest,
            input=replace(given, layout="NHWC", dtype="uint8", scale=1.0, mean=(0.0,) * 3,
                          std=(1.0,) * 3),
        )  # fmt: skip
        self._network = simplified(network).to(self._device, self._dtype)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._captured: _Captured | None = None
        if self._device.type == "cuda":
            example = torch.zeros(self.manifest.input.shape, dtype=torch.uint8, device=self._device)
            self._captured = _Captured(self._forward, example)

    @classmethod
    def load(
        cls, path: Path, *, provider: str = "cpu", threads: int = 1, precision: str = "fp32"
    ) -> "TorchRuntime":
        """Load a .pt model file; each error names the next step."""
        network, manifest = read_model(path)
        return cls(network, manifest, provider=provider, threads=threads, precision=precision)

    @torch.inference_mode()
    def run(self, x: NDArray[np.uint8]) -> Tensor:
        """Return float32 (1,K,h,w) on the device for uint8 (1,H,W,3)."""
        picture = torch.from_numpy(np.ascontiguousarray(x))
        if self._device.type == "cuda":
            picture = picture.pin_memory()
        picture = picture.to(self._device, non_blocking=True)
        try:
            if self._captured is not None and self._captured.fits(picture):
                y = self._captured(picture)
            else:
                y = self._forward(picture)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        except RuntimeError as error:  # torch has no types of its own for wrong sizes or memory
            raise ModelError(
                f"the network {self.manifest.name!r} fails on a picture of {tuple(x.shape)}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return y

    @torch.inference_mode()
    def decode(
        self, y: Tensor, inside: tuple[int, int], size: tuple[int, int], *, with_confidence: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Turn an output of `run` into labels and confidence of `size`, on the device.

        On the CPU the compiled decoder does it, many times faster than torch's operators.
        """
        if self._device.type == "cpu":
            return outputs.decode(
                y.numpy(), self.manifest, inside, size, with_confidence=with_confidence
            )
        labels, confidence = decode_on_device(
            y, self.manifest, inside, size, with_confidence=with_confidence
        )
        return labels.cpu().numpy(), None if confidence is None else confidence.cpu().numpy()

    def scores(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return class scores (K,h,w) of uint8 (1,H,W,3) of any size that the network takes."""
        return np.asarray(self.run(x)[0].cpu().numpy(), np.float32)

    def _forward(self, picture: Tensor) -> Tensor:
        x = (self._scale * picture.to(torch.float32) - self._mean) / self._std
        x = x.permute(0, 3, 1, 2).to(self._dtype)  # a view of NHWC bytes is channels-last already
        return class_map(self._network, x).to(torch.float32)


def decode_on_device(
    y: Tensor,
    manifest: Manifest,
    inside: tuple[int, int],
    size: tuple[int, int],
    *,
    with_confidence: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return labels uint8 (H,W) and confidence uint8 (H,W), where y (1,K,h,w) float32 lies."""
    spec = manifest.output
    rows, columns = outputs.inside_of(tuple(y.shape[2:]), inside, manifest.input.size)
    y = y[:, :, :rows, :columns]
    scores = F.interpolate(y, size, mode="bilinear", align_corners=spec.align_corners)[0]
    best, labels = scores.max(0)
    if not with_confidence:
        return labels.to(torch.uint8), None
    share = best if spec.kind == "probabilities" else (best - scores.logsumexp(0)).exp()
    return labels.to(torch.uint8), (share.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


class _Captured:
    """A CUDA graph of one input size: the launches of all kernels cost one call."""

    def __init__(self, forward: Any, example: Tensor) -> None:
        self._picture = example
        with torch.inference_mode():
            aside: Any = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream(example.device))
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    forward(self._picture)
            torch.cuda.current_stream(example.device).wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._y: Tensor = forward(self._picture)

    def fits(self, picture: Tensor) -> bool:
        return picture.shape == self._picture.shape

    def __call__(self, picture: Tensor) -> Tensor:
        self._picture.copy_(picture)
        self._graph.replay()
        return self._y  # overwritten by the next call; its labels are made before that


def _device(provider: str) -> torch.device:
    if provider not in ("cpu", "cuda"):
        raise ProviderError(f"provider {provider!r} does not run .pt models; use cpu or cuda")
    if provider == "cuda" and not torch.cuda.is_available():
        raise ProviderError(
            f"provider 'cuda' was asked for but torch {torch.__version__} finds no CUDA device: "
            "install a CUDA build of torch and the driver, or set provider to cpu"
        )
    return torch.device(provider)


def _dtype(precision: str) -> torch.dtype:
    if precision not in PRECISIONS:
        raise ProviderError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return DTYPES[precision]
