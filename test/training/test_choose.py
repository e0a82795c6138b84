"""Frames are chosen to differ, and a teacher's labels keep what is needed in a few kB."""

from pathlib import Path

import numpy as np
import pytest

from seg_perception.errors import DataError
from seg_perception.training.choose import choose, distance, signature
from seg_perception.training.soft_labels import SoftLabels, read_soft, write_soft


def grey(value: int) -> np.ndarray:
    return signature(np.full((24, 32, 3), value, np.uint8))


def test_distance_is_a_share_of_the_range() -> None:
    assert distance(grey(0), np.stack([grey(0), grey(255)])).tolist() == [0.0, 1.0]


def test_a_thousand_of_one_wall_count_once() -> None:
    wall = [grey(100)] * 1000
    views = [*wall, grey(0), grey(203), *wall, grey(200)]
    assert choose(views, 100) == [0, 1000, 1001]


def test_the_farthest_come_first_and_labelled_ones_always() -> None:
    views = [grey(v) for v in range(0, 250, 10)]
    assert choose(views, 3) == [0, 12, 24]
    assert choose(views, 3, always=[5]) == [5, 24, 14] or set(choose(views, 3, always=[5])) >= {
        5,
        24,
    }
    assert choose(views, 1, always=[3, 4]) == [3, 4]
    assert choose([], 5) == []


def test_the_best_classes_of_each_cell_survive_the_disk(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scores = random.random((20, 45, 60)).astype(np.float32) ** 8
    planes = scores / scores.sum(0)
    write_soft(tmp_path / "a.npz", SoftLabels.of(planes))
    soft = read_soft(tmp_path / "a.npz")
    best = np.argsort(-planes, axis=0)[:3]
    assert (soft.ids == best).mean() > 0.999
    kept = np.take_along_axis(planes, soft.ids.astype(int), axis=0)
    np.testing.assert_allclose(soft.shares / 255, kept, atol=0.5 / 255 + 1e-6)
    two = SoftLabels.of(planes[:2])
    assert (two.shares[2] == 0).all()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK half")
    with pytest.raises(DataError, match="a.npz holds no labels of a teacher.*delete it"):
        read_soft(tmp_path / "a.npz")
