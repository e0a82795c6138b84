"""Model families by name. Importing this package imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from seg_perception.errors import ModelError
from seg_perception.models import afformer, hrformer, segformer, segvit, setr, topformer


class Family(NamedTuple):
    """What is needed of one module of this package.

    `dataset_changes` are fields of a config by (arch, data set). `ignored` are the beginnings of
    keys in official checkpoints that this package does not build: auxiliary heads, unused weights.
    `classes` are counts that differ from the data set's: Pascal Context with its background.
    """

    configs: Mapping[str, Any]
    dataset_changes: Mapping[tuple[str, str], Mapping[str, Any]]
    network: Callable[[Any, int], nn.Module]
    ignored: tuple[str, ...] = ()
    classes: Mapping[str, int] = MappingProxyType({})


DATASET_CLASSES = {"ade20k": 150, "cityscapes": 19, "pc59": 59, "cocostuff10k": 171, "camvid": 11}
WITH_BACKGROUND = {"pc59": 60}
FAMILIES = (
    Family(topformer.CONFIGS, topformer.DATASET_CHANGES, topformer.TopFormer),
    Family(afformer.CONFIGS, {}, afformer.AFFormer, afformer.UNUSED),
    Family(segformer.CONFIGS, {}, segformer.SegFormer),
    Family(hrformer.CONFIGS, {}, hrformer.HRFormer),
    Family(segvit.CONFIGS, segvit.DATASET_CHANGES, segvit.SegViT, segvit.UNUSED, WITH_BACKGROUND),
    Family(
        setr.CONFIGS, setr.DATASET_CHANGES, setr.SETR, setr.AUXILIARY + setr.UNUSED, WITH_BACKGROUND
    ),
)
ARCHITECTURES = tuple(arch for family in FAMILIES for arch in family.configs)


def create_model(
    arch: str, *, dataset: str = "ade20k", num_classes: int | None = None, **changes: Any
) -> nn.Module:
    """Build an untrained network of the variant that `dataset` uses officially.

    `num_classes` overrides the data set's count, `changes` fields of the family's config.
    Raises ModelError for an unknown name; the message lists the choices.
    """
    family, counts = family_of(arch), class_counts(arch, dataset)
    official = family.dataset_changes.get((arch, dataset), {})
    config = replace(family.configs[arch], **{**official, **changes})
    return family.network(config, counts[0] if num_classes is None else num_classes)


def class_counts(arch: str, dataset: str) -> tuple[int, ...]:
    """Return how many classes the networks of an architecture tell apart, the usual count first.

    ModelError for an unknown name lists the choices.
    """
    family = family_of(arch)
    if dataset not in DATASET_CLASSES:
        raise ModelError(
            f"unknown data set {dataset!r}; choose one of {', '.join(DATASET_CLASSES)}"
        )
    count = DATASET_CLASSES[dataset]
    return tuple(dict.fromkeys((family.classes.get(dataset, count), count)))


def family_of(arch: str) -> Family:
    """Return the family of an architecture; ModelError lists the known ones."""
    for family in FAMILIES:
        if arch in family.configs:
            return family
    raise ModelError(f"unknown architecture {arch!r}; choose one of {', '.join(ARCHITECTURES)}")
