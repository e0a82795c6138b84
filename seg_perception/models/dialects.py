"""How other libraries write the weights of a family: tables of renames, and what applies them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

OFFICIAL = "official"
Conversion = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Rename:
    """Weights of a dialect and what they are called here.

    `{name}` in `given` stands for one part of a key; `own` repeats it, and `{name+1}` or
    `{5-name}` counts. Several keys are one entry: `convert` makes the tensors of `own` from
    those of `given`.
    """

    given: str | tuple[str, ...]
    own: str | tuple[str, ...]
    convert: Conversion | None = None


@dataclass(frozen=True)
class Dialect:
    """How one library writes the weights of the architectures `archs`.

    `changes` are fields of the family's config. Keys that begin with one of `ignored` are not
    needed for inference. Own weights that begin with one of `zeros` are 0, or never read, in this
    dialect, and may be missing.
    """

    name: str
    archs: tuple[str, ...]
    renames: tuple[Rename, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()


class Translated(NamedTuple):
    """Weights by their own keys, and the keys that no rename takes."""

    weights: dict[str, Tensor]
    left: list[str]


def translate(weights: Mapping[str, Tensor], dialect: Dialect) -> Translated:
    """Rename a state dict of a dialect; every key is popped once, or is among those left."""
    left = {k: v for k, v in weights.items() if not k.startswith(dialect.ignored)}
    if dialect.name == OFFICIAL:
        return Translated(left, [])
    own: dict[str, Tensor] = {}
    for rename in dialect.renames:
        keys, names = _tuple(rename.given), _tuple(rename.own)
        pattern = _pattern(keys[0])
        for match in [found for key in left if (found := pattern.fullmatch(key))]:
            given = [_filled(key, match) for key in keys]
            if not all(key in left for key in given):
                continue
            tensors = _converted(rename, [left[key] for key in given])
            made = [_filled(name, match) for name in names]
            if len(tensors) != len(made) or any(name in own for name in made):
                continue
            own |= dict(zip(made, tensors, strict=True))
            for key in given:
                del left[key]
    return Translated(own, list(left))


def joined(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return one tensor of several, one after the other: keys and values of an attention."""
    return [torch.cat(list(tensors))]


def query_and_rest(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Split packed queries, keys and values into the queries and the rest."""
    third = tensors[0].shape[0] // 3
    return [tensors[0][:third], tensors[0][third:]]


def as_linear(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Make the weight of a 1x1 convolution that of a linear layer; a bias stays as it is."""
    return [t[:, :, 0, 0] if t.shape[2:] == (1, 1) else t for t in tensors]


def reversed_quarters(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Reverse the order of four inputs that a convolution reads; a bias stays as it is."""
    return [torch.cat(t.chunk(4, dim=1)[::-1], dim=1) if t.ndim == 4 else t for t in tensors]


def _converted(rename: Rename, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the converted tensors, or none where their shapes do not allow it."""
    if rename.convert is None:
        return tensors
    try:
        return rename.convert(tensors)
    except (RuntimeError, IndexError):  # a tensor of another shape than the dialect's
        return ()


def _tuple(keys: str | tuple[str, ...]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else keys


def _pattern(key: str) -> re.Pattern[str]:
    """Return what matches the keys that a template stands for."""
    parts = re.split(r"\{(\w+)\}", key)
    names = (f"(?P<{part}>[^.]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile("".join(names))


def _filled(key: str, match: re.Match[str]) -> str:
    """Fill a template with what matched; `{i+1}` and `{5-i}` are reckoned."""

    def value(found: re.Match[str]) -> str:
        minuend, name, addend = found.groups()
        if minuend or addend:
            number = int(match[name])
            return str(int(minuend) - number if minuend else number + int(addend))
        return match[name]

    return re.sub(r"\{(?:(\d+)-)?(\w+?)(?:\+(\d+))?\}", value, key)
