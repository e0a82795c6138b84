"""HRFormer equals the official networks."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import reference
from support.paths import DATA
from torch import nn

from seg_perception.models import create_model, hrformer
from seg_perception.models.layers import DropPath

DATA = DATA / "hrformer"
HEAVY = [
    "base_ocr_v2_ade20k",
    "base_ocr_v2_cityscapes",
    "base_win13_ocr_v2_ade20k",
    "base_win15_ocr_v2_cityscapes",
    "base_win15_ocr_v3_cityscapes",
]
VARIANTS = [
    "small_ocr_v2_ade20k",
    "small_ocr_v2_cityscapes",
    "small_ocr_v3_ade20k",
    *(pytest.param(variant, marks=pytest.mark.heavy) for variant in HEAVY),
]


def build(variant: str) -> nn.Module:
    arch, dataset = f"hrformer_{variant}".rsplit("_", 1)
    return create_model(arch, dataset=dataset).eval()


def shapes(model: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in model.state_dict().items()}


@pytest.fixture
def tiny() -> nn.Module:
    """Return a network of four classes with narrow branches, the rest as in HRFormer-S."""
    torch.manual_seed(0)
    config = replace(hrformer.CONFIGS["hrformer_small_ocr_v3"], width=8)
    return hrformer.HRFormer(config, 4).eval()


def test_outputs_equal_the_official_networks() -> None:
    # The names of the weights need no file: each value follows from its key, so that a wrong key
    # changes the digest, and the outputs.
    variant = "small_ocr_v2_cityscapes"
    model, recorded = build(variant), reference.config(DATA, variant)
    keys = shapes(model)
    assert len(keys) == recorded["n_keys"]
    weights = {
        key: reference.tensor(key, shape)
        for key, shape in sorted(keys.items())
        if not key.endswith("relative_position_index")
    }
    content = b"".join(key.encode() + value.tobytes() for key, value in weights.items())
    assert hashlib.sha256(content).hexdigest() == recorded["weights_sha256"]
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    reference.check_golden(DATA, variant, model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_reference_variant_comes_out_right(variant: str, reference_folder: Path) -> None:
    folder = reference_folder / "hrformer"
    model = build(variant)
    manifest = json.loads((folder / f"{variant}.manifest.json").read_text())
    assert shapes(model) == {key: shape for key, shape, _ in manifest["keys"]}
    model.load_state_dict(reference.state_dict(folder, variant))
    kept = (folder / f"{variant}.golden.npz").exists()
    check = reference.check_golden if kept else reference.check_statistics
    check(folder, variant, model)


def test_hyper_parameters_are_the_official_ones(reference_folder: Path) -> None:
    model = build("small_ocr_v2_ade20k")
    path = reference_folder / "hrformer" / "small_ocr_v2_ade20k.modules.json"
    for name, kind, text in json.loads(path.read_text()):
        values = dict(part.split("=", 1) for part in text.split(", ") if "=" in part)
        if "eps" in values:
            assert model.get_submodule(name).eps == float(values["eps"]), name
        elif kind == "DropPath":
            rate = model.get_submodule(name).rate
            assert rate == pytest.approx(float(values["drop_prob"])), name
        elif kind == "Dropout2d":
            assert model.get_submodule(name).p == float(values["p"]), name


def test_norms_and_drops_are_those_of_the_official_code(tiny: nn.Module) -> None:
    assert all(m.eps == 1e-6 for m in tiny.modules() if isinstance(m, nn.LayerNorm))
    assert all(m.eps == 1e-5 for m in tiny.modules() if isinstance(m, nn.BatchNorm2d))
    rates = [m.rate for m in tiny.modules() if isinstance(m, DropPath)]
    assert (rates[0], rates[-1]) == (0.0, pytest.approx(0.2))


@pytest.mark.parametrize("window", [2, 3])
def test_attention_is_biased_by_the_offset_of_two_pixels(window: int) -> None:
    torch.manual_seed(0)
    attention = hrformer.Attention(width=6, heads=2, window=window).double()
    x = torch.randn(1, window * window, 6, dtype=torch.float64)
    q, k, v = (p(x)[0] for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    table = attention.relative_position_bias_table.detach()
    expected = torch.zeros(window * window, 6, dtype=torch.float64)
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        scores = q[:, part] @ k[:, part].T / 3**0.5
        for i in range(window * window):
            for j in range(window * window):
                down, right = i // window - j // window, i % window - j % window
                row = (down + window - 1) * (2 * window - 1) + right + window - 1
                scores[i, j] += table[row, head]
        expected[:, part] = scores.softmax(1) @ v[:, part]
    torch.testing.assert_close(attention(x)[0], attention.out_proj(expected))


def test_windows_are_centred_on_the_map_and_padded_with_zeros() -> None:
    seen = []
    layer = hrformer.WindowAttention(width=1, heads=1, window=3)
    layer.attn.forward = lambda x: seen.append(x) or x
    x = torch.arange(1.0, 9.0).reshape(1, 4, 2, 1)
    assert torch.equal(layer(x), x)  # what is cut is put together again
    assert seen[0][:, :, 0].tolist() == [
        [0, 0, 0, 1, 2, 0, 3, 4, 0],
        [5, 6, 0, 7, 8, 0, 0, 0, 0],
    ]


def test_a_state_dict_may_lack_the_position_index(tiny: nn.Module) -> None:
    official = tiny.state_dict()
    lacking = {k: v for k, v in official.items() if not k.endswith("relative_position_index")}
    assert len(lacking) == len(official) - 44
    tiny.load_state_dict(lacking, strict=True)
    assert len(lacking) == len(official) - 44  # the caller's is left alone
    assert all(torch.equal(official[k], v) for k, v in tiny.state_dict().items())


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (64, 64)])
def test_any_size_is_taken(tiny: nn.Module, size: tuple[int, int]) -> None:
    x = torch.zeros(2, 3, *size)
    with torch.no_grad():
        assert tiny(x).shape == (2, 4, -(-size[0] // 4), -(-size[1] // 4))
        assert tiny.scores(x).shape == (2, 4, *size)
