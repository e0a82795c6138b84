"""Model families by name. Importing this package imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from seg_perception.errors import ModelError
from seg_perception.models import segformer, topformer


class Family(NamedTuple):
    """What create_model needs to know of one module of this package."""

    configs: Mapping[str, Any]
    dataset_changes: Mapping[tuple[str, str], Mapping[str, Any]]
    network: Callable[[Any, int], nn.Module]


DATASET_CLASSES = {"ade20k": 150, "cityscapes": 19, "pc59": 59, "cocostuff10k": 171, "camvid": 11}

FAMILIES = (
    Family(topformer.CONFIGS, topformer.DATASET_CHANGES, topformer.TopFormer),
    Family(segformer.CONFIGS, {}, segformer.SegFormer),
)
ARCHITECTURES = tuple(arch for family in FAMILIES for arch in family.configs)


def create_model(
    arch: str, *, dataset: str = "ade20k", num_classes: int | None = None, **changes: Any
) -> nn.Module:
    """Build an untrained network of the variant that `dataset` uses officially.

    `num_classes` overrides the data set's count, `changes` fields of the family's config.
    Raises ModelError for an unknown name; the message lists the choices.
    """
    family = next((f for f in FAMILIES if arch in f.configs), None)
    if family is None:
        raise ModelError(f"unknown architecture {arch!r}; choose one of {', '.join(ARCHITECTURES)}")
    if dataset not in DATASET_CLASSES:
        raise ModelError(
            f"unknown data set {dataset!r}; choose one of {', '.join(DATASET_CLASSES)}"
        )
    official = family.dataset_changes.get((arch, dataset), {})
    config = replace(family.configs[arch], **{**official, **changes})
    classes = DATASET_CLASSES[dataset] if num_classes is None else num_classes
    return family.network(config, classes)
