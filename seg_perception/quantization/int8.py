"""Write a network's ONNX graph in 8 bit: QuantizeLinear and DequantizeLinear around operators.

Weights are int8 with a scale for each output channel. Activations are uint8; their range is the
mean of the extremes that each calibration input gave them: one odd image widens it little.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from seg_perception.checkpoints import graphs
from seg_perception.errors import ModelError
from seg_perception.manifest import METADATA_KEY, Manifest
from seg_perception.runtimes.onnx_file import OnnxFile

QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "DequantizeLinear")


def read_float(path: Path) -> onnx.ModelProto:
    """Read the graph of an ONNX model file; ModelError for one that cannot be quantised."""
    if path.suffix == ".pt":
        raise ModelError(
            f"{path} is run by torch, and only ONNX files are quantised; make one of it with: "
            f"seg-perception export {path} -o {path.with_suffix('.onnx').name}"
        )
    model = graphs.read_graph(path)
    kinds = {node.op_type for node in model.graph.node}
    done = next((kind for kind in QUANTISED if kind in kinds), None)
    if done is not None:
        raise ModelError(
            f"{path} is quantised already (it has {done} nodes); give the float file that it was "
            "made of"
        )
    return model


def write_int8(
    model: onnx.ModelProto, manifest: Manifest, inputs: Iterable[NDArray[Any]], out: Path
) -> None:
    """Calibrate on `inputs`, as the network takes them, and write the 8-bit model file to `out`.

    Its manifest is `manifest` with the hash of the new weights.
    """
    graphs.fix_weights(model)
    (port,) = graphs.input_ports(model.graph)
    model = onnx.shape_inference.infer_shapes(model)
    add_pre_process_metadata(model)  # else it is asked for, in warnings
    with tempfile.TemporaryDirectory() as folder:
        quantised = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            quantised,
            _Calibration(port.name, inputs),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"CalibMovingAverage": True},
        )
        written = onnx.load(str(quantised))
        sha256 = OnnxFile(quantised).weights_sha256()
    graphs.set_metadata(written, METADATA_KEY, replace(manifest, sha256=sha256).to_json())
    onnx.save(written, str(out))


class _Calibration:
    """Hands inputs to ONNX Runtime one by one."""

    def __init__(self, name: str, inputs: Iterable[NDArray[Any]]) -> None:
        self._name = name
        self._inputs: Iterator[NDArray[Any]] = iter(inputs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        x = next(self._inputs, None)
        return None if x is None else {self._name: x}
