"""An ONNX file, read in place: just enough of protobuf's wire format, and strictly.

A robot has no `onnx` package, and what a file claims must be known before a runtime opens it.
Field numbers: onnx.proto of ONNX; encoding: protobuf's "Encoding" page.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError

MAX_DEPTH = 100  # of nested messages, protobuf's own limit
MAX_FIELDS = 5_000_000  # a graph of 100,000 nodes has a fifth of it
MAX_SHAPE = 256  # bytes of a tensor's shape

_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}  # wire type -> bytes

_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
# Message -> field number -> message inside it; every tensor of a file is reached through these.
_PARTS = {
    "model": {7: "main graph", 20: "training", 25: "function"},
    "main graph": {**_GRAPH, 5: "weight"},
    "graph": _GRAPH,
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}

_METADATA = 14  # of a model
_DIMS, _TYPE, _STRINGS, _NAME, _RAW, _EXTERNAL, _PLACE = 1, 2, 6, 8, 9, 13, 14
_FLOATS, _INTEGERS = (4, 10), (5, 7, 11)
# TensorProto.DataType -> bits of one element; strings (8) have no fixed size.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64,
    15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip


class StoredTensor(NamedTuple):
    """One tensor: `content` holds its little-endian bytes, unless `external` says where they are.

    `is_weight`: an initializer of the main graph. `size` is the number of bytes that its shape
    needs, None where the element type does not tell. `external` maps each key of external data to
    all values given for it, None where the bytes are inside.
    """

    name: str
    is_weight: bool
    size: int | None
    content: memoryview
    external: Mapping[str, list[str]] | None


def parse_tensors(model: bytes | memoryview) -> Iterator[StoredTensor]:
    """Yield every tensor of a serialised ModelProto, wherever it stands; views, not copies.

    Raises ModelError for bytes that are no such message, or claim more than they hold.
    """
    budget = MAX_FIELDS
    waiting = [("model", memoryview(model), 0)]
    while waiting:
        message, view, depth = waiting.pop()
        if message in ("tensor", "weight"):
            yield _tensor(view, is_weight=message == "weight")
            continue
        if depth > MAX_DEPTH:
            raise ModelError(f"messages are nested deeper than {MAX_DEPTH}")
        inside = _PARTS[message]
        for number, wire, value in _fields(view):
            budget -= 1
            if wire == _LENGTH and number in inside:
                waiting.append((inside[number], value, depth + 1))
        if budget < 0:
            raise ModelError(f"more than {MAX_FIELDS:,} fields")


def parse_metadata(model: bytes | memoryview) -> dict[str, str]:
    """Return the metadata of a serialised ModelProto; ModelError for bytes that are none.

    Of a key that is given twice the last value counts, as in ONNX Runtime.
    """
    metadata: dict[str, str] = {}
    for number, wire, value in _fields(memoryview(model)):
        if number == _METADATA and wire == _LENGTH:
            entry = {key: bytes(part) for key, _, part in _fields(value)}
            try:
                metadata[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
            except UnicodeDecodeError as error:
                raise ModelError(f"it is no text ({error})") from error
    return metadata


def _fields(view: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield field number, wire type and the bytes of the value."""
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        wire, start = key & 7, at
        if wire == _VARINT:
            _, at = _varint(view, at)
        elif wire == _LENGTH:
            length, start = _varint(view, at)
            at = start + length
        elif wire in _FIXED:
            at = start + _FIXED[wire]
        else:
            raise ModelError(f"wire type {wire} does not occur in ONNX")
        if at > end:
            raise ModelError(f"a field ends {at - end} bytes behind its message")
        yield key >> 3, wire, view[start:at]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the number that starts at `at` and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(view):
            raise ModelError("a number is cut off")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelError("a number is longer than 64 bits")


def _tensor(view: memoryview, *, is_weight: bool) -> StoredTensor:
    name, kind, raw, typed = b"", 0, None, bytearray()
    dims: list[int] = []
    external: dict[str, list[str]] = {}
    is_outside = False
    numbers = bytearray()
    for number, wire, value in _fields(view):
        if number == _NAME:
            name = bytes(value)
        elif number == _DIMS:
            dims += _few_integers(value)
        elif number == _TYPE and wire == _VARINT:
            kind = _varint(value, 0)[0]
        elif number == _RAW and wire == _LENGTH:
            raw = value
        elif number in _INTEGERS:
            numbers += value
        elif number in _FLOATS or number == _STRINGS:
            typed += value
        elif number == _EXTERNAL and wire == _LENGTH:
            _add_entry(external, value)
            is_outside = True
        elif number == _PLACE and bytes(value) != b"\0":
            is_outside = True
    bits = _BITS.get(kind)
    if numbers:
        typed += _integers(numbers).astype(f"<u{max(1, (bits or 64) // 8)}").tobytes()
    size = None if bits is None else (math.prod(dims) * bits + 7) // 8
    content = memoryview(bytes(typed)) if raw is None else raw
    if size is not None and not is_outside and size != len(content):
        raise ModelError(
            f"tensor {name.decode(errors='replace')!r} of shape {dims} needs {size} bytes but "
            f"holds {len(content)}"
        )
    where = external if is_outside else None
    return StoredTensor(name.decode(errors="replace"), is_weight, size, content, where)


def _add_entry(entries: dict[str, list[str]], view: memoryview) -> None:
    """Add one StringStringEntryProto."""
    entry = {number: bytes(value).decode(errors="replace") for number, _, value in _fields(view)}
    entries.setdefault(entry.get(1, ""), []).append(entry.get(2, ""))


def _few_integers(packed: memoryview) -> list[int]:
    """Decode the varints of a shape."""
    if len(packed) > MAX_SHAPE:
        raise ModelError(f"a shape takes {len(packed)} bytes")
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return values


def _integers(packed: bytearray) -> NDArray[np.uint64]:
    """Decode varints that stand one behind the other; negative ones are two's complement."""
    data = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(data < 0x80)
    starts = np.append(0, ends[:-1] + 1)
    if len(ends) == 0 or ends[-1] != len(data) - 1 or (ends - starts).max() > 9:
        raise ModelError("a number is cut off or longer than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for k in range(int((ends - starts).max()) + 1):
        there = starts + k <= ends
        byte = data[np.minimum(starts + k, len(data) - 1)].astype(np.uint64) & np.uint64(0x7F)
        values |= np.where(there, byte << np.uint64(7 * k), 0)
    return values
