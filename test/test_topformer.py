"""TopFormer equals the official networks."""

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from torch import nn

from seg_perception.errors import ModelError
from seg_perception.models import create_model

DATA = Path(__file__).parent / "data" / "topformer"
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


def check_golden(folder: Path, variant: str) -> None:
    model = build(folder, variant)
    golden = dict(np.load(folder / f"{variant}.golden.npz"))
    noise = reference.config(folder, variant)["golden"]
    for size in sorted({key.split("|")[0] for key in golden}):
        x = reference.picture(*map(int, size.split("x")))
        with torch.no_grad():
            outputs = {"logits": model(x), "final": model.scores(x)}
        for name, output in outputs.items():
            expected = golden[f"{size}|{name}"]
            actual = reference.stored_part(golden, f"{size}|{name}", output.numpy())
            limit = max(1e-4 * expected.std(), 5 * noise[size]["f32_vs_f64_maxabs"][name])
            assert np.abs(actual - expected).max() <= limit, (size, name)


@pytest.mark.parametrize("variant", BUNDLED)
def test_outputs_equal_the_official_networks(variant: str) -> None:
    check_golden(DATA, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_reference_variant_comes_out_right(variant: str, reference_folder: Path) -> None:
    folder = reference_folder / "topformer"
    if (folder / f"{variant}.golden.npz").exists():
        check_golden(folder, variant)
        return
    # No golden was recorded: the statistics of the official output must come out.
    model = build(folder, variant)
    for size, recorded in reference.config(folder, variant)["golden"].items():
        with torch.no_grad():
            final = model.scores(reference.picture(*map(int, size.split("x"))))
        assert list(final.shape) == recorded["final_shape"]
        assert float(final.abs().max()) == pytest.approx(recorded["final_absmax"], rel=1e-5)
        spread = float(final[0].flatten(1).std(1).mean())
        assert len(final.argmax(1).unique()) == recorded["n_argmax_classes"]
        assert spread == pytest.approx(recorded["final_std_space"], rel=0.01)
        top = final[0].flatten(1).topk(2, 0).values
        gap = float(np.median((top[0] - top[1]).numpy()))
        assert gap == pytest.approx(recorded["median_top2_gap"], rel=1e-3)


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
