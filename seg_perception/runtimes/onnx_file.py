"""Where the weights of an ONNX file lie, and their hash: known before a runtime opens the file."""

import hashlib
import mmap
from pathlib import Path

from seg_perception.errors import ModelError
from seg_perception.runtimes.tensors import StoredTensor, parse_tensors


class OnnxFile:
    """The tensors of a model file; raises ModelError for a file that is no ONNX file."""

    def __init__(self, path: Path) -> None:
        """Walk the file once; nothing of a tensor is copied."""
        if not path.is_file():
            raise ModelError(
                f"no model file at {path}; give a path, or the name 'default' for the bundled model"
            )
        self._path = path
        try:
            self._tensors = list(parse_tensors(_map(path)))
        except ModelError as error:
            raise ModelError(
                f"{path} ({path.stat().st_size} bytes) cannot be loaded: truncated, or not an ONNX "
                f"file ({error})"
            ) from error

    def check_external_data(self) -> None:
        """Raise ModelError when a tensor lies outside of the model's own folder, or is missing."""
        for tensor in self._tensors:
            if tensor.external:
                self._external(tensor)

    def weights_sha256(self) -> str:
        """Return the hash of the weights: names and little-endian bytes, in the names' order.

        Weights are the initializers of the main graph, in the file or in its external data.
        """
        digest = hashlib.sha256()
        weights = [tensor for tensor in self._tensors if tensor.is_weight]
        for tensor in sorted(weights, key=lambda t: t.name):
            digest.update(tensor.name.encode())
            digest.update(self._external(tensor) if tensor.external else tensor.content)
        return digest.hexdigest()

    def _external(self, tensor: StoredTensor) -> memoryview:
        """Return the bytes of a tensor that lies in another file of the model's folder."""
        entries = {key: values[-1] for key, values in tensor.external.items() if values}
        where = entries.get("location", "")
        folder = self._path.absolute().parent.resolve()
        inside = [
            (folder / w).resolve().is_relative_to(folder) for w in tensor.external["location"]
        ]
        if not where or not all(inside):
            raise ModelError(
                f"{self._path} keeps {tensor.name!r} in {where!r}, outside of its own folder: "
                "refused; put the data beside the model and name it by its file name"
            )
        file = folder / where
        if not file.is_file():
            raise ModelError(
                f"{self._path} keeps {tensor.name!r} in {where!r}, which is not in {folder}: copy "
                "it there together with the model"
            )
        data = _map(file)
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", len(data) - offset))
        except ValueError as error:
            raise ModelError(f"{self._path}: external data of {tensor.name!r}: {error}") from error
        if min(offset, length) < 0 or offset + length > len(data):
            raise ModelError(
                f"{self._path} keeps {tensor.name!r} at {offset} + {length} of {where!r}, which "
                f"has {len(data)} bytes: it is truncated, or of another model"
            )
        return data[offset : offset + length]


def _map(path: Path) -> memoryview:
    """Return a read-only view of a file's bytes, mapped for as long as the view lives."""
    if path.stat().st_size == 0:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
