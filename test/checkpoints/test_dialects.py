"""Checkpoints of other libraries are recognised by their keys, and equal what those make of them.

test/record_dialects.py recorded keys, shapes and outputs in the libraries' own environments.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference
from support.recorded import CLASSES, DATA, KEYS, by_rule
from torch import Tensor, nn

from seg_perception import models
from seg_perception.checkpoints.recognise import recognise
from seg_perception.errors import CheckpointError
from seg_perception.models import create_model, family_of, segformer_dialects, setr_dialects
from seg_perception.models.dialects import Dialect, translate
from seg_perception.models.layers import simplified

REAL = [(lib, name) for lib, keys in KEYS.items() for name in keys if not name.endswith("small")]
SMALL_VIT = {"image_size": 64, "width": 64, "depth": 4, "heads": 4, "taps": (0, 1, 2, 3)}


@pytest.mark.parametrize(("library", "name"), REAL)
def test_real_keys_and_shapes_tell_dialect_and_architecture(library: str, name: str) -> None:
    keys = {key: torch.empty(shape, device="meta") for key, shape in KEYS[library][name]}
    fit = recognise(keys, Path(name))
    arch = name.partition("|")[0]
    assert (fit.dialect.name, fit.arch, fit.classes) == (library, arch, CLASSES)
    assert fit.weights.keys() == fit.build().state_dict().keys()


def network_of(
    dialect: Dialect, arch: str, weights: dict[str, Tensor], **changes: Any
) -> nn.Module:
    network = create_model(arch, num_classes=CLASSES, **dialect.changes, **changes).eval()
    own, left = translate(weights, dialect)
    assert not left
    missing, unknown = network.load_state_dict(own, strict=False)
    assert not unknown
    assert all(key.startswith(dialect.zeros) for key in missing)
    for key in missing:
        nn.init.zeros_(network.get_parameter(key))
    return network


@pytest.mark.parametrize("change", [lambda n: n, simplified], ids=["network", "simplified"])
@pytest.mark.parametrize(
    ("library", "name", "dialect", "size", "changes"),
    [
        ("hugging_face", "segformer_b0|saved", segformer_dialects.HUGGING_FACE, (64, 96), {}),
        ("mmsegmentation", "segformer_b0|small", segformer_dialects.MMSEGMENTATION, (64, 96), {}),
        ("mmsegmentation", "setr_naive|small", setr_dialects.NAIVE, (64, 64), SMALL_VIT),
        ("mmsegmentation", "setr_pup|small", setr_dialects.PUP, (64, 64), SMALL_VIT),
        ("mmsegmentation", "setr_mla|small", setr_dialects.MLA, (64, 64), SMALL_VIT),
    ],
)
def test_outputs_equal_the_librarys(
    library: str,
    name: str,
    dialect: Dialect,
    size: tuple[int, int],
    changes: dict[str, Any],
    change: Callable[[nn.Module], nn.Module],
) -> None:
    arch = name.partition("|")[0]
    golden = np.load(DATA / f"{library}.golden.npz")
    expected, noise = golden[arch], float(golden[f"{arch}__noise"])
    whole = network_of(dialect, arch, by_rule(library, name), **changes)
    eps = {module.eps for module in whole.modules() if isinstance(module, nn.LayerNorm)}
    assert sorted(eps) == golden[f"{arch}__eps"].tolist()
    network = change(whole)
    x = reference.image(*size)
    with torch.no_grad():
        if library == "hugging_face":
            actual = network(x).numpy()
        else:
            actual = network.scores(x)[:, :, ::4, ::4].numpy()  # type: ignore[operator]
    assert actual.shape == expected.shape
    limit = max(1e-4 * expected.std(), 5 * noise)  # the goldens' rule: reference.tolerance
    assert np.abs(actual - expected).max() <= limit


def test_the_nearest_dialect_and_the_first_keys_are_named() -> None:
    keys = dict(KEYS["hugging_face"]["segformer_b1|saved"])
    keys["decode_head.aux.weight"] = [3]
    del keys["decode_head.classifier.bias"]
    weights = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    with pytest.raises(
        CheckpointError,
        match=r"nearest is hugging_face of segformer_b1 \(98% .*1 keys are missing "
        r"\['decode_head.linear_pred.bias'\], 1 are unknown \['decode_head.aux.weight'\]",
    ):
        recognise(weights, Path("mine"))
    weights = {"encoder.weight": torch.zeros(3)}
    with pytest.raises(CheckpointError, match="no architecture of this package fits it"):
        recognise(weights, Path("mine"))


def test_architectures_that_fit_equally_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = family_of("segformer_b0").configs
    monkeypatch.setitem(configs, "segformer_b9", configs["segformer_b0"])  # type: ignore[index]
    weights = create_model("segformer_b0", num_classes=7).state_dict()
    with pytest.raises(CheckpointError, match="fits segformer_b0 and segformer_b9 equally"):
        recognise(weights, Path("mine"))
    assert recognise(weights, Path("mine"), arch="segformer_b9").arch == "segformer_b9"


def is_slow(arch: str) -> bool:
    return arch.startswith("hrformer")


@pytest.mark.parametrize(
    "archs",
    [
        [arch for arch in models.ARCHITECTURES if not is_slow(arch)],
        pytest.param([a for a in models.ARCHITECTURES if is_slow(a)], marks=pytest.mark.heavy),
    ],
    ids=["quick", "slow"],
)
def test_every_architecture_is_recognised_by_its_own_weights(archs: list[str]) -> None:
    for arch in archs:
        with torch.device("meta"):
            weights = create_model(arch, num_classes=23).state_dict()
        fit = recognise(weights, Path(arch))
        assert (fit.dialect.name, fit.arch, fit.classes) == ("official", arch, 23)
