"""Training runs end to end on data of one's own, and releases a model that runs."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.own_data import CLASSES, write_card, write_drives
from support.train import small

from seg_perception.cli import main as command
from seg_perception.errors import CheckpointError
from seg_perception.segmenter import Segmenter
from seg_perception.training.release import release
from seg_perception.training.train import main


def camvid_like(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / part / kind).mkdir(parents=True)
        for i in range(4):
            label = np.kron(random.integers(0, 12, (6, 8)), np.ones((16, 16))).astype(np.uint8)
            image = cv2.applyColorMap(label * 20, cv2.COLORMAP_JET)
            cv2.imwrite(str(folder / f"{part}/images/p{i}.jpg"), image)
            cv2.imwrite(str(folder / f"{part}/labels/p{i}.png"), label)
    return folder


def test_three_classes_of_ones_own_on_images_of_two_sizes_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_drives(tmp_path / "data")
    card = write_card(tmp_path / "card.yaml")
    config = tmp_path / "config.yaml"
    config.write_text(
        "epochs: 2\nbatch: 4\ncrop: [32, 64]\nthreads: 1\nworkers: 1\neval_every: 1\n"
    )
    out = tmp_path / "yard.onnx"
    arguments = ["train", "--data", str(data), "--card", str(card), "--config", str(config)]
    assert command([*arguments, "-o", str(out)]) == 0
    assert "miou 0." in capsys.readouterr().out
    segmenter = Segmenter.load(out)
    assert list(segmenter.manifest.classes) == CLASSES
    assert segmenter.manifest.groups["floor"] == "drivable"
    assert segmenter(np.zeros((30, 40, 3), np.uint8)).labels.shape == (30, 40)
    rows = list(csv.DictReader((tmp_path / "yard.train" / "split.csv").open()))
    drives = {part: {r["drive"] for r in rows if r["part"] == part} for part in ("train", "val")}
    assert drives["val"]
    assert not drives["train"] & drives["val"]
    for page in ("data.html", "training.html"):
        assert "floor" in (tmp_path / "yard.train" / page).read_text()


@pytest.mark.parametrize("arch", ["topformer_tiny", "afformer_tiny", "segformer_b0"])
def test_light_families_are_trained_alike_on_a_known_data_set(arch: str, tmp_path: Path) -> None:
    data = camvid_like(tmp_path / "data")
    scores = main(small(data, tmp_path / "run", epochs=1, arch=arch, export_size=(96, 128)))
    assert 0 <= scores["miou"] <= 1
    manifest = Segmenter.load(tmp_path / "run" / "model.onnx").manifest
    assert manifest.architecture == arch
    assert manifest.classes[9] == "pedestrian"
    assert manifest.input.size == (96, 128)
    assert len((tmp_path / "run" / "log.txt").read_text().splitlines()) == 1


def test_what_is_no_checkpoint_of_training_is_not_released(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_text("nothing")
    with pytest.raises(CheckpointError, match="not a checkpoint of `seg-perception train`"):
        release(tmp_path / "c.pt", tmp_path / "m.onnx", size=(64, 64))
