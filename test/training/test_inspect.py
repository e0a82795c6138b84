"""Everything that is wrong with data is named before the first step."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.own_data import CLASSES, write_card, write_drives

from seg_perception.errors import DataError
from seg_perception.training import inspect as module
from seg_perception.training.config import Config
from seg_perception.training.inspect import Summary, check_classes, inspect
from seg_perception.training.sources import gather
from seg_perception.training.split import TRAIN, VAL, split


def look(folder: Path) -> Summary:
    card = write_card(folder / "card.yaml")
    data = gather(Config(data=(str(folder / "data"),), card=str(card), out=str(folder)))
    items = split(data.items, "drives", share=0.2, seed=0)
    return inspect(data, items, folder / "run")


def labels_of(folder: Path) -> list[Path]:
    return sorted((folder / "data" / "labels").iterdir())


def test_pixels_images_and_sizes_are_counted(tmp_path: Path) -> None:
    write_drives(tmp_path / "data")
    found = look(tmp_path)
    total = sum(cv2.imread(str(p), -1).size for p in labels_of(tmp_path))
    assert sum(int(counts.sum()) for counts in found.pixels.values()) == total
    assert found.images[TRAIN].tolist() == [12, 12, 12]
    assert found.images[VAL].tolist() == [3, 3, 3]
    assert found.sizes == {(32, 48): 8, (48, 40): 4}
    assert found.median_size == (32, 48)


def test_files_are_read_once_and_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_drives(tmp_path / "data")
    first = look(tmp_path)
    read: list[str] = []
    real = module._look_at
    monkeypatch.setattr(
        module, "_look_at", lambda item, palette: read.append(item.image) or real(item, palette)
    )
    assert (look(tmp_path).pixels[TRAIN] == first.pixels[TRAIN]).all()
    assert read == []
    path = labels_of(tmp_path)[0]
    cv2.imwrite(str(path), np.zeros((32, 48), np.uint8))
    look(tmp_path)
    assert [Path(image).stem for image in read] == [path.stem]


def test_what_cannot_be_used_is_listed_together(tmp_path: Path) -> None:
    write_drives(tmp_path / "data")
    labels = labels_of(tmp_path)
    labels[0].write_bytes(b"no image")
    cv2.imwrite(str(labels[1]), np.zeros((4, 4), np.uint8))
    ids = cv2.imread(str(labels[2]), -1)
    ids[0, 0] = 9
    cv2.imwrite(str(labels[2]), ids)
    with pytest.raises(DataError) as raised:
        look(tmp_path)
    text = str(raised.value)
    assert "2 of 15 pairs" in text
    assert "drivea_0000.png cannot be read" in text
    assert "(4, 4)" in text
    assert "ids [9] of 1 label files are no class of the card's 3" in text
    known = json.loads((tmp_path / "run" / "checked.json").read_text())
    assert len(known) == 13  # what was good is not read again


def test_the_same_pixels_in_train_and_val_are_named(tmp_path: Path) -> None:
    write_drives(tmp_path / "data")
    images = sorted((tmp_path / "data" / "images").iterdir())
    for image in images[1:]:
        shutil.copy(images[0], image)
    for label in labels_of(tmp_path)[1:]:
        shutil.copy(labels_of(tmp_path)[0], label)
    with pytest.raises(DataError, match="3 images of val are in train, too"):
        look(tmp_path)


def test_classes_that_never_occur_are_noted_and_most_of_them_refused(tmp_path: Path) -> None:
    write_drives(tmp_path / "data")
    for label in labels_of(tmp_path):
        ids = cv2.imread(str(label), -1)
        cv2.imwrite(str(label), np.minimum(ids, 1))
    assert "never in train: person" in look(tmp_path).notes(CLASSES)
    for label in labels_of(tmp_path):
        cv2.imwrite(str(label), np.zeros_like(cv2.imread(str(label), -1)))
    with pytest.raises(DataError, match="2 of 3 classes never occur .wall, person.*--card"):
        check_classes(CLASSES, look(tmp_path))
