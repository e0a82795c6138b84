"""Model families by name. Importing this package imports torch."""

from dataclasses import replace
from typing import Any

from torch import nn

from seg_perception.errors import ModelError
from seg_perception.models import topformer

DATASET_CLASSES = {"ade20k": 150, "cityscapes": 19, "pc59": 59, "cocostuff10k": 171, "camvid": 11}

ARCHITECTURES = tuple(topformer.CONFIGS)


def create_model(
    arch: str, *, dataset: str = "ade20k", num_classes: int | None = None, **changes: Any
) -> nn.Module:
    """Build an untrained network of the variant that `dataset` uses officially.

    `num_classes` overrides the data set's count, `changes` fields of the family's config.
    Raises ModelError for an unknown name; the message lists the choices.
    """
    if arch not in topformer.CONFIGS:
        raise ModelError(f"unknown architecture {arch!r}; choose one of {', '.join(ARCHITECTURES)}")
    if dataset not in DATASET_CLASSES:
        raise ModelError(
            f"unknown data set {dataset!r}; choose one of {', '.join(DATASET_CLASSES)}"
        )
    official = topformer.DATASET_CHANGES.get((arch, dataset), {})
    config = replace(topformer.CONFIGS[arch], **{**official, **changes})
    classes = DATASET_CLASSES[dataset] if num_classes is None else num_classes
    return topformer.TopFormer(config, classes)
