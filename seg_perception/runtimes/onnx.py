"""ONNX Runtime: load a self-describing ONNX file, check it against its manifest, run it."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from seg_perception.errors import ManifestError, ModelError, ProviderError
from seg_perception.manifest import Manifest
from seg_perception.runtimes.onnx_file import OnnxFile

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
DTYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
LABEL_DTYPES = ("tensor(uint8)", "tensor(int32)", "tensor(int64)")


class OnnxRuntime:
    """A session with its manifest; refuses a file whose manifest and network disagree."""

    def __init__(self, path: Path, *, provider: str = "cpu", threads: int = 1) -> None:
        """Load `path`; ModelError, ManifestError and ProviderError tell the next step."""
        if provider not in PROVIDERS:
            raise ProviderError(f"unknown provider {provider!r}; use {', '.join(PROVIDERS)}")
        if PROVIDERS[provider] not in ort.get_available_providers():
            raise ProviderError(
                f"provider {provider!r} is not in this ONNX Runtime, which has "
                f"{', '.join(ort.get_available_providers())}; install a build that has it, or "
                "set provider to cpu"
            )
        self.provider = provider
        file = OnnxFile(path)
        file.check_external_data()
        self._session = open_session(path, PROVIDERS[provider], threads)
        active = self._session.get_providers()[0]
        if active != PROVIDERS[provider]:
            raise ProviderError(
                f"provider {provider!r} was asked for but ONNX Runtime fell back to {active}; "
                "its libraries are missing or do not fit: repair them, or set provider to cpu"
            )
        metadata = _metadata(self._session, path)
        self.manifest = Manifest.from_metadata(metadata, where=str(path))
        if self.manifest.sha256:
            file.check_sha256(self.manifest.sha256)
        self._input = _input_name(self._session, self.manifest, path)
        self._output = _output_name(self._session, self.manifest, path)

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the manifest's output for an input of `manifest.input.shape` and dtype."""
        result: NDArray[Any] = self._session.run([self._output], {self._input: x})[0]
        return result


def open_session(
    path: Path, provider: str = PROVIDERS["cpu"], threads: int = 1
) -> ort.InferenceSession:
    """Open any ONNX file with the options that the product runs with."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning wins little on a free machine and loses much on a loaded one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime raises types of its own, most of them Exception's
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) cannot be loaded: truncated, or not an ONNX "
            f"file ({str(error).splitlines()[0]})"
        ) from error


def _metadata(session: ort.InferenceSession, path: Path) -> dict[str, str]:
    try:
        metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} has metadata that is no text: damaged ({error})") from error
    return metadata


def _input_name(session: ort.InferenceSession, manifest: Manifest, path: Path) -> str:
    spec = manifest.input
    inputs = {i.name: i for i in session.get_inputs()}
    name = spec.name or (next(iter(inputs)) if len(inputs) == 1 else None)
    if name not in inputs:
        raise ManifestError(f"{path}: input.name is {name!r} but the inputs are {list(inputs)}")
    node = inputs[name]
    if node.type != DTYPES[spec.dtype]:
        raise ManifestError(f"{path}: the manifest says {spec.dtype}, the network {node.type}")
    if tuple(node.shape) != spec.shape:
        raise ManifestError(
            f"{path}: the manifest says input {spec.shape} ({spec.layout}), the network "
            f"{tuple(node.shape)}; correct the card and import the model again"
        )
    return str(name)


def _output_name(session: ort.InferenceSession, manifest: Manifest, path: Path) -> str:
    spec = manifest.output
    outputs = {o.name: o for o in session.get_outputs()}
    name = spec.name or (next(iter(outputs)) if len(outputs) == 1 else None)
    if name not in outputs:
        raise ManifestError(f"{path}: output.name is {name!r} but the outputs are {list(outputs)}")
    node = outputs[name]
    if spec.kind == "labels":
        if node.type not in LABEL_DTYPES:
            raise ManifestError(f"{path}: output kind is labels but the network gives {node.type}")
        return str(name)
    channel = 1 if spec.layout == "NCHW" else 3
    shape = list(node.shape)
    if node.type != "tensor(float)" or len(shape) != 4:
        raise ManifestError(
            f"{path}: output kind {spec.kind} needs float32 of four dimensions, the network gives "
            f"{node.type} {shape}"
        )
    if shape[channel] != len(manifest.classes):
        raise ManifestError(
            f"{path}: the manifest has {len(manifest.classes)} classes, the network "
            f"{shape[channel]} output channels (layout {spec.layout}); correct the card and import "
            "the model again"
        )
    return str(name)
