"""ONNX Runtime: load a self-describing ONNX file, check it against its manifest, run it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from seg_perception.decoding import outputs
from seg_perception.decoding.outputs import Masks, Shape
from seg_perception.errors import ManifestError, ModelError, ProviderError, first_line
from seg_perception.runtimes import agreement
from seg_perception.runtimes.agreement import Port
from seg_perception.runtimes.onnx_file import OnnxFile

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
VERSION = str(ort.__version__)
# Names of the height and width of an input of any size. With values for them when it opens a file,
# ONNX Runtime makes the same of it as of a file of that size.
FREE_SIDES = ("height", "width")

# What ONNX Runtime says of a file that is well-formed but not for it, and what helps.
NEWER = (
    f"it is newer than ONNX Runtime {ort.__version__}: update that, or export with an older opset"
)
FOREIGN = (
    "it uses operators that ONNX Runtime does not have, and libraries of custom operators are "
    "never loaded: export it with standard operators"
)
ADVICE = {
    "IR version": NEWER,
    "under development": NEWER,
    "is not a registered function/op": FOREIGN,
    "No Op registered for": FOREIGN,
    "Could not find an implementation": FOREIGN,
    "Protobuf parsing failed": "it is truncated, or not an ONNX file: copy it again",
    "No graph was found": "it is truncated, or not an ONNX file: copy it again",
}


class OnnxRuntime:
    """A session with its manifest; refuses a file whose manifest and network disagree."""

    takes_any_size = False

    def __init__(
        self, path: Path, *, provider: str = "cpu", threads: int = 1, precision: str = "fp32"
    ) -> None:
        """Load `path`; ModelError, ManifestError and ProviderError tell the next step."""
        if precision != "fp32":
            raise ProviderError(
                f"precision {precision!r} is for .pt models; {path} runs in the precision that it "
                "was exported in: leave precision at fp32"
            )
        if provider not in PROVIDERS:
            raise ProviderError(f"unknown provider {provider!r}; use {', '.join(PROVIDERS)}")
        if PROVIDERS[provider] not in ort.get_available_providers():
            raise ProviderError(
                f"provider {provider!r} is not in this ONNX Runtime, which has "
                f"{', '.join(ort.get_available_providers())}; install a build that has it, or "
                "set provider to cpu"
            )
        self.provider = provider
        self._path, self._threads = path, threads
        file = OnnxFile(path)
        file.check_external_data()
        try:
            self.manifest = file.manifest()
        except ManifestError:
            open_session(path)  # says so itself where the file is no model at all
            raise
        self._open()

    def _open(self) -> None:
        """Open a session for inputs of the manifest's size."""
        provider, size = self.provider, self.manifest.input.size
        self._session = open_session(self._path, PROVIDERS[provider], self._threads, size=size)
        active = self._session.get_providers()[0]
        if active != PROVIDERS[provider]:
            raise ProviderError(
                f"provider {provider!r} was asked for but ONNX Runtime fell back to {active}; "
                "its libraries are missing or do not fit: repair them, or set provider to cpu"
            )
        self._inputs = ports(self._session.get_inputs())
        self._input, self._outputs = self._agree(ports(self._session.get_outputs()))

    @property
    def output_shapes(self) -> dict[str, Shape | None]:
        """Shape of each output by its name; after a run they are known."""
        return {port.name: port.shape for port in self._outputs}

    def run(self, x: NDArray[Any]) -> NDArray[Any] | Masks:
        """Return the manifest's output for an input of `manifest.input.shape` and dtype."""
        names = [port.name for port in self._outputs]
        try:
            ys: list[NDArray[Any]] = self._session.run(names, {self._input.name: x})
        except Exception as error:  # ONNX Runtime's own types
            raise ModelError(
                f"the network of {self._path} fails on an image: {first_line(error)}"
            ) from error
        if any(y.shape != port.shape for y, port in zip(ys, self._outputs, strict=True)):
            # Seen for the first time, or dynamic.
            given = [p._replace(shape=y.shape) for y, p in zip(ys, self._outputs, strict=True)]
            _, self._outputs = self._agree(given)
        return Masks(*ys) if self.manifest.output.is_of_queries else ys[0]

    def decode(
        self,
        y: NDArray[Any] | Masks,
        inside: tuple[int, int],
        size: tuple[int, int],
        *,
        with_confidence: bool,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Turn an output of `run` into labels and confidence of `size`; see outputs.decode."""
        return outputs.decode(y, self.manifest, inside, size, with_confidence=with_confidence)

    def at(self, size: tuple[int, int]) -> "OnnxRuntime":
        """Open the file again for inputs of `size`.

        Raises ManifestError where it takes its own alone, ModelError where another file is in its
        place by now.
        """
        if size == self.manifest.input.size:
            return self
        if self.manifest.sha256:
            OnnxFile(self._path).check_sha256(self.manifest.sha256)
        other = copy.copy(self)
        other.manifest = replace(self.manifest, input=replace(self.manifest.input, size=size))
        other._open()
        return other

    def scores(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return class scores (K,h,w); the file takes images of one size alone."""
        wanted = self.manifest.input.shape
        if x.shape != wanted:
            raise ModelError(
                f"this image needs an input of {x.shape}, and {self._path} takes {wanted} alone: "
                "import the checkpoint as .pt, which takes any size, or as .onnx of that --size"
            )
        return outputs.class_scores(self.run(x), self.manifest)

    def _agree(self, given: list[Port]) -> tuple[Port, list[Port]]:
        """Return the chosen input and outputs, or raise ManifestError with every difference."""
        chosen = agreement.compare(self.manifest, self._inputs, given)
        if chosen.problems or chosen.input is None or chosen.outputs is None:
            raise ManifestError(
                f"{self._path}: {'; '.join(chosen.problems)}. Correct the card and import the "
                "model again"
            )
        return chosen.input, chosen.outputs


def available() -> list[str]:
    """Return the providers that this build of ONNX Runtime has, by our names."""
    built = ort.get_available_providers()
    return [name for name, theirs in PROVIDERS.items() if theirs in built]


def open_session(
    path: Path,
    provider: str = PROVIDERS["cpu"],
    threads: int = 1,
    *,
    size: tuple[int, int] | None = None,
) -> ort.InferenceSession:
    """Open any ONNX file with the options that the product runs with.

    `size` (height, width) is that of the input where the file leaves it free.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning wins little on a free machine and loses much on a loaded one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    for name, side in zip(FREE_SIDES, size or (), strict=False):
        options.add_free_dimension_override_by_name(name, side)
    try:
        return ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime raises types of its own, most of them Exception's
        reason = first_line(error)
        advice = next((text for part, text in ADVICE.items() if part in reason), None)
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) cannot be loaded: "
            + (f"{advice} ({reason})" if advice else reason)
        ) from error


def ports(nodes: Sequence[ort.NodeArg]) -> list[Port]:
    """Return what ONNX Runtime knows of inputs or outputs."""
    return [Port(n.name, _dtype(n.type), tuple(n.shape) or None) for n in nodes]


def _dtype(kind: str) -> str:
    """Return numpy's name of a type such as tensor(float)."""
    name = kind[7:-1] if kind.startswith("tensor(") else kind
    return {"float": "float32", "double": "float64"}.get(name, name)


def evaluate(
    model: bytes, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return tensors of a serialized model by their names; the model has them as outputs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    return dict(zip(names, session.run(list(names), dict(feeds)), strict=True))
