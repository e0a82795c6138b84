"""Where a network runs: one Protocol, one module a runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError, ProviderError
from seg_perception.manifest import Manifest

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
CHECKPOINTS = (".pth", ".ckpt", ".safetensors")  # weights without a manifest; .pt may have one


class Runtime(Protocol):
    """A loaded network. `manifest.input` tells what `run` takes."""

    manifest: Manifest
    provider: str
    takes_any_size: bool  # or that of manifest.input alone

    def run(self, x: NDArray[Any]) -> Any:
        """Return the chosen output for one input array, wherever it lies; blocking."""
        ...

    def decode(
        self, y: Any, inside: tuple[int, int], size: tuple[int, int], *, with_confidence: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Turn an output of `run` into labels and confidence of `size`; see outputs.decode."""
        ...

    def at(self, size: tuple[int, int]) -> "Runtime":
        """Return the same network for inputs of `size` (height, width).

        Its manifest says that size. Raises ManifestError or ModelError where it takes no such.
        """
        ...

    def scores(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return class scores (K,h,w) of an input of any size that the network can take."""
        ...


def load(
    path: Path, *, provider: str = "cpu", threads: int = 1, precision: str = "fp32"
) -> Runtime:
    """Open a model file with the runtime of its kind: .pt with torch, others with ONNX Runtime.

    Raises ModelError, ManifestError, CheckpointError or ProviderError; each names the next step.
    """
    _check_kind(path)
    if path.suffix == ".pt":
        with _torch_for(path):
            from seg_perception.runtimes.torch import TorchRuntime

        return TorchRuntime.load(path, provider=provider, threads=threads, precision=precision)
    from seg_perception.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(path, provider=provider, threads=threads, precision=precision)


def read_manifest(path: Path) -> Manifest:
    """Return what a model file says of itself, after a check of its weights; errors as load's.

    No network is built and no session is opened: whether one can run the file, `load` tells.
    """
    _check_kind(path)
    if path.suffix == ".pt":
        with _torch_for(path):
            from seg_perception.runtimes import pt_file

        return pt_file.read_manifest(path)
    from seg_perception.runtimes.onnx_file import OnnxFile

    file = OnnxFile(path)
    file.check_external_data()
    return file.manifest()


def _check_kind(path: Path) -> None:
    if path.suffix in CHECKPOINTS:
        raise ModelError(
            f"{path} is a checkpoint, not a model file; make one of it with: seg-perception import "
            f"{path} --arch ARCH --dataset DATASET -o OUT.onnx"
        )


@contextmanager
def _torch_for(path: Path) -> Iterator[None]:
    """Say what helps where torch, which a robot need not have, is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ProviderError(
            f"{path} is run by torch, which is not installed: pip install '.[train]' "
            "in the folder of this package's source or, where torch is, make it a file that runs "
            f"without: seg-perception export {path} -o OUT.onnx"
        ) from error
