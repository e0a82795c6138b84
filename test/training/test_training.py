"""Training runs, resumes exactly, evaluates and releases a model that runs."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seg_perception.errors import CheckpointError, DataError
from seg_perception.segmenter import Segmenter
from seg_perception.training.data import augment, load_images
from seg_perception.training.losses import class_weights, cross_entropy
from seg_perception.training.release import release
from seg_perception.training.train import Config, main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for i in range(4):
            label = np.kron(random.integers(0, 12, (6, 8)), np.ones((16, 16))).astype(np.uint8)
            image = cv2.applyColorMap(label * 20, cv2.COLORMAP_JET)
            cv2.imwrite(str(tmp_path / f"data/{part}/images/p{i}.jpg"), image)
            cv2.imwrite(str(tmp_path / f"data/{part}/labels/p{i}.png"), label)
    return tmp_path / "data"


def config(data: Path, out: Path, **changes: object) -> Config:
    small = {"crop": (64, 96), "batch": 2, "eval_every": 1, "threads": 1, "warmup": 2,
             "export_size": (96, 128)}  # fmt: skip
    return Config(data=str(data), out=str(out), **{**small, **changes})


def test_two_epochs_train_evaluate_and_release(data: Path, tmp_path: Path) -> None:
    scores = main(config(data, tmp_path / "run", epochs=2))
    assert 0 <= scores["miou@1"] <= 1
    assert len((tmp_path / "run" / "log.txt").read_text().splitlines()) == 2
    segmenter = Segmenter.load(tmp_path / "run" / "model.onnx")
    assert segmenter.manifest.classes[9] == "pedestrian"
    assert segmenter(np.zeros((30, 40, 3), np.uint8)).labels.shape == (30, 40)


@pytest.mark.parametrize("arch", ["afformer_tiny", "segformer_b0"])
def test_other_light_families_are_trained_alike(arch: str, data: Path, tmp_path: Path) -> None:
    scores = main(config(data, tmp_path / "run", epochs=1, arch=arch))
    assert 0 <= scores["miou@1"] <= 1
    assert Segmenter.load(tmp_path / "run" / "model.onnx").manifest.architecture == arch


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(config(data, tmp_path / "whole", epochs=2))
    from seg_perception.training import train

    whole_epoch = train._train_epoch
    calls = []

    def stop_in_second(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole_epoch(*arguments)

    monkeypatch.setattr(train, "_train_epoch", stop_in_second)
    with pytest.raises(KeyboardInterrupt):
        main(config(data, tmp_path / "broken", epochs=2))
    monkeypatch.undo()
    main(config(data, tmp_path / "broken", epochs=2))
    ends = [
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["averaged"]
        for run in ("whole", "broken")
    ]
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_augmentation_moves_image_and_labels_together(mix: float) -> None:
    torch.manual_seed(0)
    labels = torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2).repeat(8, 1, 1)
    images = labels[:, None].expand(-1, 3, -1, -1) * 10
    for _ in range(5):
        x, truth = augment(
            images, labels, torch.tensor([[32.0, 48.0]] * 8), crop=(64, 96), scale=(0.6, 2.0),
            rotate=8.0, jitter=0.0, mix=mix, label_stride=2,
        )  # fmt: skip
        assert x.shape == (8, 3, 64, 96)
        assert truth.shape == (8, 32, 48)
        # Where a 2x2 cell is of one label, the image there shows that label's grey.
        cell = x[:, 0].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
        flat = (cell.amax(3) - cell.amin(3) < 0.5) & (truth != 255)
        assert flat.float().mean() > 0.3
        torch.testing.assert_close(
            cell.mean(3)[flat], truth[flat].float() * 10, atol=1.0, rtol=0.02
        )


def test_mixing_pastes_whole_classes_of_the_other_image() -> None:
    torch.manual_seed(0)
    labels = torch.stack([torch.full((64, 96), c, dtype=torch.uint8) for c in range(8)])
    images = labels[:, None].expand(-1, 3, -1, -1) * 10
    plain = {"crop": (64, 96), "scale": (1.0, 1.0), "rotate": 0.0, "jitter": 0.0}
    centres = torch.tensor([[32.0, 48.0]] * 8)
    _, truth = augment(images, labels, centres, mix=1.0, label_stride=2, **plain)
    own = [int(t[16, 24]) == c for c, t in enumerate(truth)]
    assert any(own)
    assert not all(own)


def test_losses_ignore_void_and_weigh_rare_classes() -> None:
    labels = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 255]]], dtype=torch.uint8)
    weights = class_weights(labels, classes=2, power=0.5)
    assert weights[1] > weights[0]
    assert float(weights[0] * 6 / 7 + weights[1] / 7) == pytest.approx(1.0)
    logits = torch.randn(1, 2, 1, 8)
    changed = logits.clone()
    changed[..., 7] = 100.0
    truth = labels[0].long()[None]
    a, b = (cross_entropy(x, truth, weights, smoothing=0.0) for x in (logits, changed))
    torch.testing.assert_close(a, b)


def test_bad_folders_and_checkpoints_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in .*start with 'x'"):
        load_images(data / "train", classes=11, match="x")
    (data / "train" / "labels" / "p0.png").unlink()
    with pytest.raises(DataError, match="p0.png are not a readable pair"):
        load_images(data / "train", classes=11)
    (tmp_path / "c.pt").write_text("nothing")
    with pytest.raises(CheckpointError, match="not a checkpoint of `seg-perception train`"):
        release(tmp_path / "c.pt", tmp_path / "m.onnx", size=(64, 64))
