"""Model families by name. Importing this package imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor, nn

from seg_perception.errors import ModelError
from seg_perception.models import (
    afformer,
    hrformer,
    segformer,
    segformer_dialects,
    segvit,
    setr,
    setr_dialects,
    topformer,
)
from seg_perception.models.dialects import OFFICIAL, Dialect


class Family(NamedTuple):
    """What is needed of one module of this package.

    `dataset_changes` are fields of a config by (arch, data set). `class_keys` are weights whose
    first dimension is the number of classes; the first that is there counts. `ignored` are the
    beginnings of keys in official checkpoints that this package does not build: auxiliary heads,
    unused weights. `classes` are counts that differ from the data set's: Pascal Context with its
    background. `dialects` are how other libraries write the weights, `told` returns the fields of
    a config that the weights show, `expected_config` what config.json of transformers says of one.
    """

    configs: Mapping[str, Any]
    dataset_changes: Mapping[tuple[str, str], Mapping[str, Any]]
    network: Callable[[Any, int], nn.Module]
    class_keys: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    classes: Mapping[str, int] = MappingProxyType({})
    dialects: tuple[Dialect, ...] = ()
    told: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda _: {}
    expected_config: Callable[[Any], dict[str, Any]] = lambda _: {}

    def official(self) -> Dialect:
        """Return the dialect of the official repository: its keys are those of the network."""
        return Dialect(OFFICIAL, tuple(self.configs), (), ignored=self.ignored)


DATASET_CLASSES = {"ade20k": 150, "cityscapes": 19, "pc59": 59, "cocostuff10k": 171, "camvid": 11}
WITH_BACKGROUND = {"pc59": 60}
FAMILIES = (
    Family(
        topformer.CONFIGS, topformer.DATASET_CHANGES, topformer.TopFormer,
        ("decode_head.conv_seg.bias",),
    ),
    Family(
        afformer.CONFIGS, {}, afformer.AFFormer, ("decode_head.conv_seg.bias",), afformer.UNUSED
    ),
    Family(
        segformer.CONFIGS, {}, segformer.SegFormer, ("decode_head.linear_pred.bias",),
        dialects=segformer_dialects.DIALECTS, expected_config=segformer_dialects.expected_config,
    ),
    Family(hrformer.CONFIGS, {}, hrformer.HRFormer, ("cls_head.bias",)),
    Family(
        segvit.CONFIGS, segvit.DATASET_CHANGES, segvit.SegViT,
        ("decode_head.atm.q.weight", "decode_head.q.weight"), segvit.UNUSED, WITH_BACKGROUND,
    ),
    Family(
        setr.CONFIGS, setr.DATASET_CHANGES, setr.SETR,
        ("decode_head.cls.bias", "decode_head.conv_4.bias", "decode_head.conv_1.bias"),
        setr.AUXILIARY + setr.UNUSED, WITH_BACKGROUND, setr_dialects.DIALECTS, setr.told,
    ),
)  # fmt: skip
ARCHITECTURES = tuple(arch for family in FAMILIES for arch in family.configs)


def create_model(
    arch: str, *, dataset: str = "ade20k", num_classes: int | None = None, **changes: Any
) -> nn.Module:
    """Build an untrained network of the variant that `dataset` uses officially.

    `num_classes` overrides the data set's count, `changes` fields of the family's config; with
    `num_classes`, `dataset` may be empty. Raises ModelError for an unknown name or field; the
    message lists the choices.
    """
    family = family_of(arch)
    if dataset or num_classes is None:
        usual = class_counts(arch, dataset)[0]
        num_classes = usual if num_classes is None else num_classes
    try:
        config = replace(config_of(arch, dataset), **changes)
    except TypeError as error:
        raise ModelError(
            f"{arch} has no such fields as {sorted(changes)}: {error}; import its checkpoint again"
        ) from error
    return family.network(config, num_classes)


def config_of(arch: str, dataset: str) -> Any:
    """Return the config of the variant that a data set, if it is one, uses officially."""
    family = family_of(arch)
    return replace(family.configs[arch], **family.dataset_changes.get((arch, dataset), {}))


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
