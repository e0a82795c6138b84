"""A model in 8 bit, and what that costs: told with every run, refused when it is too much."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from support import rounding
from support.paths import ROOT

from seg_perception import runtimes
from seg_perception.bags.clip import bundled_images
from seg_perception.cli import main
from seg_perception.segmenter import Segmenter

CLIP = ROOT / "seg_perception" / "clip"
SIZE = (32, 48)


def write_images(folder: Path, levels: list[int]) -> Path:
    """Write images whose left half is red and right half blue, of the given brightness."""
    (folder / "truth").mkdir(parents=True)
    for i, level in enumerate(levels):
        image, truth = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8)
        image[:, :24, 2] = image[:, 24:, 0] = level
        image[..., 1] = level // 2
        truth[:, 24:] = 2
        cv2.imwrite(str(folder / f"{i}.png"), image)
        cv2.imwrite(str(folder / "truth" / f"{i}.png"), truth)
    return folder


def quantize(model: Path | str, calibrate: Path, *options: Any, out: Path) -> int:
    return main(
        ["quantize", str(model), "--calibrate", str(calibrate), *map(str, options), "-o", str(out)]
    )


def half_steps(path: Path) -> float:
    """Return how far the brightest-channel network's logits may be off in 8 bits.

    Each quantised tensor is off by half a step; what comes before the logits counts a tenth.
    """
    graph = onnx.load(path).graph
    values = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer}
    steps = {
        node.input[0]: float(np.max(values[node.input[1]]))
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    return sum(step / 2 * (1.0 if "logits" in name else 0.1) for name, step in steps.items())


def check_labels(model: Path, quantised: Path, image: np.ndarray) -> None:
    """Compare the labels of both, BGR (H,W,3), where the float model's scores do not nearly tie."""
    before, after = (Segmenter.load(path)(image, "bgr8").labels for path in (model, quantised))
    fed = cv2.resize(image[..., ::-1], SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    scores = rounding.full_scores(runtimes.load(model).run(fed[None]), SIZE, image.shape[:2], SIZE)
    assert len(np.unique(before)) > 1
    assert rounding.only_ties_differ(after, before, scores, half_steps(quantised))


def test_a_model_in_8_bit_has_a_manifest_of_its_own_and_nearly_the_same_labels(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", [180, 200, 220])
    model = make_model(wide=8, metrics={"miou": 0.9}, sha256="")
    out = tmp_path / "int8.onnx"
    assert quantize(model, images, out=out) == 0
    said = capsys.readouterr()
    assert "of 3 images, 3 of which calibrated it, are the float model's" in said.out
    assert "accuracy was not measured: give --labels" in said.out
    assert "WARNING" not in said.err
    kinds = [node.op_type for node in onnx.load(out).graph.node]
    assert kinds.count("QuantizeLinear") >= 3
    after = Segmenter.load(out)
    assert after.manifest.name == "brightest_channel_int8"
    assert after.manifest.metrics == {}  # those were the float model's
    assert after.manifest.sha256
    for file in images.glob("*.png"):
        check_labels(model, out, cv2.imread(str(file)))


def test_scores_of_both_stand_side_by_side_where_there_are_labels(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", [180, 200, 220])
    out = tmp_path / "int8.onnx"
    labels = ("--labels", images / "truth")
    assert quantize(make_model(), images, *labels, "--pictures", 1, "--max-loss", 1, out=out) == 0
    said = capsys.readouterr().out
    assert "of 3 images, 1 of which calibrated it" in said
    rows = [line for line in said.splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == ["red", "green", "blue", "mean"]
    assert "not measured" not in rows[-1]
    assert out.is_file()


def test_a_loss_above_the_limit_is_refused_and_nothing_written(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calibrated on a dark image alone, the network cannot tell bright ones apart."""
    images = write_images(tmp_path / "images", [8, 120, 250])
    labels, out = images / "truth", tmp_path / "int8.onnx"
    options = ["--labels", labels, "--pictures", 1]
    assert quantize(make_model(), images, *options, out=out) == 1
    said = capsys.readouterr()
    assert "mean" in said.out
    assert "of the mean IoU, allowed are 0.005; nothing was written" in said.err
    assert [file for file in tmp_path.iterdir() if file.name.startswith("int8")] == []
    assert quantize(make_model(), images, *options, "--max-loss", 1, out=out) == 0
    assert out.is_file()


def test_a_bag_calibrates_too(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8.onnx"
    model = make_model()
    assert quantize(model, CLIP / "bag", "--pictures", 4, out=out) == 0
    assert "of 4 images" in capsys.readouterr().out
    for image in bundled_images(3):
        check_labels(model, out, image)


def test_what_is_quantised_is_not_quantised_again(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", [200])
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    assert quantize(make_model(), images, out=once) == 0
    assert quantize(once, images, out=twice) == 1
    assert "is quantised already (it has QuantizeLinear nodes)" in capsys.readouterr().err
    assert not twice.exists()


@pytest.mark.parametrize(
    ("model", "calibrate", "out", "problem"),
    [
        ("net.pt", "images", "o.onnx", "only ONNX files are quantised; make one of it with: seg"),
        ("model.onnx", "empty", "o.onnx", "empty holds no images"),
        ("model.onnx", "broken", "o.onnx", "no image of .*broken can be read"),
        ("model.onnx", "nowhere", "o.onnx", "no bag at .*nowhere"),
        ("model.onnx", "images", "o.pt", "is no .onnx file"),
        ("model.onnx", "images", "model.onnx", "is what would be read"),
    ],
)
def test_what_cannot_be_quantised_is_refused_with_the_next_step(
    make_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    calibrate: str,
    out: str,
    problem: str,
) -> None:
    make_model()
    before = (tmp_path / "model.onnx").read_bytes()
    write_images(tmp_path / "images", [200])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    assert quantize(tmp_path / model, tmp_path / calibrate, out=tmp_path / out) == 1
    assert re.search(problem, capsys.readouterr().err)
    assert (tmp_path / "model.onnx").read_bytes() == before
    assert out == "model.onnx" or not (tmp_path / out).exists()


def test_labels_of_other_images_are_named(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", [200])
    out = tmp_path / "o.onnx"
    assert quantize(make_model(), images, "--labels", CLIP / "truth", out=out) == 1
    assert "images are named 0, the truth 1000000000000" in capsys.readouterr().err
    assert not out.exists()


def test_labels_of_another_size_are_refused_by_the_images_name(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", [200, 210])
    cv2.imwrite(str(images / "truth" / "1.png"), np.zeros((8, 8), np.uint8))
    out = tmp_path / "o.onnx"
    assert quantize(make_model(), images, "--labels", images / "truth", out=out) == 1
    assert "truth, of 1: truth is (8, 8)" in capsys.readouterr().err
    assert not out.exists()


def test_a_truth_without_a_class_measures_nothing_and_is_refused(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "images", [180, 220]), tmp_path / "int8.onnx"
    for file in (images / "truth").iterdir():
        cv2.imwrite(str(file), np.full(SIZE, 255, np.uint8))
    assert quantize(make_model(), images, "--labels", images / "truth", out=out) == 1
    assert "is void in every image" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("share", ["2", "-1", "nan", "half"])
def test_a_limit_is_a_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        quantize("tiny", CLIP / "bag", "--max-loss", share, out=Path("o.onnx"))
    assert "is no share; write 0 to 1, as in 0.005" in capsys.readouterr().err
