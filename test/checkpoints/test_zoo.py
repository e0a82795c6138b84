"""Official checkpoints become model files that equal them, or nothing is written."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference, rounding
from support.paths import DATA, ROOT

from seg_perception import cli, runtimes
from seg_perception.catalogue import ENTRIES
from seg_perception.checkpoints import load_official
from seg_perception.checkpoints.export import export_onnx
from seg_perception.checkpoints.zoo import describe
from seg_perception.decoding import outputs
from seg_perception.errors import CheckpointError, ManifestError, ModelError
from seg_perception.models import create_model
from seg_perception.runtimes.onnx import OnnxRuntime
from seg_perception.runtimes.pt_file import read_model, write_model
from seg_perception.segmenter import Segmenter

# arch, data set, folder and variant of the recorded keys, size that is quick
CHECKPOINTS = {
    "topformer": ("topformer_tiny", "ade20k", "tiny_ade20k", "128x192"),
    "afformer": ("afformer_small", "cityscapes", "small_cityscapes", "128x192"),
    "segformer": ("segformer_b0", "cityscapes", "b0_cityscapes", "128x192"),
}


def write_checkpoint(path: Path, family: str, variant: str, **extra: Any) -> Path:
    """Write weights of the rule as official training tools do."""
    weights = reference.state_dict(DATA / family, variant)
    content = {"meta": {"epoch": 3}, "state_dict": {f"module.{k}": v for k, v in weights.items()}}
    torch.save({**content, **extra}, path)
    return path


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_checkpoint(folder / "b0.pth", "segformer", "b0_cityscapes")


@pytest.mark.parametrize("family", CHECKPOINTS)
@pytest.mark.parametrize("kind", ["onnx", "pt"])
def test_a_checkpoint_is_imported_verified_and_run(
    family: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch, dataset, variant, size = CHECKPOINTS[family]
    source = write_checkpoint(tmp_path / "c.pth", family, variant)
    out = tmp_path / f"model.{kind}"
    chosen = ["--arch", arch, "--dataset", dataset, "--size", size, "-o", str(out)]
    assert cli.main(["import", str(source), *chosen]) == 0
    assert "0 of" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pth", f"model.{kind}"]

    assert cli.main(["verify", str(out), "--against", str(source)]) == 0
    said = capsys.readouterr().out
    assert f"equals {arch}" in said
    assert "sha256 of the weights matches" in said
    assert "labels differ" in said
    assert cli.main(["verify", str(out)]) == 0
    alone = capsys.readouterr().out
    assert ("labels differ" if kind == "pt" else "takes one size: give --against") in alone

    segmenter = Segmenter.load(out)
    assert segmenter.manifest.architecture == arch
    assert segmenter.manifest.groups
    image = np.random.default_rng(0).integers(0, 256, (96, 144, 3)).astype(np.uint8)
    assert segmenter(image).labels.shape == (96, 144)


def test_both_kinds_of_file_give_the_same_labels(segformer: Path, tmp_path: Path) -> None:
    labels, scores = [], []
    image = np.random.default_rng(1).integers(0, 256, (96, 160, 3)).astype(np.uint8)
    for kind in ("pt", "onnx"):
        out = tmp_path / f"model.{kind}"
        chosen = ["--arch", "segformer_b0", "--dataset", "cityscapes", "--size", "96x160"]
        assert cli.main(["import", str(segformer), *chosen, "-o", str(out)]) == 0
        labels.append(Segmenter.load(out)(image).labels)
        y = np.asarray(runtimes.load(out).run(image[None]))
        scores.append(rounding.full_scores(y, (96, 160), (96, 160), (96, 160)))
    near = np.abs(scores[0] - scores[1]).max()  # import has proven how near
    assert rounding.only_ties_differ(*labels, scores[0], near)
    again = tmp_path / "again.onnx"
    assert cli.main(["export", str(tmp_path / "model.pt"), "-o", str(again)]) == 0
    assert (Segmenter.load(again)(image).labels == labels[1]).all()
    assert cli.main(["export", str(again), "-o", str(tmp_path / "x.onnx")]) == 1


def test_both_kinds_follow_the_shape_of_the_image(
    segformer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 256, 3)).astype(np.uint8)
    labels, scores = [], []
    for kind in ("pt", "onnx"):
        out = tmp_path / f"model.{kind}"
        chosen = ["--arch", "segformer_b0", "--dataset", "cityscapes", "--size", "96x160"]
        assert cli.main(["import", str(segformer), *chosen, "-o", str(out)]) == 0
        assert "96x160 or as many pixels in multiples of 32" in capsys.readouterr().out
        segmenter = Segmenter.load(out)
        assert segmenter.manifest.input.multiple == 32
        assert segmenter.input_size((64, 256)) == (64, 256)
        labels.append(segmenter(image, "bgr8").labels)
        color = segmenter.manifest.input.color
        x = image if color == "BGR" else np.ascontiguousarray(image[..., ::-1])
        y = np.asarray(runtimes.load(out).at((64, 256)).run(x[None]))
        scores.append(rounding.full_scores(y, (64, 256), (64, 256), (64, 256)))
    near = np.abs(scores[0] - scores[1]).max()
    assert near <= 1e-4 * np.abs(scores[0]).max()
    assert rounding.only_ties_differ(*labels, scores[0], near)
    smaller = tmp_path / "smaller.onnx"  # of no multiples
    command = ["export", str(tmp_path / "model.pt"), "-o", str(smaller), "--size", "80x160"]
    assert cli.main(command) == 0
    assert "runs at 80x160, whatever the shape" in capsys.readouterr().out
    assert Segmenter.load(smaller).manifest.input.multiple is None


def test_masks_of_queries_are_exported_with_their_class_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model(
        "segvit_vitb", num_classes=7, size=64, width=32, depth=3, heads=2, head_width=16,
        head_heads=2, taps=(0, 1, 2),
    ).eval()  # fmt: skip
    manifest = describe("segvit_vitb", "ade20k", classes=150, size=(64, 64))
    small = manifest.__class__.from_dict(
        {**manifest.to_dict(), "classes": list("abcdefg"), "palette": None, "groups": {}}
    )
    path = tmp_path / "m.onnx"
    export_onnx(network, small, path)
    x = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    runtime = OnnxRuntime(path)
    assert runtime.output_shapes == {"masks": (1, 7, 4, 4), "class_logits": (1, 7, 8)}
    mean, std = (torch.tensor(v)[:, None, None] for v in (manifest.input.mean, manifest.input.std))
    rgb = torch.from_numpy(x[0, ..., ::-1].astype(np.float32).transpose(2, 0, 1)[None])
    with torch.no_grad():
        parts = network((rgb - mean) / std)
        full = network.scores((rgb - mean) / std)[0].numpy()
        twice = copy.deepcopy(network).double()
        exact = twice(((rgb - mean) / std).double())
        full_exact = twice.scores(((rgb - mean) / std).double())[0].numpy()
    for actual, expected, right in zip(outputs.arrays(runtime.run(x)), parts, exact, strict=True):
        limit = reference.tolerance(expected, right)
        assert np.abs(actual - expected.numpy()).max() <= limit
    assert np.abs(runtime.scores(x) - full).max() <= reference.tolerance(full, full_exact)
    labels, sure, _ = Segmenter(runtime)(x[0], "bgr8")  # at the input's size: the official map
    assert len(np.unique(labels)) > 1
    near = reference.tolerance(full, full_exact)
    assert rounding.only_ties_differ(labels, full.argmax(0), full, near)
    assert sure is not None
    assert np.abs(sure - 255 * full.max(0).clip(0, 1)).max() <= rounding.OF_A_SCORE + 255 * near


def test_image_encodings_of_a_bgr_network_are_not_swapped(tmp_path: Path) -> None:
    manifest = describe("hrformer_small_ocr_v2", "cityscapes", classes=19, size=(32, 64))
    assert manifest.input.color == "BGR"
    assert manifest.output.align_corners
    network = create_model("hrformer_small_ocr_v2", dataset="cityscapes").eval()
    _, parity = export_onnx(network, manifest, tmp_path / "m.onnx")
    assert parity.labels_differ == 0


def test_a_background_counts_as_a_class_that_means_none() -> None:
    manifest = describe("setr_pup", "pc59", classes=60)
    assert manifest.classes[0] == "background"
    assert manifest.void_ids == (0,)
    assert len(manifest.palette or ()) == 60
    assert "background" not in dict(manifest.label_space().class_map()).values()
    assert len(describe("hrformer_base_ocr_v2", "pc59", classes=59).classes) == 59


def test_the_best_fitting_variant_is_named(segformer: Path) -> None:
    with pytest.raises(CheckpointError, match="--arch segformer_b0 --dataset cityscapes fits$"):
        load_official(segformer, arch="segformer_b0", dataset="ade20k")


def test_a_checkpoint_of_another_world_fits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match=r"no architecture .* fits it: layer\.weight"):
        load_official(path, arch="topformer_tiny", dataset="ade20k")


def test_what_a_refused_checkpoint_holds_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {}, "meta": Path("/tmp")}, path)
    with pytest.raises(CheckpointError, match=r"more than tensors \(pathlib.*weights_only=False"):
        load_official(path, arch="topformer_tiny", dataset="ade20k")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--arch", "segformer_b1", "-o", "m.onnx"], 1, "--arch segformer_b0 fits"),
        (["--arch", "b0", "--dataset", "cityscapes", "-o", "m.pt"], 1, "unknown architecture 'b0'"),
        (["--arch", "segformer_b0", "--dataset", "mars", "-o", "m.pt"], 1, "unknown data set"),
        (
            ["--arch", "segformer_b0", "--dataset", "cityscapes", "-o", "m.x"],
            1,
            "neither a .onnx",
        ),
        (["--manifest", "c.yaml", "--dataset", "x", "-o", "m.onnx"], 2, "go with a checkpoint"),
    ],
)
def test_wrong_wishes_are_refused_and_nothing_is_written(
    arguments: list[str],
    status: int,
    said: str,
    segformer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    *start, name = arguments
    assert cli.main(["import", str(segformer), *start, str(tmp_path / name)]) == status
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["640", "0x0", "ax3", "-1x4"])
def test_a_size_is_two_numbers(size: str, segformer: Path, tmp_path: Path) -> None:
    chosen = ["--arch", "segformer_b0", "--dataset", "cityscapes", "--size", size]
    try:
        status = cli.main(["import", str(segformer), *chosen, "-o", str(tmp_path / "m.onnx")])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status in (1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_file_is_refused(segformer: Path, tmp_path: Path) -> None:
    network = load_official(segformer, arch="segformer_b0", dataset="cityscapes")
    path = tmp_path / "m.pt"
    written = write_model(network, describe("segformer_b0", "cityscapes", classes=19), path)
    again, manifest = read_model(path)
    assert manifest == written
    x = reference.image(64, 64)
    with torch.no_grad():
        assert (again(x) == network(x)).all()

    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["decode_head.linear_pred.bias"][0] += 1
    torch.save(saved, tmp_path / "changed.pt")
    with pytest.raises(ModelError, match="damaged or was changed"):
        Segmenter.load(tmp_path / "changed.pt")
    torch.save({"seg_perception": saved["seg_perception"]}, tmp_path / "empty.pt")
    with pytest.raises(ModelError, match="no weights"):
        Segmenter.load(tmp_path / "empty.pt")
    torch.save({"state_dict": {}}, tmp_path / "bare.pt")
    with pytest.raises(ManifestError, match="holds no manifest"):
        Segmenter.load(tmp_path / "bare.pt")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:9000])
    with pytest.raises(CheckpointError, match="truncated"):
        Segmenter.load(tmp_path / "cut.pt")


def test_the_page_of_models_is_that_of_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--markdown"]) == 0
    page = ROOT / "docs" / "models.md"
    assert capsys.readouterr().out == page.read_text("utf-8")
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out
    assert all(f"{entry.parameters:,}" in table for entry in ENTRIES)
