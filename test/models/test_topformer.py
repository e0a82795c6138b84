"""TopFormer equals the official networks."""

from pathlib import Path

import pytest
from support import reference
from support.paths import DATA
from torch import nn

from seg_perception.errors import ModelError
from seg_perception.models import create_model

DATA = DATA / "topformer"
# variant -> arch, data set, changes of the config
VARIANTS = {
    "tiny_ade20k": ("topformer_tiny", "ade20k", {}),
    "small_ade20k": ("topformer_small", "ade20k", {}),
    "base_ade20k": ("topformer_base", "ade20k", {}),
    "tiny_cityscapes": ("topformer_tiny", "cityscapes", {}),
    "base_cityscapes": ("topformer_base", "cityscapes", {}),
    "small_19cls_unofficial": ("topformer_small", "cityscapes", {}),
    "base_ade20k_c2t_stride1": ("topformer_base", "ade20k", {"token_stride": 1}),
}
BUNDLED = sorted(p.name.removesuffix(".manifest.json") for p in DATA.glob("*.manifest.json"))


def build(folder: Path, variant: str) -> nn.Module:
    arch, dataset, changes = VARIANTS[variant]
    model = create_model(arch, dataset=dataset, **changes).eval()
    model.load_state_dict(reference.state_dict(folder, variant), strict=True)
    return model


@pytest.mark.parametrize("variant", BUNDLED)
def test_outputs_equal_the_official_networks(variant: str) -> None:
    reference.check_golden(DATA, variant, build(DATA, variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_reference_variant_comes_out_right(variant: str, reference_folder: Path) -> None:
    folder = reference_folder / "topformer"
    kept = (folder / f"{variant}.golden.npz").exists()
    check = reference.check_golden if kept else reference.check_statistics
    check(folder, variant, build(folder, variant))


def test_activations_are_those_of_the_official_code() -> None:
    model = create_model("topformer_tiny")
    pyramid = model.get_submodule("backbone.tpm")
    assert not any(isinstance(m, nn.ReLU6) for m in pyramid.modules())
    assert all(m.eps == 1e-5 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ModelError, match="'topformer_huge'.*topformer_tiny"):
        create_model("topformer_huge")
    with pytest.raises(ModelError, match="'moon'.*camvid"):
        create_model("topformer_tiny", dataset="moon")
