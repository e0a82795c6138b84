"""Exported files equal their network at any input size, or are not written."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support import reference, rounding

from seg_perception.bench.plain_export import export_plain
from seg_perception.catalogue import MEAN, STD
from seg_perception.checkpoints import export
from seg_perception.checkpoints.export import Parity, export_onnx
from seg_perception.errors import ManifestError, ModelError
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
    assert parity.difference <= parity.limit()
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
        # Of 23 rows and 30 columns, whatever of them a form multiplies by 0.
        limit = rounding.of_a_sum(23 + 30) * float(one.abs().max())
        assert float((other - one).abs().max()) <= limit


@pytest.mark.parametrize(
    ("size", "form"), [((512, 512), Form.BLOCKED), ((480, 640), Form.MATRICES)]
)
def test_the_form_follows_the_ratios_inside(
    size: tuple[int, int], form: Form, network: torch.nn.Module
) -> None:
    assert fastest_form(network, torch.zeros(1, 3, *size)) is form


@pytest.mark.parametrize(
    ("arch", "size", "multiple"),
    [("topformer_tiny", (128, 192), 64), ("segformer_b0", (96, 64), 32)],
)
def test_a_file_of_a_free_size_equals_the_network_at_every_size(
    arch: str, size: tuple[int, int], multiple: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = create_model(arch, dataset="camvid" if "top" in arch else "ade20k")
    classes = 11 if "top" in arch else 150
    written = export_onnx(network, manifest(size, classes), tmp_path / "m.onnx").manifest
    assert written.input.multiple == multiple
    runtime = OnnxRuntime(tmp_path / "m.onnx")
    trained = manifest(size, classes).input
    for sides in ((1, 1), (1, 6), (5, 2), (3, 7)):
        other = (sides[0] * multiple, sides[1] * multiple)
        parity = export.compare(network, runtime.at(other), trained)
        assert not parity.is_broken(), parity.text()


def test_a_file_of_a_free_size_is_that_of_its_size_when_it_runs(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ONNX Runtime makes of it is the same to the last bit."""
    size = (192, 320)
    export_onnx(network, manifest((128, 192)), tmp_path / "free.onnx")
    monkeypatch.setattr(export, "multiple_of", lambda *_: None)
    export_onnx(network, manifest(size), tmp_path / "fixed.onnx")
    image = np.random.default_rng(1).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    free, fixed = (OnnxRuntime(tmp_path / f"{name}.onnx") for name in ("free", "fixed"))
    assert (free.at(size).run(image) == fixed.run(image)).all()


def test_other_files_have_one_size(network: torch.nn.Module, tmp_path: Path) -> None:
    padded = replace(manifest((128, 192)), input=InputSpec((128, 192), resize="keep_ratio_pad"))
    other = create_model("afformer_tiny", dataset="ade20k")
    for i, (given, card) in enumerate(
        [(network, manifest((96, 128))), (network, padded), (other, manifest((64, 128), 150))]
    ):
        path = tmp_path / f"{i}.onnx"
        assert export_onnx(given, card, path).manifest.input.multiple is None
        with pytest.raises(ManifestError, match=r"the network takes \(1, "):
            OnnxRuntime(path).at((128, 256))


def test_a_graph_that_fits_one_size_alone_is_not_written_as_free(tmp_path: Path) -> None:
    class Positions(torch.nn.Module):
        """Adds what it learned of each place, and says that it takes any size."""

        multiple = 32

        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 3, 8, 8)
            self.places = torch.nn.Parameter(torch.ones(1, 3, 8, 12))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.first(x) + self.places
            return y

    with pytest.raises(ModelError, match="cannot take images of"):
        export_onnx(Positions(), manifest((64, 96), 3), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
