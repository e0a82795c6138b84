"""Which network a state dict is of: dialect, architecture and class count, by keys and shapes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seg_perception.errors import CheckpointError
from seg_perception.models import (
    DATASET_CLASSES,
    FAMILIES,
    Family,
    class_counts,
    config_of,
    family_of,
)
from seg_perception.models.dialects import Dialect, translate
from seg_perception.models.loading import Shapes, shape_misfit, shapes_of

UNLIKE = 0.2  # share of common keys below which no architecture is worth naming


class Fit(NamedTuple):
    """A network that a state dict fits, and its weights by the network's own keys."""

    dialect: Dialect
    arch: str
    config: Any
    classes: int
    weights: dict[str, Tensor]

    def build(self) -> nn.Module:
        """Return the network without data."""
        with torch.device("meta"):
            return family_of(self.arch).network(self.config, self.classes)

    def changes(self, dataset: str) -> dict[str, Any]:
        """Return the fields of the config that are not those of the official variant."""
        usual = config_of(self.arch, dataset)
        names = [field.name for field in fields(usual)]
        return {
            name: getattr(self.config, name)
            for name in names
            if getattr(self.config, name) != getattr(usual, name)
        }


def recognise(
    weights: Mapping[str, Tensor], path: Path, *, arch: str = "", dataset: str = ""
) -> Fit:
    """Return the one network that a state dict of any dialect fits, key by key.

    `arch` and `dataset` leave the others out where they are given. CheckpointError names what
    differs from the nearest network, or the networks that fit equally.
    """
    if arch and dataset:
        class_counts(arch, dataset)  # unknown names
    fits = list(_fits(weights, arch=arch, dataset=dataset))
    if not fits:
        raise CheckpointError(f"{path} {_refusal(weights, arch=arch, dataset=dataset)}")
    archs = list(dict.fromkeys(fit.arch for fit in fits))
    if len(archs) > 1:
        raise CheckpointError(
            f"{path} fits {' and '.join(archs)} equally, and weights do not tell which one it is: "
            f"say --arch {archs[0]} or --arch {archs[1]}"
        )
    if len(fits) > 1:
        variants = " and ".join(str(fit.changes("")) for fit in fits)
        raise CheckpointError(
            f"{path} fits {len(fits)} variants of {archs[0]} equally ({variants}): say the "
            "--dataset that it was trained on"
        )
    return fits[0]


def _fits(weights: Mapping[str, Tensor], *, arch: str = "", dataset: str = "") -> Iterator[Fit]:
    """Yield every network that a state dict fits."""
    for family in FAMILIES if not arch else (family_of(arch),):
        for dialect in (family.official(), *family.dialects):
            own, left = translate(weights, dialect)
            classes = _class_count(family, own)
            if left or not classes:
                continue
            for name in [a for a in dialect.archs if arch in ("", a)]:
                if dataset and classes not in class_counts(name, dataset):
                    continue
                for config in _configs(family, dialect, name, own, dataset):
                    full = _with_zeros(own, dialect, name, config, classes)
                    if not shape_misfit(shapes_of(full), _shapes(name, config, classes)):
                        yield Fit(dialect, name, config, classes, full)


def _configs(
    family: Family, dialect: Dialect, arch: str, own: Mapping[str, Tensor], dataset: str
) -> list[Any]:
    """Return the different configs that an architecture may have in a dialect."""
    datasets = (dataset,) if dataset else ("", *(d for a, d in family.dataset_changes if a == arch))
    changes = {**dialect.changes, **family.told(own)}
    return list(dict.fromkeys(replace(config_of(arch, d), **changes) for d in datasets))


def _with_zeros(
    own: Mapping[str, Tensor], dialect: Dialect, arch: str, config: Any, classes: int
) -> dict[str, Tensor]:
    """Add the weights that the dialect leaves out because they are 0 or never read."""
    lacking = {
        key: torch.zeros(shape)
        for key, shape in (_shapes(arch, config, classes) if dialect.zeros else {}).items()
        if key not in own and key.startswith(dialect.zeros)
    }
    return {**own, **lacking}


def _class_count(family: Family, own: Mapping[str, Tensor]) -> int:
    """Return how many classes a network of these weights tells apart, 0 where none are there."""
    key = next((key for key in family.class_keys if key in own), None)
    return int(own[key].shape[0]) if key and own[key].ndim else 0


@lru_cache(maxsize=64)
def _shapes(arch: str, config: Any, classes: int) -> Shapes:
    """Return the shapes of a network's weights; no memory is taken for data."""
    with torch.device("meta"):
        return shapes_of(family_of(arch).network(config, classes).state_dict())


def _refusal(weights: Mapping[str, Tensor], *, arch: str, dataset: str) -> str:
    """Say why a state dict fits nothing that was asked for, and what it fits."""
    if not dataset:
        near, other = _nearest(weights, arch=arch), next(_fits(weights), None) if arch else None
        if other is not None:
            return f"does not fit {arch}: {near.difference}; --arch {other.arch} fits"
        if near.alike < UNLIKE:
            return f"is no checkpoint known here: {_unlike(weights)}"
        return (
            f"is of no dialect {f'of {arch}' if arch else 'known here'}; the nearest is "
            f"{near.dialect} of {near.arch} ({near.share:.0%} of all keys fit): {near.difference}"
        )
    if not arch:
        return f"fits no network of {dataset}; {_advice(weights, refused=('', dataset))}"
    return (
        f"does not fit {arch} on {dataset}: {_difference(weights, arch, dataset)}; "
        f"{_advice(weights, refused=(arch, dataset))}"
    )


def _unlike(weights: Mapping[str, Tensor]) -> str:
    return f"no architecture of this package fits it: {', '.join(list(weights)[:3])} ..."


def _difference(weights: Mapping[str, Tensor], arch: str, dataset: str) -> str:
    """Say why a state dict does not fit an architecture on a data set, as plainly as can be."""
    family = family_of(arch)
    dialect = _likely_dialect(weights, family)
    own, left = translate(weights, dialect)
    usual = DATASET_CLASSES[dataset]
    classes = _class_count(family, own) or usual
    (config,) = _configs(family, dialect, arch, own, dataset)
    full = shapes_of(_with_zeros(own, dialect, arch, config, classes)) | dict.fromkeys(left, ())
    wrong = shape_misfit(full, _shapes(arch, config, classes))
    return wrong or f"it tells {classes} classes apart, {dataset} has {usual}"


def _advice(weights: Mapping[str, Tensor], *, refused: tuple[str, str]) -> str:
    """Say which architecture and data set fit a state dict, or fit it best."""
    fit = next(_fits(weights), None)
    if fit is not None:
        known = [d for d in DATASET_CLASSES if next(_fits(weights, arch=fit.arch, dataset=d), None)]
        if known:
            return f"--arch {fit.arch} --dataset {known[0]} fits"
        return (
            f"it is {fit.arch} with {fit.classes} classes, as many as no data set known here: "
            "import it without one"
        )
    near = _nearest(weights)
    if near.alike < UNLIKE:
        return _unlike(weights)
    if near.arch == refused[0]:
        return f"no other data set of {near.arch} fits it either: give a checkpoint of one of them"
    return f"{near.arch} fits best ({near.share:.0%} of all keys): {near.difference}"


class _Near(NamedTuple):
    """A network that a state dict resembles: shares of keys with their shapes, and of names."""

    share: float
    alike: float
    dialect: str
    arch: str
    difference: str


def _nearest(weights: Mapping[str, Tensor], *, arch: str = "") -> _Near:
    """Return the network that has most keys and shapes in common with a state dict."""
    families = FAMILIES if not arch else (family_of(arch),)
    alike, family, dialect = max(
        ((_likeness(weights, f, d), f, d) for f in families for d in (f.official(), *f.dialects)),
        key=lambda found: found[0],
    )
    own, left = translate(weights, dialect)
    near = []
    for name in [a for a in dialect.archs if arch in ("", a)] or [arch]:
        for config in _configs(family, dialect, name, own, ""):
            classes = _class_count(family, own) or 1
            full = shapes_of(_with_zeros(own, dialect, name, config, classes))
            given, wanted = full | dict.fromkeys(left, ()), _shapes(name, config, classes)
            same = len([key for key, shape in wanted.items() if given.get(key) == shape])
            share = same / len(given.keys() | wanted.keys())
            near.append(_Near(share, alike, dialect.name, name, shape_misfit(given, wanted)))
    return max(near, key=lambda found: found.share)


def _likely_dialect(weights: Mapping[str, Tensor], family: Family) -> Dialect:
    return max((family.official(), *family.dialects), key=lambda d: _likeness(weights, family, d))


def _likeness(weights: Mapping[str, Tensor], family: Family, dialect: Dialect) -> float:
    """Return the share of names that a state dict and a dialect have in common, numbers aside."""
    own, left = translate(weights, dialect)
    given = {re.sub(r"\d+", "#", key) for key in (*own, *left)}
    config = replace(config_of(dialect.archs[0], ""), **dialect.changes)
    wanted = {re.sub(r"\d+", "#", key) for key in _shapes(dialect.archs[0], config, 1)}
    return len(given & wanted) / len(given | wanted)
