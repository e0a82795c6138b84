"""torch: run a network of the model zoo on a GPU, or on the CPU, from a .pt model file.

The file holds a manifest and a state dict, no code; the network is built from its architecture's
name. Images go up as bytes, are normalised on the device, and come back as labels.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_perception.decoding import outputs
from seg_perception.decoding.outputs import Masks
from seg_perception.errors import ManifestError, ModelError, ProviderError, first_line
from seg_perception.manifest import Manifest
from seg_perception.models.folding import fold_norms
from seg_perception.models.layers import simplified
from seg_perception.runtimes import PRECISIONS
from seg_perception.runtimes.pt_file import read_model

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16,
          "fp16": torch.float16}  # fmt: skip
SINCE = {"tf32": (8, 0), "bf16": (8, 0)}  # compute capability; older cards would run fp32 instead
WARM_UPS = 3  # before a CUDA graph is captured: libraries choose their kernels in the first runs


class TorchRuntime:
    """A network on one device. `manifest.input` is bytes: normalisation happens on the device."""

    takes_any_size = True

    def __init__(
        self,
        network: nn.Module,
        manifest: Manifest,
        *,
        provider: str = "cpu",
        threads: int = 1,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        """Take over `network`, which wants what `manifest.input` says, as float32 (1,3,H,W).

        `threads` and whether TF32 may be used count for the whole process, as torch has it.
        `compiled` is for measurements: torch.compile takes minutes and needs a compiler. Raises
        ProviderError for a device or a precision that is not to be had, ModelError for a network
        that does not run on it.
        """
        self.provider = provider
        self._device = device_of(provider)
        self._dtype = _dtype(precision, self._device)
        self._tf32 = precision == "tf32"
        torch.set_num_threads(threads)
        given = manifest.input
        self.manifest = replace(
            manifest,
            input=replace(given, layout="NHWC", dtype="uint8", scale=1.0, mean=(0.0,) * 3,
                          std=(1.0,) * 3),
        )  # fmt: skip
        self._network = simplified(network)
        self._captured: _Captured | None = None
        with _told(f"the network {manifest.name!r} cannot be set up on {provider}"):
            fold_norms(self._network, (1, 3, *given.size))
            self._mean = torch.tensor(given.mean, device=self._device)
            self._scale = torch.tensor(given.scale, device=self._device)
            self._std = torch.tensor(given.std, device=self._device)
            self._network.to(self._device, self._dtype)
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._forward: Callable[[Tensor], Tensor | Masks] = (
                torch.compile(self._eager, dynamic=False) if compiled else self._eager
            )
            self._capture()
        if precision == "fp16":
            self._check_range()

    @classmethod
    def load(
        cls, path: Path, *, provider: str = "cpu", threads: int = 1, precision: str = "fp32"
    ) -> "TorchRuntime":
        """Load a .pt model file; each error names the next step."""
        network, manifest = read_model(path)
        return cls(network, manifest, provider=provider, threads=threads, precision=precision)

    def _capture(self) -> None:
        """Make a CUDA graph of the manifest's input size, where there is CUDA."""
        if self._device.type != "cuda":
            return
        allow_tf32(products=self._tf32, convolutions=self._tf32)
        with _timed_kernels():
            self._captured = _Captured(self._forward, self.manifest.input.shape, self._device)

    def at(self, size: tuple[int, int]) -> "TorchRuntime":
        """Return the same weights for inputs of `size`; ModelError where the network takes none."""
        if size == self.manifest.input.size:
            return self
        other = copy.copy(self)
        other.manifest = replace(self.manifest, input=replace(self.manifest.input, size=size))
        with _told(f"the network {self.manifest.name!r} cannot be set up for {size}"):
            other._capture()
        return other

    def run(self, x: NDArray[np.uint8]) -> Tensor | Masks:
        """Return what the network gives of uint8 (1,H,W,3), float32 on the device.

        That is (1,K,h,w), or masks (1,Q,h,w) and class logits (1,Q,K+1); valid until the next run.
        """
        with _told(f"the network {self.manifest.name!r} fails on an image of {tuple(x.shape)}"):
            y = self.forward(self.upload(x))
            if self._device.type == "cuda":
                # Not the device: that would spoil a capture in a thread that loads another model.
                torch.cuda.current_stream(self._device).synchronize()
        self._check_output(y)
        return y

    @torch.inference_mode()
    def upload(self, x: NDArray[np.uint8]) -> Tensor:
        """Return uint8 (1,H,W,3) on the device, for `forward`; the copy may still be under way."""
        if self._captured is not None and self._captured.fits(x):
            return self._captured.upload(x)
        image = torch.from_numpy(np.require(x, requirements=["C", "W"]))  # torch warns of others
        if self._device.type == "cuda":
            image = image.pin_memory()
        return image.to(self._device, non_blocking=True)

    @torch.inference_mode()
    def forward(self, image: Tensor) -> Tensor | Masks:
        """Return what `run` does for an image that `upload` gave, without waiting for it."""
        if self._captured is not None and image is self._captured.image:
            return self._captured.replay()
        if self._device.type == "cuda":
            allow_tf32(products=self._tf32, convolutions=self._tf32)
        return self._forward(image)

    @torch.inference_mode()
    def decode(
        self,
        y: Tensor | Masks,
        inside: tuple[int, int],
        size: tuple[int, int],
        *,
        with_confidence: bool,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Turn an output of `run` into labels and confidence of `size`, on the device.

        On the CPU the compiled decoder does it, many times faster than torch's operators.
        """
        if self._device.type == "cpu":
            given = outputs.Masks(*outputs.arrays(y)) if isinstance(y, Masks) else y.numpy()
            return outputs.decode(
                given, self.manifest, inside, size, with_confidence=with_confidence
            )
        with _told(f"the scores of {self.manifest.name!r} cannot be brought to {size}"):
            labels, confidence = decode_on_device(
                y, self.manifest, inside, size, with_confidence=with_confidence
            )
            return labels.cpu().numpy(), None if confidence is None else confidence.cpu().numpy()

    def scores(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return class scores (K,h,w) of uint8 (1,H,W,3) of any size that the network takes.

        Masks of queries become the official map of the image's size.
        """
        if not self.manifest.output.is_of_queries:
            y = self.run(x)
            assert isinstance(y, Tensor)
            return np.asarray(y[0].cpu().numpy(), np.float32)
        with _told(f"the network {self.manifest.name!r} fails on an image of {tuple(x.shape)}"):
            return self._official(x)

    @torch.inference_mode()
    def _official(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._device.type == "cuda":
            allow_tf32(products=self._tf32, convolutions=self._tf32)
        scores: Any = self._network.scores
        full: Tensor = scores(self._normalised(self.upload(x)))
        return np.asarray(full[0].float().cpu().numpy(), np.float32)

    def _eager(self, image: Tensor) -> Tensor | Masks:
        y = self._network(self._normalised(image))
        if isinstance(y, tuple):
            return Masks(*(part.to(torch.float32) for part in y))
        scores: Tensor = y.to(torch.float32)
        return scores

    def _normalised(self, image: Tensor) -> Tensor:
        x = (self._scale * image.to(torch.float32) - self._mean) / self._std
        return x.permute(0, 3, 1, 2).to(self._dtype)  # a view of NHWC bytes: channels-last already

    def _check_output(self, y: Tensor | Masks) -> None:
        """Raise ManifestError where the network gives something else than the manifest says."""
        output, count = self.manifest.output, len(self.manifest.classes)
        if isinstance(y, Masks) != output.is_of_queries:
            given = "masks of queries" if isinstance(y, Masks) else "scores of classes"
            raise ManifestError(
                f"the network {self.manifest.name!r} gives {given}, its manifest says output kind "
                f"{output.kind}: import its checkpoint again"
            )
        channels = y.class_logits.shape[2] - 1 if isinstance(y, Masks) else y.shape[1]
        if channels != count:
            raise ManifestError(
                f"classes has {count} names, the network {self.manifest.name!r} gives "
                f"{channels} channels: name every channel in classes, in the network's order"
            )

    def _check_range(self) -> None:
        """Raise ModelError where numbers above 65504, the end of half precision, occur."""
        noise = np.random.default_rng(0).integers(0, 256, self.manifest.input.shape)
        y = self.run(noise.astype(np.uint8))
        if not all(torch.isfinite(part).all() for part in (y if isinstance(y, Masks) else (y,))):
            raise ModelError(
                f"numbers in the network {self.manifest.name!r} exceed what fp16 can hold: set "
                "precision to bf16, tf32 or fp32"
            )


def decode_on_device(
    y: Tensor | Masks,
    manifest: Manifest,
    inside: tuple[int, int],
    size: tuple[int, int],
    *,
    with_confidence: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return labels uint8 (H,W) and confidence uint8 (H,W), where y, float32, lies."""
    spec = manifest.output
    planes = y.planes if isinstance(y, Masks) else y
    rows, columns = outputs.inside_of(tuple(planes.shape[2:]), inside, manifest.input.size)
    planes = planes[:, :, :rows, :columns]
    mode = "bicubic" if spec.interpolation == "cubic" else "bilinear"
    scores = F.interpolate(planes, size, mode=mode, align_corners=spec.align_corners)[0]
    if isinstance(y, Masks):
        shares = y.class_logits[0].softmax(1)[:, :-1]
        scores = (shares.T @ scores.sigmoid().flatten(1)).unflatten(1, size)
    elif spec.kind == "masks":
        scores = scores.sigmoid()
    best, labels = scores.max(0)
    if not with_confidence:
        return labels.to(torch.uint8), None
    share = (best - scores.logsumexp(0)).exp() if spec.kind == "logits" else best
    sure = share.clamp(0, 1).nan_to_num(0.0)  # what a cast makes of NaN is the device's choice
    return labels.to(torch.uint8), (sure * 255 + 0.5).to(torch.uint8)


class _Captured:
    """A CUDA graph of one input size: the launches of all kernels cost one call."""

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor | Masks],
        shape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self.image = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._host = torch.zeros(shape, dtype=torch.uint8).pin_memory()
        self._bytes: NDArray[np.uint8] = self._host.numpy()
        with torch.inference_mode():
            aside: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    forward(self.image)
            torch.cuda.current_stream(device).wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            # A node that swaps models runs the old one in another thread meanwhile: what that
            # allocates must not spoil the capture.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._y = forward(self.image)

    def fits(self, x: NDArray[np.uint8]) -> bool:
        return x.shape == self._bytes.shape

    def upload(self, x: NDArray[np.uint8]) -> Tensor:
        """Copy through pinned memory into what the graph reads; `run` waits before the next."""
        np.copyto(self._bytes, x)
        self.image.copy_(self._host, non_blocking=True)
        return self.image

    def replay(self) -> Tensor | Masks:
        """Return what the graph writes; the next replay overwrites it."""
        self._graph.replay()
        return self._y


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what failed where torch does: it has no types of its own for wrong sizes or memory."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            f"{what}: the device's memory is full; free some, choose a smaller image, or set "
            "precision to bf16 or fp16"
        ) from error
    except RuntimeError as error:
        raise ModelError(f"{what}: {first_line(error)}") from error


@contextmanager
def _timed_kernels() -> Iterator[None]:
    """Let cuDNN time its convolutions and keep the fastest: worth it for sizes that come again."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def allow_tf32(*, products: bool, convolutions: bool) -> None:
    """Say it either way: torch's own default has TF32 in convolutions and not in products."""
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def device_of(provider: str) -> torch.device:
    """Return the device that a provider names; ProviderError where there is none."""
    if provider not in ("cpu", "cuda"):
        raise ProviderError(f"provider {provider!r} does not run .pt models; use cpu or cuda")
    if provider == "cuda" and not torch.cuda.is_available():
        raise ProviderError(
            f"provider 'cuda' was asked for but torch {torch.__version__} finds no CUDA device: "
            "install a CUDA build of torch and the driver, or set provider to cpu"
        )
    return torch.device(provider)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision not in PRECISIONS:
        raise ProviderError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}; use one")
    if device.type == "cpu" and precision == "tf32":
        raise ProviderError("precision 'tf32' is of NVIDIA GPUs alone; on the cpu use fp32 or bf16")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < SINCE.get(
        precision, (0, 0)
    ):
        raise ProviderError(
            f"precision {precision!r} is not in {torch.cuda.get_device_name(device)}; use fp32 or "
            "fp16"
        )
    return DTYPES[precision]
