"""Exported files equal their network at any input size, or are not written."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support import reference

from seg_perception.bench.plain_export import export_plain
from seg_perception.catalogue import MEAN, STD
from seg_perception.checkpoints import export
from seg_perception.checkpoints.export import Parity, export_onnx
from seg_perception.errors import ModelError
from seg_perception.manifest import InputSpec, Manifest, OutputSpec
from seg_perception.models import create_model
from seg_perception.models.layers import (
    Form,
    add_resized,
    fastest_form,
    hard_sigmoid,
    pool_adaptive,
    resize_bilinear,
    written_as,
)
from seg_perception.runtimes.onnx import OnnxRuntime

Export = Callable[[tuple[int, int]], tuple[Path, Parity]]


def manifest(size: tuple[int, int], classes: int = 11) -> Manifest:
    names = tuple(f"class{i}" for i in range(classes))
    return Manifest(classes=names, input=InputSpec(size, mean=MEAN, std=STD), output=OutputSpec())


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    model = create_model("topformer_tiny", dataset="camvid").eval()
    for module in model.modules():  # statistics that a fresh network does not have
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return what exports the network at a size, once: a file alone in its folder, and parity."""

    @cache
    def at(size: tuple[int, int]) -> tuple[Path, Parity]:
        path = tmp_path_factory.mktemp("exported") / "m.onnx"
        return path, export_onnx(network, manifest(size), path).parity

    return at


@pytest.mark.parametrize("size", [(128, 192), (360, 480), (480, 640), (100, 150)])
def test_the_file_equals_the_network(size: tuple[int, int], exported: Export) -> None:
    path, parity = exported(size)
    assert parity.difference <= 1e-5
    assert parity.labels_differ == 0
    runtime = OnnxRuntime(path)
    assert runtime.manifest.input.dtype == "uint8"
    assert len(runtime.manifest.sha256) == 64  # and it was checked
    assert [p.name for p in path.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("size", [(128, 192), (480, 640)])
def test_the_rewritten_graph_equals_the_plain_export(
    size: tuple[int, int], network: torch.nn.Module, exported: Export, tmp_path: Path
) -> None:
    plain, (rewritten, _) = tmp_path / "plain.onnx", exported(size)
    export_plain(network, manifest(size), plain)
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    x = (image[..., ::-1] - np.float32(MEAN)) / np.float32(STD)
    x = np.ascontiguousarray(x.transpose(2, 0, 1)[None])
    expected, actual = OnnxRuntime(plain).run(x), OnnxRuntime(rewritten).run(image[None])
    with torch.no_grad():
        exact = reference.in_float64(network, torch.from_numpy(x))
    assert np.abs(actual - expected).max() <= reference.tolerance(expected, exact)
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > export.TIE
    assert (actual.argmax(1) == expected.argmax(1))[clear].all()


def test_a_file_that_differs_is_not_written(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    monkeypatch.setattr(export, "NOISE", 0.0)
    path = tmp_path / "m.onnx"
    path.write_text("the file before")
    with pytest.raises(ModelError, match="nothing was written"):
        export_onnx(network, manifest((64, 64)), path)
    assert path.read_text() == "the file before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_network_without_finite_scores_is_not_written(value: float, tmp_path: Path) -> None:
    broken = torch.nn.Conv2d(3, 3, 4, 4)
    with torch.no_grad():
        broken.weight[:] = broken.bias[:] = value
    with pytest.raises(ModelError, match=f"of the network is ({value}|nan).*cannot be compared"):
        export_onnx(broken, manifest((32, 48), 3), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_other_classes_is_not_written(
    network: torch.nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="classes has 7 names, the network gives 11 channels"):
        export_onnx(network, manifest((64, 64), 7), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [Form.PLAIN, Form.MATRICES])
def test_every_form_of_a_layer_gives_the_same(form: Form) -> None:
    x, half = torch.randn(1, 3, 23, 30), torch.randn(1, 3, 12, 15)

    def layers() -> list[torch.Tensor]:
        return [
            resize_bilinear(x, (45, 60)),
            resize_bilinear(x, (45, 60), align_corners=True),
            pool_adaptive(x, (6, 8)),
            pool_adaptive(x, (23, 15)),
            add_resized(x, [half, half[..., :7, :9]]),
            hard_sigmoid(3 * x),
        ]

    expected = layers()
    with written_as(form):
        actual = layers()
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), atol=2e-6)


@pytest.mark.parametrize(
    ("size", "form"), [((512, 512), Form.BLOCKED), ((480, 640), Form.MATRICES)]
)
def test_the_form_follows_the_ratios_inside(
    size: tuple[int, int], form: Form, network: torch.nn.Module
) -> None:
    assert fastest_form(network, torch.zeros(1, 3, *size)) is form
