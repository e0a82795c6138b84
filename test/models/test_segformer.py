"""SegFormer equals the official networks."""

import json
from pathlib import Path

import pytest
import torch
from support import bounds, reference
from support.paths import DATA
from torch import nn

from seg_perception.models import create_model
from seg_perception.models.layers import Form, simplified, written_as

DATA = DATA / "segformer"
VARIANTS = [
    "b0_ade20k", "b0_cityscapes", "b1_ade20k", "b1_cityscapes", "b2_ade20k", "b3_ade20k",
    "b4_ade20k", "b5_ade20k", "b5_cityscapes",
]  # fmt: skip


def build(folder: Path, variant: str) -> nn.Module:
    size, dataset = variant.split("_")
    model = create_model(f"segformer_{size}", dataset=dataset).eval()
    model.load_state_dict(reference.state_dict(folder, variant), strict=True)
    return model


def test_outputs_equal_the_official_networks() -> None:
    reference.check_golden(DATA, "b0_cityscapes", build(DATA, "b0_cityscapes"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_reference_variant_comes_out_right(variant: str, reference_folder: Path) -> None:
    folder = reference_folder / "segformer"
    kept = (folder / f"{variant}.golden.npz").exists()
    check = reference.check_golden if kept else reference.check_statistics
    check(folder, variant, build(folder, variant))


def test_norms_have_the_official_eps(reference_folder: Path) -> None:
    path = reference_folder / "segformer" / "b0_ade20k.modules.json"
    norms = {name: text for name, kind, text in json.loads(path.read_text()) if kind == "LayerNorm"}
    model = create_model("segformer_b0")
    own = {n: m for n, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
    assert own.keys() == norms.keys()
    for name, module in own.items():
        assert f"eps={module.eps:g}," in norms[name], name


def test_blocks_and_embeddings_differ_in_eps() -> None:
    # No golden can see it: the effect is as small as float32's rounding.
    for name, module in create_model("segformer_b0").named_modules():
        if isinstance(module, nn.LayerNorm):
            coarse = "patch_embed" in name or name.endswith("attn.norm")
            assert module.eps == (1e-5 if coarse else 1e-6), name


@pytest.mark.parametrize("form", [Form.TORCH, Form.MATRICES])
def test_the_fused_head_is_the_same_function(form: Form) -> None:
    torch.manual_seed(0)
    model = create_model("segformer_b0").double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    x = torch.randn(1, 3, 72, 104, dtype=torch.float64)
    with torch.no_grad(), written_as(form):
        expected, fused = model(x), simplified(model)(x)
    # Float64 sums of 256 and 1024 terms; the resizing matrices are float32, one after the other.
    limit = (256 + 1024) * bounds.EPS64 if form is Form.TORCH else bounds.EPS32
    assert float((fused - expected).abs().max()) <= limit * float(expected.abs().max())
