"""The variants that the package builds, read from catalogue.yaml; needs no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from seg_perception.errors import ModelError

MEAN = (123.675, 116.28, 103.53)  # RGB, 0..255: ImageNet's
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Entry:
    """One variant. `gmacs` are 1e9 multiply-adds at `size` (height, width).

    `published_gmacs` and `miou` (percent, single scale) are as published, None where nothing is.
    """

    arch: str
    dataset: str
    parameters: int
    gmacs: float
    size: tuple[int, int]
    published_gmacs: float | None
    miou: float | None
    miou_source: str
    paper: str
    license: str
    source: str
    checkpoint: str | None


@dataclass(frozen=True)
class Preparation:
    """What the network was trained to see, what it gives, and how its authors test it.

    `output` holds keys of OutputSpec, `official` of OfficialSpec.
    """

    size: tuple[int, int]
    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: Mapping[str, Any]
    official: Mapping[str, Any] | None


def preparation(arch: str, dataset: str) -> Preparation:
    """Return how images are prepared for an architecture trained on a data set.

    A data set that its authors did not use is prepared as their first one, and has no official
    tests. ModelError for an unknown architecture lists the known ones.
    """
    for family in _families().values():
        if any(row["arch"] == arch for row in family["variants"]):
            test = _test(family, arch, dataset)
            return Preparation(
                size=(test["size"][0], test["size"][1]),
                color=family.get("color", "RGB"),
                mean=tuple(family.get("mean", MEAN)),
                std=tuple(family.get("std", STD)),
                output=family.get("output", {}),
                official=test["official"] if dataset in family["tests"] else None,
            )
    known = dict.fromkeys(entry.arch for entry in ENTRIES)
    raise ModelError(f"unknown architecture {arch!r}; choose one of {', '.join(known)}")


def find(arch: str, dataset: str) -> Entry | None:
    """Return the entry of a variant that its authors published, or None."""
    return next((e for e in ENTRIES if (e.arch, e.dataset) == (arch, dataset)), None)


@lru_cache(maxsize=1)
def _families() -> dict[str, dict[str, Any]]:
    text = resources.files("seg_perception").joinpath("catalogue.yaml").read_text("utf-8")
    families: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return families


def _test(family: Mapping[str, Any], arch: str, dataset: str) -> dict[str, Any]:
    tests = {**family["tests"], **family.get("changes", {}).get(arch, {})}
    test: dict[str, Any] = tests.get(dataset) or next(iter(tests.values()))
    return test


def _entries() -> Iterator[Entry]:
    for family in _families().values():
        for row in family["variants"]:
            size = _test(family, row["arch"], row["dataset"])["size"]
            yield Entry(
                size=(size[0], size[1]),
                paper=family["paper"],
                license=family["license"],
                source=family["source"],
                miou_source=family["miou_source"],
                **{"published_gmacs": None, "miou": None, "checkpoint": None, **row},
            )


ENTRIES = tuple(_entries())


def markdown() -> str:
    """Return the list as the page docs/models.md."""
    lines = [
        "# Models",
        "",
        "Written by `seg-perception models --markdown > docs/models.md`; do not edit.",
        "",
        "One command makes an official checkpoint a verified model file:",
        "",
        "```",
        "seg-perception import CHECKPOINT --arch ARCH --dataset DATASET -o MODEL.onnx",
        "```",
        "",
        "Parameters are those of the official network. GMACs, 10^9 multiply-adds at the size,",
        "are counted here on the network; next to them stands what its authors publish, where",
        "they do. mIoU is theirs, single scale, and was not measured here.",
    ]
    for family in _families().values():
        names = {row["arch"] for row in family["variants"]}
        entries = [e for e in ENTRIES if e.arch in names]
        first = entries[0]
        lines += [
            "",
            f"## {first.paper}",
            "",
            f"Code: <{first.source}>. Licence of the official weights: {first.license}. mIoU from "
            f"{first.miou_source}.",
            "",
            "| arch | dataset | parameters | size | GMACs | published | mIoU | checkpoint |",
            "|---|---|---:|---|---:|---:|---:|---|",
        ]
        lines += [_row(e) for e in entries]
    return "\n".join(lines) + "\n"


def _row(entry: Entry) -> str:
    link = f"[link](<{entry.checkpoint}>)" if entry.checkpoint else ""
    cells = (
        f"`{entry.arch}`",
        f"`{entry.dataset}`",
        f"{entry.parameters:,}",
        "x".join(map(str, entry.size)),
        f"{entry.gmacs:g}",
        "" if entry.published_gmacs is None else f"{entry.published_gmacs:g}",
        "" if entry.miou is None else f"{entry.miou:g}",
        link,
    )
    return f"| {' | '.join(cells)} |"
