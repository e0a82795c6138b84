"""SETR equals the official networks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import reference
from support.paths import DATA
from torch import nn

from seg_perception.errors import ModelError
from seg_perception.models.layers import Form, written_as
from seg_perception.models.setr import AUXILIARY, CONFIGS, DATASET_CHANGES, SETR, UNUSED

DATA = DATA / "setr"
CLASSES = {"ade20k": 150, "cityscapes": 19, "light": 150}
LIGHT = {"image_size": 128, "width": 192, "depth": 4, "heads": 3, "taps": (0, 1, 2, 3)}
LIGHT_VARIANTS = ["naive_light", "pup_light", "mla_light"]
FULL_VARIANTS = ["naive_ade20k", "pup_ade20k", "mla_ade20k"]
UNRECORDED = ["naive_cityscapes", "pup_cityscapes", "mla_cityscapes", "naive_base_cityscapes"]


def weightless(variant: str) -> SETR:
    """Return the network without memory for its weights, which may be more than a gigabyte."""
    head, dataset = variant.rsplit("_", 1)
    arch = f"setr_{head}"
    changes = LIGHT if dataset == "light" else DATASET_CHANGES.get((arch, dataset), {})
    with torch.device("meta"):
        return SETR(replace(CONFIGS[arch], **changes), CLASSES[dataset]).eval()


def build(folder: Path, variant: str) -> SETR:
    model = weightless(variant)
    weights = reference.state_dict(folder, variant)
    used = {k: w for k, w in weights.items() if not k.startswith(AUXILIARY + UNUSED)}
    model.load_state_dict(used, strict=True, assign=True)
    return model


@pytest.mark.parametrize("variant", LIGHT_VARIANTS)
def test_outputs_equal_the_official_networks(variant: str) -> None:
    reference.check_golden(DATA, variant, build(DATA, variant))


@pytest.mark.parametrize(
    "variant", [*LIGHT_VARIANTS, *(pytest.param(v, marks=pytest.mark.heavy) for v in FULL_VARIANTS)]
)
def test_every_reference_variant_comes_out_right(
    variant: str, reference_folder: Path, tmp_path: Path
) -> None:
    folder = reference_folder / "setr"
    model = build(folder, variant)
    recorded = reference.config(folder, variant)["golden"]
    taken = {size: run for size, run in recorded.items() if run["ok"]}
    if (folder / f"{variant}.golden.npz").exists():
        reference.check_golden(folder, variant, model)
    else:
        (tmp_path / f"{variant}.config.json").write_text(json.dumps({"golden": taken}))
        reference.check_statistics(tmp_path, variant, model)
    for size in recorded.keys() - taken.keys():
        with pytest.raises(ModelError, match=size):
            model(reference.image(*map(int, size.split("x"))))


@pytest.mark.parametrize("variant", [*FULL_VARIANTS, *UNRECORDED])
def test_weights_have_the_official_names_and_shapes(variant: str, reference_folder: Path) -> None:
    path = reference_folder / "setr" / f"{variant}.manifest.json"
    official = {
        key: tuple(shape)
        for key, shape, _ in json.loads(path.read_text())["keys"]
        if not key.startswith(AUXILIARY + UNUSED)
    }
    model = weightless(variant)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == official
    by_child = reference.config(reference_folder / "setr", variant)["complexity"]["params_by_child"]
    assert sum(p.numel() for p in model.backbone.parameters()) == by_child["backbone"]


@pytest.mark.parametrize("variant", LIGHT_VARIANTS)
def test_norms_are_those_of_the_official_code(variant: str, reference_folder: Path) -> None:
    path = reference_folder / "setr" / f"{variant}.modules.json"
    official = {
        name: text
        for name, kind, text in json.loads(path.read_text())
        if kind in ("LayerNorm", "SyncBatchNorm") and not name.startswith(AUXILIARY)
    }
    modules = weightless(variant).named_modules()
    own = {n: m for n, m in modules if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d))}
    assert own.keys() == official.keys()
    for name, module in own.items():
        assert f"eps={module.eps:g}," in official[name], name


@pytest.mark.parametrize("variant", LIGHT_VARIANTS)
def test_layer_norms_alone_have_a_small_eps(variant: str) -> None:
    for name, module in weightless(variant).named_modules():
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            assert module.eps == (1e-6 if isinstance(module, nn.LayerNorm) else 1e-5), name


def test_other_sizes_are_refused() -> None:
    model = weightless("naive_light")
    for size in ((128, 160), (144, 128), (96, 96), (512, 512)):
        with pytest.raises(ModelError, match=f"{size[0]}x{size[1]}.*128x128"):
            model.scores(torch.empty(1, 3, *size))


@pytest.mark.parametrize("variant", LIGHT_VARIANTS)
@torch.no_grad()
def test_every_form_gives_the_same_scores(variant: str) -> None:
    model = build(DATA, variant)
    x = reference.image(128, 128)
    expected = model(x)
    with written_as(Form.MATRICES):
        actual = model(x)
    limit = reference.tolerance(expected, reference.in_float64(model, x))
    assert float((actual - expected).abs().max()) <= limit


@torch.no_grad()
def test_a_batch_is_segmented_image_by_image() -> None:
    model = build(DATA, "naive_light")
    x = torch.cat([reference.image(128, 128), -reference.image(128, 128)])
    together = model(x)
    apart = torch.cat([model(x[:1]), model(x[1:])])
    limit = reference.tolerance(together, reference.in_float64(model, x))
    assert float((together - apart).abs().max()) <= limit
