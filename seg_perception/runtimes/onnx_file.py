"""The manifest and the weights of an ONNX file: known before a runtime opens the file."""

import hashlib
import mmap
from pathlib import Path

from seg_perception.errors import ModelError
from seg_perception.manifest import Manifest
from seg_perception.runtimes.tensors import StoredTensor, parse_metadata, parse_tensors


class OnnxFile:
    """The tensors of a model file; raises ModelError for a file that is no ONNX file."""

    def __init__(self, path: Path) -> None:
        """Walk the file once; nothing of a tensor is copied."""
        if path.is_dir():
            raise ModelError(f"{path} is a folder; give the path of the model file in it")
        if not path.is_file():
            raise ModelError(
                f"no model file at {path}; give a path, or the name 'default' for the bundled model"
            )
        self._path = path
        self._outside: dict[str, memoryview] = {}
        self._content = content = _map(path)
        try:
            self._tensors = list(parse_tensors(content))
            if not len(content):
                raise ModelError("it is empty")
        except ModelError as error:
            raise ModelError(
                f"{path} ({len(content)} bytes) cannot be loaded: truncated, or not an ONNX "
                f"file ({error}); copy it again from its origin"
            ) from error

    def check_external_data(self) -> None:
        """Raise ModelError when a tensor lies outside of the model's own folder, or is missing."""
        for tensor in self._tensors:
            if tensor.external is not None:
                self._external(tensor)

    def manifest(self) -> Manifest:
        """Return what the file says of itself; its weights have the hash that it names.

        Raises ManifestError for a file without a manifest or with a bad one, ModelError for one
        whose weights or metadata are damaged.
        """
        try:
            metadata = parse_metadata(self._content)
        except ModelError as error:
            raise ModelError(
                f"{self._path} has damaged metadata: {error}; copy it again from its origin"
            ) from error
        manifest = Manifest.from_metadata(metadata, where=str(self._path))
        if manifest.sha256:
            self.check_sha256(manifest.sha256)
        return manifest

    def tensor_bytes(self) -> int:
        """Return the number of bytes of all tensors."""
        return sum(tensor.size or len(tensor.content) for tensor in self._tensors)

    def weights_sha256(self) -> str:
        """Return the hash of the weights: names and little-endian bytes, in the names' order.

        Weights are the initializers of the main graph, in the file or in its external data.
        Constants inside nodes belong to the graph's form, which two exports of the same weights
        may differ in.
        """
        digest = hashlib.sha256()
        weights = [tensor for tensor in self._tensors if tensor.is_weight]
        for tensor in sorted(weights, key=lambda t: t.name):
            digest.update(tensor.name.encode())
            outside = tensor.external is not None
            digest.update(self._external(tensor) if outside else tensor.content)
        return digest.hexdigest()

    def check_sha256(self, expected: str) -> None:
        """Raise ModelError when the weights are not those that the manifest names."""
        actual = self.weights_sha256()
        if actual != expected:
            raise ModelError(
                f"the weights of {self._path} have sha256 {actual[:12]}..., its manifest says "
                f"{expected[:12]}...: damaged or changed; copy it again from its origin, or "
                "import it again if you changed it"
            )

    def _external(self, tensor: StoredTensor) -> memoryview:
        """Return the bytes of a tensor that lies in another file of the model's folder."""
        location = self._entry(tensor, "location", "")
        if location not in self._outside:
            self._outside[location] = self._open(location, tensor.name)
        data = self._outside[location]
        offset = self._number(tensor, "offset", 0)
        length = self._number(tensor, "length", len(data) - offset)
        if not offset <= offset + length <= len(data):
            raise ModelError(
                f"{self._path} keeps {tensor.name!r} at {offset} + {length} of {location!r}, which "
                f"has {len(data)} bytes: it is truncated, or of another model"
            )
        if tensor.size not in (None, length):
            raise ModelError(
                f"{self._path} keeps {length} bytes of {tensor.name!r} in {location!r}, its shape "
                f"needs {tensor.size}: the file is of another model"
            )
        return data[offset : offset + length]

    def _open(self, location: str, name: str) -> memoryview:
        """Map the file that `location` names; it must lie below the folder, past every link."""
        folder = self._path.absolute().parent.resolve()
        given = Path(location.replace("\0", "?"))
        file = folder / given
        leads_out = given.is_absolute() or ".." in given.parts
        if not location or leads_out or not file.resolve().is_relative_to(folder):
            raise ModelError(
                f"{self._path} keeps {name!r} in {location!r}, outside of its own folder: "
                "refused; put the data next to the model and name it by its file name"
            )
        if not file.is_file():
            raise ModelError(
                f"{self._path} keeps {name!r} in {location!r}, which is not in {folder}: copy "
                "it there together with the model"
            )
        return _map(file)

    def _number(self, tensor: StoredTensor, key: str, default: int) -> int:
        text = self._entry(tensor, key, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise ModelError(
                f"{self._path}: external data of {tensor.name!r} has {key} {text!r}, which is no "
                "number of bytes: export the model again"
            )
        return int(text)

    def _entry(self, tensor: StoredTensor, key: str, default: str) -> str:
        values = (tensor.external or {}).get(key, [default])
        if len(values) > 1:
            raise ModelError(
                f"{self._path}: external data of {tensor.name!r} has more than one {key}, "
                f"{values}: export the model again"
            )
        return values[0]


def _map(path: Path) -> memoryview:
    """Return a read-only view of a file's bytes, mapped for as long as the view lives."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:  # which cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
