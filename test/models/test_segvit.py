"""SegViT equals the official networks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference
from support.paths import DATA
from torch import nn
from torch.testing import assert_close

from seg_perception.errors import ModelError
from seg_perception.models import segvit

DATA = DATA / "segvit"
LIGHT = {"width": 192, "depth": 6, "heads": 3, "size": 128, "head_width": 96, "head_heads": 4}
# variant -> arch, data set, classes (its Pascal Context configuration counts the background),
# changes of the config
VARIANTS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "light": ("segvit_vitb", "ade20k", 150, {**LIGHT, "taps": (1, 3, 5)}),
    "light_shrunk": (
        "segvit_vitl_shrunk", "ade20k", 150, {**LIGHT, "taps": (2, 5), "shrink_at": 3}
    ),
    "vitb_ade20k_512": ("segvit_vitb", "ade20k", 150, {}),
    "vitl_ade20k_640": ("segvit_vitl", "ade20k", 150, {}),
    "vitl_cocostuff10k_512": ("segvit_vitl", "cocostuff10k", 171, {}),
    "vitl_pc59_480": ("segvit_vitl", "pc59", 60, {}),
    "vitl_shrunk_ade20k_640": ("segvit_vitl_shrunk", "ade20k", 150, {}),
}  # fmt: skip
LIGHTS = ["light", "light_shrunk"]


def network(variant: str) -> nn.Module:
    arch, dataset, classes, changes = VARIANTS[variant]
    official = segvit.DATASET_CHANGES.get((arch, dataset), {})
    config = replace(segvit.CONFIGS[arch], **{**official, **changes})
    return segvit.SegViT(config, classes).eval()


def build(folder: Path, variant: str) -> nn.Module:
    with torch.device("meta"):
        model = network(variant)
    weights = reference.state_dict(folder, variant)
    used = {k: v for k, v in weights.items() if not k.startswith(segvit.UNUSED)}
    model.load_state_dict(used, strict=True, assign=True)
    return model


def stored_part(golden: dict[str, np.ndarray], key: str, array: np.ndarray) -> np.ndarray:
    if f"{key}__flatstride" not in golden:
        return reference.stored_part(golden, key, array)
    if array.ndim == 3 and len(golden[f"{key}__shape"]) == 4:  # the official features are planes
        array = array.transpose(0, 2, 1)
    assert golden[f"{key}__shape"].prod() == array.size
    return array.reshape(-1)[:: golden[f"{key}__flatstride"]][: len(golden[key])]


def check_golden(folder: Path, variant: str) -> None:
    model = build(folder, variant)
    golden = dict(np.load(folder / f"{variant}.golden.npz"))
    recorded = reference.config(folder, variant)["golden"]
    for size in sorted({key.split("|")[0] for key in golden}):
        x = reference.image(*map(int, size.split("x")))
        actual = reference.outputs(model, x)
        with torch.no_grad():
            features = model.get_submodule("backbone")(x)
        actual |= {f"feat{i}": tokens.numpy() for i, tokens in enumerate(features)}
        noise = recorded[size].get("f32_vs_f64_maxabs") or {}
        for name in [n for n in actual if f"{size}|{n}" in golden]:
            expected = golden[f"{size}|{name}"]
            difference = np.abs(stored_part(golden, f"{size}|{name}", actual[name]) - expected)
            limit = max(1e-4 * expected.std(), 5 * noise.get(name, 0.0))
            assert difference.max() <= limit, (size, name)


@pytest.fixture(params=LIGHTS)
def tiny(request: pytest.FixtureRequest) -> nn.Module:
    """Return a small network of either head with random weights."""
    torch.manual_seed(0)
    arch, _, _, changes = VARIANTS[request.param]
    small = {"width": 24, "head_width": 16, "size": 64}
    return segvit.SegViT(replace(segvit.CONFIGS[arch], **{**changes, **small}), 5).eval()


@pytest.mark.parametrize("variant", LIGHTS)
def test_outputs_equal_the_official_networks(variant: str) -> None:
    check_golden(DATA, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dicts_are_the_official_ones(variant: str, reference_folder: Path) -> None:
    with torch.device("meta"):
        model = network(variant)
    manifest = json.loads((reference_folder / "segvit" / f"{variant}.manifest.json").read_text())
    official = {key: shape for key, shape, _ in manifest["keys"]}
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    left_out = {key for key in official if key.startswith(segvit.UNUSED)}
    assert own == {key: shape for key, shape in official.items() if key not in left_out}
    assert all(key.endswith(("cls_token", "empty_weight")) for key in left_out)


@pytest.mark.parametrize("variant", LIGHTS)
def test_light_variants_come_out_right_at_all_sizes(variant: str, reference_folder: Path) -> None:
    check_golden(reference_folder / "segvit", variant)


@pytest.mark.heavy
@pytest.mark.parametrize("variant", ["vitl_ade20k_640", "vitl_shrunk_ade20k_640"])
def test_large_variants_come_out_right(variant: str, reference_folder: Path) -> None:
    check_golden(reference_folder / "segvit", variant)


@pytest.mark.heavy
def test_the_base_variant_has_the_recorded_statistics(reference_folder: Path) -> None:
    # No golden of it was kept.
    folder = reference_folder / "segvit"
    model = build(folder, "vitb_ade20k_512")
    sizes = reference.config(folder, "vitb_ade20k_512")["golden"]
    for size, recorded in sizes.items():
        if not recorded["ok"]:
            continue
        with torch.no_grad():
            final = model.scores(reference.image(*map(int, size.split("x"))))
        assert list(final.shape) == recorded["final_shape"]
        near = 1e-4 * float(final.std())  # as in reference.check_statistics
        assert float(final.abs().max()) == pytest.approx(recorded["final_absmax"], abs=near)
        top = final[0].flatten(1).topk(2, dim=0).values
        gap = float(np.median((top[0] - top[1]).numpy()))
        assert gap == pytest.approx(recorded["median_top2_gap"], abs=2 * near)
        spread = float(final[0].flatten(1).std(1).mean())
        assert spread == pytest.approx(recorded["final_std_space"], abs=near)


@pytest.mark.parametrize("variant", LIGHTS)
def test_norms_and_activations_are_the_official_ones(variant: str, reference_folder: Path) -> None:
    path = reference_folder / "segvit" / f"{variant}.modules.json"
    rows = [row for row in json.loads(path.read_text()) if row[1] in ("LayerNorm", "Embedding")]
    modules = dict(network(variant).named_modules())
    for name, _, text in rows:
        assert modules[name].extra_repr() == text, name
    assert sum(isinstance(m, nn.LayerNorm) for m in modules.values()) == sum(
        kind == "LayerNorm" for _, kind, _ in rows
    )


def test_backbone_and_head_differ_in_eps(tiny: nn.Module) -> None:
    # The goldens see it no better than float32's rounding.
    for name, module in tiny.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == (1e-6 if name.startswith("backbone") else 1e-5), name


def test_drop_path_grows_to_its_rate(tiny: nn.Module) -> None:
    layers = tiny.get_submodule("backbone.layers").children()
    rates = [layer.get_submodule("drop_path").rate for layer in layers]
    assert rates[0] == 0.0
    assert rates[-1] in (0.1, 0.3)
    assert_close(torch.tensor(rates).diff().std(), torch.tensor(0.0))


def test_reading_layers_are_those_of_torch() -> None:
    # Softmax hides the biases of keys, so the layer is compared with torch's as a whole.
    torch.manual_seed(0)
    own = segvit.ReadingLayer(16, 4).eval()
    theirs = nn.TransformerDecoderLayer(16, 4, 64, batch_first=True).eval()
    for value in own.state_dict().values():
        nn.init.normal_(value)
    theirs.load_state_dict(own.state_dict(), strict=True)
    queries, tokens = torch.randn(2, 3, 16), torch.randn(2, 7, 16)
    assert_close(own(queries, tokens), theirs(queries, tokens))


def test_mask_scores_are_scaled_products_with_biased_keys() -> None:
    torch.manual_seed(0)
    attention = segvit.MaskAttention(8, 2).eval()
    queries, tokens = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    _, scores = attention(queries, tokens)
    q, k = attention.q(queries)[0], attention.k(tokens)[0]
    by_hand = torch.stack([q[:, :4] @ k[:, :4].T, q[:, 4:] @ k[:, 4:].T])[None] / 2
    assert_close(scores, by_hand)


def test_image_encodings_are_padded_to_whole_patches(tiny: nn.Module) -> None:
    x = torch.randn(1, 3, 56, 63)
    padded = nn.functional.pad(x, (0, 1, 0, 8))
    assert_close(tiny(x)[0], tiny(padded)[0])
    assert tiny.scores(x).shape == (1, 5, 56, 63)


def test_image_encodings_of_a_batch_do_not_mix(tiny: nn.Module) -> None:
    x = torch.randn(2, 3, 64, 64)
    assert_close(tiny.scores(x)[1:], tiny.scores(x[1:]))


def test_scores_are_sums_of_probabilities(tiny: nn.Module) -> None:
    x = torch.randn(1, 3, 64, 64)
    masks, logits = tiny(x)
    assert logits.shape == (1, 5, 6)
    planes = nn.functional.interpolate(masks, (64, 64), mode="bilinear").sigmoid()
    expected = torch.einsum("nqk,nqhw->nkhw", logits.softmax(-1)[..., :-1], planes)
    assert_close(tiny.scores(x), expected)


@pytest.mark.parametrize(
    ("size", "remedy"),
    [((64, 96), "grid of 16-pixel patches is 4x6.*96x96"), ((48, 48), "3x3.*even.*64x64")],
)
def test_grids_that_are_not_square_and_even_are_refused(
    tiny: nn.Module, size: tuple[int, int], remedy: str
) -> None:
    with pytest.raises(ModelError, match=f"{size[0]}x{size[1]}.*{remedy}"):
        tiny(torch.zeros(1, 3, *size))


def test_a_crop_with_an_odd_grid_cannot_be_configured() -> None:
    config = replace(segvit.CONFIGS["segvit_vitb"], size=368)
    with pytest.raises(ModelError, match="368x368.*384x384"):
        segvit.SegViT(config, 11)
