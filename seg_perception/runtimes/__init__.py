"""Where a network runs: one Protocol, one module a runtime."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_perception.manifest import Manifest

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


class Runtime(Protocol):
    """A loaded network. `manifest.input` tells what `run` takes."""

    manifest: Manifest
    provider: str

    def run(self, x: NDArray[Any]) -> Any:
        """Return the chosen output for one input array, wherever it lies; blocking."""
        ...

    def decode(
        self, y: Any, inside: tuple[int, int], size: tuple[int, int], *, with_confidence: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Turn an output of `run` into labels and confidence of `size`; see outputs.decode."""
        ...

    def scores(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return class scores (K,h,w) of an input of any size that the network can take."""
        ...


def load(
    path: Path, *, provider: str = "cpu", threads: int = 1, precision: str = "fp32"
) -> Runtime:
    """Open a model file with the runtime of its kind: .pt with torch, others with ONNX Runtime."""
    if path.suffix == ".pt":
        from seg_perception.runtimes.torch import TorchRuntime

        return TorchRuntime.load(path, provider=provider, threads=threads, precision=precision)
    from seg_perception.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(path, provider=provider, threads=threads, precision=precision)
