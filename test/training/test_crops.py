"""Crops move image and labels together, and depend on seed and key alone."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.own_data import write_card, write_drives
from support.train import small

from seg_perception.errors import DataError
from seg_perception.training.augment import change_colours, paste
from seg_perception.training.card import card_of
from seg_perception.training.config import Config
from seg_perception.training.crops import Batch, Crops
from seg_perception.training.losses import class_weights, coarser, cross_entropy, mass
from seg_perception.training.schedule import Schedule, loader
from seg_perception.training.soft_labels import SoftLabels, write_soft
from seg_perception.training.sources import Item, Labelled, gather


def stripes(folder: Path, soft: bool = False) -> tuple[Labelled, list[Item]]:
    """Write an image whose grey is ten times its label, of 24 labels."""
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6).repeat(16, 0).repeat(16, 1)
    cv2.imwrite(str(folder / "a.png"), cv2.merge([ids * 10] * 3))
    cv2.imwrite(str(folder / "a_ids.png"), ids)
    card = card_of({"classes": [f"c{i}" for i in range(24)]})
    item = Item(str(folder / "a.png"), str(folder / "a_ids.png"), 0, "", 0)
    if soft:
        planes = (ids[::4, ::4] == np.arange(24)[:, None, None]).astype(np.float32)
        write_soft(folder / "a.npz", SoftLabels.of(planes))
        item = item._replace(label="", soft=str(folder / "a.npz"))
    return Labelled([item], card, [1.0], [card.table()], [None], []), [item]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("zoom", [(0.3, 0.4), (0.6, 2.0)])
def test_image_and_labels_move_together(soft: bool, zoom: tuple, tmp_path: Path) -> None:
    data, items = stripes(tmp_path, soft)
    config = Config(crop=(64, 96), scale=zoom, rotate=8.0, stretch=0.2)
    crops = Crops(data, items, config, area=64 * 96.0)
    flat_cells = []
    for position in range(8):
        sample = crops[0, position, 0]
        assert sample.image.shape == (3, 64, 96)
        assert sample.ids.shape[1:] == sample.weight.shape == (32, 48)
        # Where a 2x2 cell is of one label, the image there shows that label's grey.
        cell = sample.image[0].astype(float).reshape(32, 2, 48, 2).swapaxes(1, 2).reshape(32, 48, 4)
        flat = (np.ptp(cell, axis=2) < 0.5) & (sample.weight > 0.9)
        flat_cells.append(flat.sum())
        wrong = np.abs(cell.mean(2) - sample.ids[0] * 10.0)[flat] > 1
        assert not wrong.any()
    assert sum(flat_cells) > 300


def test_a_crop_leaves_its_image_as_void_only_where_it_must(tmp_path: Path) -> None:
    data, items = stripes(tmp_path)
    inside = Crops(data, items, Config(crop=(32, 64), scale=(1.0, 1.0), rotate=0.0), 64 * 96.0)
    assert all((inside[0, i, 0].weight > 0).all() for i in range(10))
    outside = Crops(data, items, Config(crop=(64, 96), scale=(0.5, 0.5), rotate=0.0), 64 * 96.0)
    assert (outside[0, 0, 0].weight > 0).mean() == pytest.approx(0.25, abs=0.02)


def test_the_same_key_draws_the_same_whoever_reads(tmp_path: Path) -> None:
    data = gather(
        Config(
            data=(str(write_drives(tmp_path / "d")),), out=str(tmp_path),
            card=str(write_card(tmp_path / "card.yaml")),
        )
    )  # fmt: skip
    batches = {}
    for workers in (0, 2):
        config = small(None, tmp_path, workers=workers, epochs=2)
        schedule = Schedule([1.0] * len(data.items), config)
        batches[workers] = list(loader(Crops(data, data.items, config, 1536.0), schedule, config))
    assert len(batches[0]) == 2 * (15 // 2)
    for one, other in zip(batches[0], batches[2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(batches[0][0].images, batches[0][7].images)


@pytest.mark.timeout(120)
def test_workers_begin_after_opencv_has_threads_here(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    large = random.integers(0, 256, (720, 960, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), large)
    cv2.imwrite(str(tmp_path / "a_ids.png"), large[..., 0] // 128)
    card = card_of({"classes": ["a", "b"]})
    items = [Item(str(tmp_path / "a.png"), str(tmp_path / "a_ids.png"), 0, "", 0)] * 4
    data = Labelled(items, card, [1.0], [card.table()], [None], [])
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.warpAffine(large, np.eye(2, 3), (960, 720))
        config = Config(crop=(320, 416), batch=2, epochs=1, workers=1)
        schedule = Schedule([1.0] * 4, config)
        batches = list(loader(Crops(data, items, config, 720 * 960.0), schedule, config))
    finally:
        cv2.setNumThreads(before)
    assert [batch.images.shape for batch in batches] == [(2, 3, 320, 416)] * 2


def test_weights_say_how_often_an_image_is_seen() -> None:
    config = Config(batch=5, epochs=40)
    schedule = Schedule([2.0, 0.5, *[1.0] * 8], config)
    seen = [index for batch in schedule for _, _, index in batch]
    counts = np.bincount(seen) / 40
    assert len(seen) == 40 * 2 * 5
    assert counts[0] == pytest.approx(2.0, abs=0.15)
    assert counts[1] == pytest.approx(0.5, abs=0.2)
    rest = [index for batch in Schedule([1.0] * 10, config, first=3) for _, _, index in batch]
    whole = [index for batch in Schedule([1.0] * 10, config) for _, _, index in batch]
    assert rest == whole[3 * 5 :]


def test_an_image_that_vanishes_while_training_is_named(tmp_path: Path) -> None:
    data, items = stripes(tmp_path)
    (tmp_path / "a.png").unlink()
    config = Config(crop=(32, 64), batch=1, epochs=1, workers=1)
    (batch,) = loader(Crops(data, items, config, 1.0), Schedule([1.0], config), config)
    assert isinstance(batch, DataError)
    assert "a.png cannot be read" in str(batch)


def batch_of(labels: torch.Tensor) -> Batch:
    """Return a batch of hard labels (B,h,w), 255 void."""
    weight = (labels < 255).float()
    ids = torch.where(labels < 255, labels, 0)[:, None].byte()
    images = labels[:, None].float().mul(10).expand(-1, 3, -1, -1)
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3).byte()
    return Batch(images, ids, torch.full_like(ids, 255), weight)


def test_pasting_takes_whole_classes_of_the_other_image_with_their_labels() -> None:
    torch.manual_seed(0)
    labels = torch.stack([torch.full((32, 48), c) for c in range(8)])
    batch = batch_of(labels)
    images, mixed = paste(batch.images.float(), batch, share=1.0)
    own = [int(t[0, 16, 24]) == c for c, t in enumerate(mixed.ids)]
    assert any(own)
    assert not all(own)
    assert torch.equal(images[:, 0, ::2, ::2], mixed.ids[:, 0].float() * 10)
    same, _ = paste(batch.images.float(), batch, share=0.0)
    assert torch.equal(same, batch.images.float())


def test_colours_stay_in_range_and_change_nothing_at_strength_0() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8) * 255
    assert torch.allclose(change_colours(images, 0.0), images, atol=0.05)
    changed = change_colours(images, 0.5)
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (changed - images).abs().mean() > 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_hard_labels_is_that_of_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 8, 8))
    labels[0, 0] = 255
    weights = class_weights(np.array([10, 20, 30, 40]), power=0.5)
    logits = torch.randn(2, 4, 8, 8)
    batch = batch_of(labels)
    ours = cross_entropy(logits, batch, weights, smoothing=smoothing) / mass(batch, weights)
    theirs = torch.nn.functional.cross_entropy(
        logits, labels, weight=weights, ignore_index=255, label_smoothing=smoothing
    )
    torch.testing.assert_close(ours, theirs)
    assert coarser(batch, 4).ids.shape == (2, 1, 2, 2)


def test_soft_labels_pull_between_classes_and_unsure_places_less() -> None:
    weights = torch.ones(3)
    ids = torch.tensor([0, 2, 1], dtype=torch.uint8).view(1, 3, 1, 1)
    shares = torch.tensor([153, 102, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    batch = Batch(torch.zeros(1), ids, shares, torch.full((1, 1, 1), 0.25))
    cross_entropy(logits, batch, weights, smoothing=0.0).backward()
    expected = 0.25 * (torch.full((3,), 1 / 3) - torch.tensor([0.6, 0.0, 0.4]))
    torch.testing.assert_close(logits.grad.flatten(), expected)


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(np.array([600, 100]), power=0.5)
    assert weights[1] > weights[0]
    assert float(weights[0] * 6 / 7 + weights[1] / 7) == pytest.approx(1.0)


GROWTH = """
import sys, resource
from pathlib import Path
import cv2, numpy as np
from seg_perception.training.card import card_of
from seg_perception.training.config import Config
from seg_perception.training.crops import Crops
from seg_perception.training.inspect import inspect
from seg_perception.training.schedule import Schedule, loader
from seg_perception.training.sources import Item, Labelled
folder, count = Path(sys.argv[1]), int(sys.argv[2])
card = card_of({"classes": ["a", "b"]})
items = [Item(str(folder / f"{i % 50}.png"), str(folder / f"{i % 50}_ids.png"), 0, "", i, "train")
         for i in range(count)]
data = Labelled(items, card, [1.0], [card.table()], [None], [])
inspect(data, items, folder / f"run{count}", threads=1)
config = Config(crop=(32, 64), batch=10, epochs=1, workers=0)
for _ in loader(Crops(data, items, config, 160 * 240.0), Schedule([1.0] * count, config), config):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(50):
        cv2.imwrite(str(tmp_path / f"{i}.png"), random.integers(0, 256, (160, 240, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"{i}_ids.png"), random.integers(0, 2, (160, 240), np.uint8))
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", GROWTH, str(tmp_path), str(count)]))
        for count in (100, 1100)
    ]
    decoded = 1000 * 160 * 240 * 4 / 1024  # kB of the images that were added: 150 MB
    assert peaks[1] - peaks[0] < decoded / 10
