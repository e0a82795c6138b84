"""AFFormer equals the official networks."""

import json
from pathlib import Path

import pytest
import torch
from support import reference
from support.paths import DATA
from torch import nn

from seg_perception.models.afformer import CONFIGS, UNUSED, AFFormer
from seg_perception.models.layers import Form, written_as

DATA = DATA / "afformer"
CLASSES = {"ade20k": 150, "cityscapes": 19}
VARIANTS = [f"{size}_{dataset}" for size in ("tiny", "small", "base") for dataset in CLASSES]
BUNDLED = "small_cityscapes"


def build(folder: Path, variant: str) -> AFFormer:
    size, dataset = variant.split("_")
    model = AFFormer(CONFIGS[f"afformer_{size}"], CLASSES[dataset]).eval()
    weights = reference.state_dict(folder, variant)
    used = {k: w for k, w in weights.items() if not k.startswith(UNUSED)}
    model.load_state_dict(used, strict=True)
    return model


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_outputs_equal_the_official_networks() -> None:
    reference.check_golden(DATA, BUNDLED, build(DATA, BUNDLED))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_reference_variant_comes_out_right(variant: str, reference_folder: Path) -> None:
    folder = reference_folder / "afformer"
    model = build(folder, variant)
    kept = (folder / f"{variant}.golden.npz").exists()
    check = reference.check_golden if kept else reference.check_statistics
    check(folder, variant, model)
    official = reference.config(folder, variant)["complexity"]["params_by_child"]
    assert count(model.backbone) == official["backbone"]


@pytest.mark.parametrize("variant", ["tiny_ade20k", "small_ade20k", "base_ade20k"])
def test_norms_are_those_of_the_official_code(variant: str, reference_folder: Path) -> None:
    path = reference_folder / "afformer" / f"{variant}.modules.json"
    kinds = (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)
    official = {
        name: text
        for name, kind, text in json.loads(path.read_text())
        if kind in {k.__name__ for k in kinds} and not name.startswith(UNUSED)
    }
    model = AFFormer(CONFIGS[f"afformer_{variant.split('_')[0]}"], 150)
    own = {n: m for n, m in model.named_modules() if isinstance(m, kinds)}
    assert own.keys() == official.keys()
    for name, module in own.items():
        assert f"eps={module.eps:g}," in official[name], name


def test_layer_norms_alone_have_a_small_eps() -> None:
    for name, module in AFFormer(CONFIGS["afformer_tiny"], 19).named_modules():
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)):
            assert module.eps == (1e-6 if isinstance(module, nn.LayerNorm) else 1e-5), name


def test_layers_of_a_stage_share_their_position_encodings() -> None:
    # So an optimiser sees them once, though the state dict names them several times.
    encoder = AFFormer(CONFIGS["afformer_tiny"], 19).get_submodule(
        "backbone.mhca_stages.2.mhca_blks.0"
    )
    first, *others = encoder.get_submodule("MHCA_layers").children()
    for layer in others:
        assert layer.get_submodule("cpe") is first.get_submodule("cpe")
        assert layer.get_submodule("factoratt_crpe.crpe") is encoder.get_submodule("crpe")


@pytest.mark.parametrize("form", [Form.PLAIN, Form.MATRICES])
@torch.no_grad()
def test_every_form_gives_the_same_scores(form: Form) -> None:
    model = build(DATA, BUNDLED)
    x = reference.image(72, 104)  # pools 9x13, 5x7 and 3x4 maps into up to 6x6 cells
    expected = model(x)
    with written_as(form):
        actual = model(x)
    limit = reference.tolerance(expected, reference.in_float64(model, x))
    assert float((actual - expected).abs().max()) <= limit
