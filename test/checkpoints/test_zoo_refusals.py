"""What cannot become a model file, or run as one, is told before the work and leaves nothing."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import numpy_helper
from support import rounding
from support.foreign import write_card, write_network
from torch import Tensor, nn

from seg_perception import catalogue, cli
from seg_perception.checkpoints.export import compare
from seg_perception.checkpoints.zoo import describe, import_official
from seg_perception.decoding.outputs import Masks
from seg_perception.errors import ManifestError, ModelError
from seg_perception.manifest import InputSpec, Manifest, OutputSpec
from seg_perception.models import create_model
from seg_perception.runtimes.pt_file import read_model, write_model
from seg_perception.runtimes.torch import TorchRuntime

CHOSEN = ["--arch", "segformer_b0", "--dataset", "cityscapes"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "b0.pth"
    torch.manual_seed(0)
    torch.save(create_model("segformer_b0", dataset="cityscapes").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "b0.pt"
    import_official(checkpoint, path, arch="segformer_b0", dataset="cityscapes", size=(64, 96))
    return path


@pytest.mark.parametrize("kind", ["onnx", "pt"])
@pytest.mark.parametrize("size", ["1x1", "16x500", "0x0", "8193x8"])
def test_a_size_that_the_network_cannot_take_is_named(
    kind: str, size: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--size", size, "-o", str(tmp_path / f"m.{kind}")]
    assert cli.main(["import", str(checkpoint), *CHOSEN, *out]) == 1
    said = capsys.readouterr().err
    assert f"cannot take images of {size}" in said or "must be [height, width]" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["1x1", "0x0", "8193x8"])
def test_no_size_is_traced_before_it_is_checked(
    size: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.onnx, "export")
    out = tmp_path / "m.onnx"
    assert cli.main(["export", str(model), "--size", size, "-o", str(out)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_named_for_what_it_is(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, card = write_network(tmp_path / "n.onnx"), write_card(tmp_path / "c.yaml")
    before = network.read_bytes()
    for arguments, told in (
        (["export", str(model), "-o", str(tmp_path / "m.pt")], "is no .onnx file"),
        (["export", str(model), "-o", str(tmp_path)], "is no .onnx file"),
        (["import", str(network), "--manifest", str(card), "-o", "m.pt"], "is no .onnx file"),
        (["import", str(network), "--manifest", str(card), "-o", str(network)], "would be read"),
        (["import", str(model), *CHOSEN, "-o", str(model)], "would be read"),
        (["import", str(model), *CHOSEN, "-o", str(card / "m.pt")], "c.yaml is no folder"),
    ):
        assert cli.main(arguments) == 1
        assert told in capsys.readouterr().err
    assert network.read_bytes() == before


def test_a_file_with_nan_does_not_pass(
    make_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_model()
    assert cli.main(["verify", str(path)]) == 0
    graph = onnx.load(path)
    kernel = numpy_helper.to_array(graph.graph.initializer[0]).copy()
    kernel[0, 0] = np.nan
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    onnx.save(graph, path)
    assert cli.main(["verify", str(path)]) == 1
    assert "NaN or infinite scores" in capsys.readouterr().out


def test_a_checkpoint_is_sent_to_import(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["verify"], ["models", "show"]):
        assert cli.main([*command, str(checkpoint)]) == 1
        assert f"seg-perception import {checkpoint} --arch" in capsys.readouterr().err


def test_a_model_file_is_shown_as_it_is(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchRuntime, "__init__", None)  # nothing is run
    assert cli.main(["models", "show", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "sha256 of the weights matches" in shown
    card = yaml.safe_load(shown)
    assert Manifest.from_dict(card) == read_model(model)[1]
    assert card["input"]["dtype"] == "float32"


def test_an_imported_file_states_its_own_origin(model: Path, checkpoint: Path) -> None:
    manifest = read_model(model)[1]
    assert manifest.source.startswith("b0.pth, sha256 ")
    assert manifest.source.endswith("code: https://github.com/NVlabs/SegFormer")
    assert manifest.metrics["variant_published_miou"] == 0.7654
    assert set(manifest.metrics) == {"variant_published_miou", "variant_published_by"}


def test_without_torch_a_model_file_names_what_helps(model: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.modules['torch'] = None\n"
        "from seg_perception import runtimes\n"
        "from seg_perception.errors import ProviderError\n"
        "for read in (runtimes.load, runtimes.read_manifest):\n"
        "    try: read(Path(sys.argv[1]))\n"
        "    except ProviderError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(model)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count("pip install '.[train]' in the folder") == 2
    assert said.count(f"seg-perception export {model} -o") == 2


def test_an_import_leaves_the_threads_of_the_process(checkpoint: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        import_official(
            checkpoint, tmp_path / "m.pt", arch="segformer_b0", dataset="cityscapes", size=(64, 64)
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_data_set_without_official_tests_gets_none() -> None:
    assert catalogue.preparation("topformer_tiny", "camvid").official is None
    assert describe("topformer_tiny", "camvid", classes=11).official is None
    assert catalogue.preparation("topformer_small", "cityscapes").official


class Same(nn.Module):
    """Give the scores that a test has written down."""

    def __init__(self, *parts: Any) -> None:
        super().__init__()
        self.given = [torch.tensor(part) for part in parts]

    def forward(self, x: Tensor) -> Any:
        parts = tuple(part.to(x.dtype) for part in self.given)
        return parts if len(parts) > 1 else parts[0]


def stand_in(*parts: np.ndarray) -> Any:
    """Return a runtime that gives these scores (1,K,h,w), or masks and class logits."""
    spec = InputSpec((8, 8), layout="NHWC", dtype="uint8")
    y = Masks(*parts) if len(parts) > 1 else parts[0]
    manifest = SimpleNamespace(input=spec, output=OutputSpec())
    return SimpleNamespace(manifest=manifest, run=lambda _: y)


def test_a_label_is_wrong_only_beyond_what_rounding_may_change() -> None:
    exact = np.full((1, 2, 4, 4), 1000.00003)  # float32 rounds that by half its step there
    exact[:, 1] += 0.00018
    given = exact.astype(np.float32)
    assert float(given[0, 1, 0, 0] - given[0, 0, 0, 0]) > 1e-4
    parity = compare(Same(exact), stand_in(given[:, ::-1].copy()), InputSpec((8, 8)))
    assert parity.noise > 0
    assert parity.labels_differ == 0
    assert not parity.is_broken()
    exact[:, 1] += 0.004  # less than scores may differ, far more than they are rounded
    given = exact.astype(np.float32)
    parity = compare(Same(exact), stand_in(given[:, ::-1].copy()), InputSpec((8, 8)))
    assert parity.difference < parity.limit()
    assert parity.labels_differ == parity.labels
    assert parity.is_broken()


def test_of_masks_and_class_logits_the_worse_one_counts() -> None:
    random = np.random.default_rng(0)
    masks = random.normal(size=(1, 3, 4, 4)).astype(np.float32)
    classes = random.normal(size=(1, 3, 6)).astype(np.float32)
    network, spec = Same(masks, classes), InputSpec((8, 8))
    same = compare(network, stand_in(masks, classes), spec)
    assert (same.difference, same.labels_differ) == (0, 0)
    assert same.labels == 2 * 8 * 8  # of two images, at the input's size
    for parts in ((masks * 1.01, classes), (masks, classes * 1.01)):
        parity = compare(network, stand_in(*parts), spec)
        assert parity.difference == pytest.approx(0.01, abs=2 * rounding.EPS)
        assert parity.is_broken()
    swapped = classes[..., ::-1].copy()
    assert compare(network, stand_in(masks, swapped), spec).labels_differ > 0
    with pytest.raises(ModelError, match=r"4\), \(1, 3, 6\), the exported file of \(1, 3, 4, 4\):"):
        compare(network, stand_in(masks), spec)


def test_masks_are_judged_by_how_each_varies_over_space() -> None:
    random = np.random.default_rng(0)
    classes = random.normal(size=(1, 3, 6)).astype(np.float32)
    masks = (100 + 2e-4 * random.normal(size=(1, 3, 8, 8))).astype(np.float32)
    flat, network = np.full_like(masks, 100), Same(masks, classes)
    assert np.abs(masks - flat).max() < 1e-5 * masks.max()
    assert compare(network, stand_in(flat, classes), InputSpec((8, 8))).is_broken()
    assert not compare(network, stand_in(masks, classes), InputSpec((8, 8))).is_broken()


def test_scores_of_another_network_are_not_compared() -> None:
    scores = np.ones((1, 3, 8, 8), np.float32)
    with pytest.raises(ModelError, match=r"scores of \(1, 3, 8, 8\), the exported file of \(1, 2"):
        compare(Same(scores), stand_in(scores[:, :2]), InputSpec((8, 8)))


def test_a_network_of_other_channels_than_classes_is_refused() -> None:
    manifest = Manifest(("a", "b"), InputSpec((8, 8)), OutputSpec(), name="two")
    runtime = TorchRuntime(nn.Conv2d(3, 3, 1), manifest)
    with pytest.raises(ManifestError, match="classes has 2 names, the network 'two' gives 3"):
        runtime.run(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_full_disk_is_told(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] . file write failed")

    network, manifest = read_model(model)
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(ModelError, match=r"m\.pt cannot be written: .*write failed"):
        write_model(network, replace(manifest, sha256=""), tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []
