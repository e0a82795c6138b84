"""What a torch file holds: read without running its code, and checked tensor by tensor."""

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from seg_perception.errors import CheckpointError, ModelError, first_line
from seg_perception.runtimes.onnx_file import OnnxFile
from seg_perception.runtimes.stand_ins import can_stand_in, stand_ins

# What state dicts name: their types and how tensors are put together.
PLAIN = re.compile(
    r"torch\.(cuda\.|sparse\.|cuda\.sparse\.)?\w*(Storage|Tensor)|torch\.[bcfiqu]\w*\d\w*"
    r"|torch\.(bool|device|Size|_utils\.\w+|_tensor\._rebuild\w+|storage\.\w+|nn\.parameter\.\w+)"
    r"|torch\.serialization\._get_layout|builtins\.(bytearray|set|complex)"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode"
)
PICKLES = 4  # of a file from before torch 1.6: two numbers, the machine, and what was saved


def read_weights_only(path: Path) -> Any:
    """Return what a torch file holds, as long as that is tensors and plain values.

    Nothing in the file is run; what stand_ins.py names is left out. CheckpointError says what else
    it holds, and how to convert it.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the path of the checkpoint in it")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; download it first and give its path")
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            foreign = {name for name in _globals(path) if not PLAIN.fullmatch(name)}
            if not foreign or not can_stand_in(foreign):
                raise
            with stand_ins(foreign):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch meets damage with errors of many types
        raise CheckpointError(_refusal(path, head, error)) from error


def check_weights(weights: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict of dense real tensors by name; CheckpointError where it is none."""
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds {type(weights).__name__}, not a state dict")
    if not weights:
        raise CheckpointError(f"{path} holds an empty state dict; save the trained network again")
    strange = [f"{k!r}: {wrong}" for k, v in weights.items() if (wrong := _strangeness(k, v))]
    if strange:
        raise CheckpointError(
            f"{path} holds entries that are no weights ({', '.join(strange[:3])}): is it a state "
            "dict? Save network.state_dict()"
        )
    return dict(weights)


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError naming the first weights that are NaN or infinite."""
    bad = [k for k, w in weights.items() if w.is_floating_point() and not w.isfinite().all()]
    if bad:
        raise CheckpointError(f"{path} holds NaN or infinite weights in {bad[:3]}: it is damaged")


def _strangeness(key: Any, value: Any) -> str:
    """Return why an entry cannot be a weight, or nothing."""
    if not isinstance(key, str):
        return f"its name is no text but {type(key).__name__}"
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}, no tensor"
    if value.is_meta:
        return "a tensor without data"
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        return f"a tensor of {value.layout}, {value.dtype}: neither dense nor real"
    return ""


def _refusal(path: Path, head: bytes, error: Exception) -> str:
    """Say what a file that torch refused is, from how it begins, and what to do."""
    foreign = sorted({name for name in _globals(path) if not PLAIN.fullmatch(name)})
    if foreign:
        return (
            f"{path} holds more than tensors ({', '.join(foreign[:5])}"
            f"{', ...' if len(foreign) > 5 else ''}), and loading those could run code. Where you "
            "trust its origin, save its tensors alone: c = torch.load(FILE, map_location='cpu', "
            "weights_only=False); c = c.get('state_dict', c.get('model', c)); "
            "torch.save({k: v for k, v in c.items() if torch.is_tensor(v)}, OUT)"
        )
    if head.startswith((b"PK", b"\x80")):
        return (
            f"{path} ({path.stat().st_size} bytes) is damaged or truncated, or no checkpoint: "
            f"{_reason(error)}; copy or download it again"
        )
    return f"{path} is no torch file ({_kind(path, head)}"


def _kind(path: Path, head: bytes) -> str:
    """Say what a file is that is no torch file, from how it begins; closes the bracket."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty): download it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page): open its address in a browser, and download the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer): get the file itself with git lfs pull"
    with suppress(ModelError):
        if head.startswith(b"\x08"):  # the version, first in every ONNX file
            OnnxFile(path)
            return "it is an ONNX file): import it with --manifest CARD.yaml"
    return f"it begins with {head[:16]!r}): give the checkpoint that was saved with torch.save"


def _reason(error: Exception) -> str:
    """Return what torch found; its first line is about its defaults."""
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"WeightsUnpickler error: *(.+)", str(error))
        return found[1].strip() if found else "its pickle cannot be read"
    return first_line(error)


def _globals(path: Path) -> Iterator[str]:
    """Yield every name of code in a torch file's pickles, as far as they can be read."""
    with suppress(Exception):  # the file is odd in another way; the caller tells of it
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        yield from _named(BytesIO(archive.read(name)))
            return
        with path.open("rb") as file:
            for _ in range(PICKLES):
                yield from _named(file)


def _named(file: IO[bytes]) -> Iterator[str]:
    """Yield the names of code in one pickle; nothing of it is run."""
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif "UNICODE" in opcode.name:
            texts.append(str(argument))
