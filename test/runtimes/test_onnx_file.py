"""Model files are read safely: hashes are checked, data stays in the folder, damage is named."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError, SegPerceptionError
from seg_perception.manifest import METADATA_KEY
from seg_perception.runtimes import read_manifest
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.runtimes.onnx_file import OnnxFile
from seg_perception.runtimes.tensors import parse_metadata, parse_tensors

Make = Callable[..., Path]


def expected_hash(model: onnx.ModelProto, folder: Path | None = None) -> str:
    """Return the hash as the onnx package reads the weights."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        digest.update(tensor.name.encode())
        digest.update(numpy_helper.to_array(tensor, str(folder or "")).tobytes())
    return digest.hexdigest()


def with_manifest(path: Path, **changes: str) -> Path:
    """Change keys of the manifest inside a model file."""
    import json

    model = onnx.load(path, load_external_data=False)
    entry = next(p for p in model.metadata_props if p.key == "seg_perception")
    entry.value = json.dumps({**json.loads(entry.value), **changes})
    onnx.save(model, path)
    return path


def move_weights_out(path: Path, location: str) -> Path:
    """Keep the weights of a model in another file, named `location` in the model."""
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    (path.parent / "weights.bin").write_bytes(b"1234" + data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def delimited(field: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    size = len(content)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    return bytes([field << 3 | 2]) + length + content


KINDS = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16,
    "int32": TensorProto.INT32, "int64": TensorProto.INT64, "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
}  # fmt: skip


def test_the_hash_covers_every_type_however_it_is_written(tmp_path: Path) -> None:
    tensors = []
    for name, kind in KINDS.items():
        values = np.array([[0, 1, 3], [-2, 100, 7]]).astype(name)
        tensors.append(numpy_helper.from_array(values, f"raw_{name}"))
        typed = helper.make_tensor(f"typed_{name}", kind, values.shape, values.flatten().tolist())
        tensors.append(typed)
    graph = helper.make_graph([], "g", [], [], tensors)
    model = helper.make_model(graph)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert OnnxFile(path).weights_sha256() == expected_hash(model)


def test_changed_weights_are_refused(make_model: Make) -> None:
    path = make_model()
    digest = OnnxFile(path).weights_sha256()
    assert OnnxRuntime(with_manifest(path, sha256=digest)).manifest.sha256 == digest
    model = onnx.load(path)
    weights = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1.0001)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "kernel"))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=f"manifest says {digest[:12]}.*copy it again"):
        OnnxRuntime(path)


def test_external_data_beside_the_model_is_read_and_hashed(make_model: Make) -> None:
    inside = OnnxFile(make_model("inside.onnx")).weights_sha256()
    path = move_weights_out(make_model(), "weights.bin")
    assert OnnxFile(path).weights_sha256() == inside
    assert OnnxRuntime(with_manifest(path, sha256=inside)).manifest.sha256 == inside
    data = bytearray((path.parent / "weights.bin").read_bytes())
    data[-1] ^= 1
    (path.parent / "weights.bin").write_bytes(data)
    with pytest.raises(ModelError, match="damaged or changed"):
        OnnxRuntime(path)


@pytest.mark.parametrize(
    "location",
    ["../weights.bin", "{}/weights.bin", "link.bin", "", "a/../link.bin", "/dev/zero", "../\0"],
)
def test_external_data_outside_of_the_folder_is_refused(
    location: str, make_model: Make, tmp_path: Path
) -> None:
    path = move_weights_out(make_model(), location.format(tmp_path.parent))
    os.rename(tmp_path / "weights.bin", tmp_path.parent / "weights.bin")
    os.symlink(tmp_path.parent / "weights.bin", tmp_path / "link.bin")
    with pytest.raises(ModelError, match="outside of its own folder: refused"):
        OnnxRuntime(path)


def test_external_data_inside_a_subgraph_is_refused_too(tmp_path: Path) -> None:
    hidden = numpy_helper.from_array(np.zeros(4, np.float32), "hidden")
    hidden.ClearField("raw_data")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=hidden)], "b", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())
    with pytest.raises(ModelError, match="'hidden' in '/etc/passwd', outside"):
        OnnxFile(path).check_external_data()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("location", "weights.bin", "more than one location"),
        ("offset", "-4", "offset '-4', which is no number of bytes"),
        ("offset", "0x4", "offset '0x4'"),
        ("length", "8", "keeps 8 bytes of 'kernel'.*its shape needs 576"),
        ("length", "9" * 19, r"at 4 \+ 9{19} of 'weights.bin', which has 580 bytes"),
    ],
)
def test_external_data_that_contradicts_itself_is_refused(
    key: str, value: str, reason: str, make_model: Make
) -> None:
    path = move_weights_out(make_model(), "weights.bin")
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    if key != "location":
        del entries[1 if key == "offset" else 2]
    entries.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=reason):
        OnnxRuntime(path)


def test_a_tensor_that_claims_more_than_it_holds_is_refused(make_model: Make) -> None:
    path = make_model()
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = 1 << 40
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="'kernel' of shape .* needs .* bytes but holds 576"):
        OnnxRuntime(path)


def test_missing_and_short_external_data_are_named(make_model: Make, tmp_path: Path) -> None:
    path = move_weights_out(make_model(), "weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match="has 5 bytes: it is truncated"):
        OnnxRuntime(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="copy it there together with the model"):
        OnnxRuntime(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"not a model", b"\x00" * 100, b"\xff" * 100])
def test_files_that_are_no_models_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"m\.onnx \({len(content)} bytes\) cannot be loaded"):
        OnnxRuntime(path)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder; give the path of the model file in it"):
        OnnxRuntime(tmp_path)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    message = b""
    for i in range(3000):  # graph (in a model: field 7) > node 1 > attribute 5 > graph 6 > ...
        message = delimited((6, 5, 1)[i % 3], message)
    path = tmp_path / "m.onnx"
    path.write_bytes(delimited(7, message))
    with pytest.raises(ModelError, match="nested deeper than 100"):
        OnnxFile(path)


@pytest.mark.parametrize("what", ["newer", "foreign"])
def test_a_network_that_the_runtime_does_not_know_is_named(what: str, make_model: Make) -> None:
    path = make_model()
    model = onnx.load(path)
    if what == "newer":
        model.ir_version = 999
    else:
        model.graph.node[0].domain = "com.example.gpu"
        model.opset_import.append(helper.make_opsetid("com.example.gpu", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="cannot be loaded"):
        OnnxRuntime(path)


def damaged(whole: bytes, random: np.random.Generator) -> bytearray:
    """Return the bytes with up to three bits flipped, and every third time cut off."""
    data = bytearray(whole)
    if random.random() < 0.3:
        del data[random.integers(len(data)) :]
    for at in random.integers(0, max(1, len(data)), random.integers(1, 4)):
        if len(data):
            data[at] ^= 1 << random.integers(8)
    return data


def test_metadata_is_what_the_runtime_reads(make_model: Make) -> None:
    path = make_model()
    model = onnx.load(path)
    for key, value in (("twice", "first"), ("twice", "last"), ("empty", ""), ("größe", "尺寸")):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    theirs = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert parse_metadata(path.read_bytes()) == theirs
    assert theirs["twice"] == "last"


def test_a_manifest_is_read_without_a_session(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model()
    digest = OnnxFile(path).weights_sha256()
    loaded = OnnxRuntime(with_manifest(path, sha256=digest)).manifest
    monkeypatch.delattr(onnxruntime, "InferenceSession")
    assert read_manifest(path) == loaded
    with_manifest(path, sha256="0" * 64)
    with pytest.raises(ModelError, match="its manifest says 000000000000"):
        read_manifest(path)
    outside = move_weights_out(make_model(), "../weights.bin")
    with pytest.raises(ModelError, match="outside of its own folder"):
        read_manifest(outside)


def test_metadata_that_is_no_text_is_refused(make_model: Make) -> None:
    path = make_model(manifest=False)
    entry = delimited(1, METADATA_KEY.encode()) + delimited(2, b"\xff\xfe")
    path.write_bytes(path.read_bytes() + delimited(14, entry))
    with pytest.raises(ModelError, match="damaged metadata: it is no text"):
        read_manifest(path)


def test_the_reader_takes_or_refuses_any_bytes(make_model: Make) -> None:
    whole = move_weights_out(make_model(), "weights.bin").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(5000):
        try:
            list(parse_tensors(bytes(damaged(whole, random))))
        except ModelError:
            refused += 1
    assert 1000 < refused < 5000


def test_a_damaged_file_loads_or_is_refused_and_nothing_else(make_model: Make) -> None:
    path = make_model()
    whole = with_manifest(path, sha256=OnnxFile(path).weights_sha256()).read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        path.write_bytes(damaged(whole, random))
        try:
            OnnxRuntime(path)
        except SegPerceptionError:
            refused += 1
    assert 200 < refused <= 600
