"""Folders as people have them: known layouts are found, and what is missing is named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from support.own_data import write_card, write_drives

from seg_perception.errors import DataError, ManifestError, UsageError
from seg_perception.training.card import card_of, class_table, data_set, read_card
from seg_perception.training.config import Config
from seg_perception.training.labels import read_classes
from seg_perception.training.layouts import drive_of, find_pairs
from seg_perception.training.sources import DataSetting, gather


def put(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((4, 6), value, np.uint8))


def test_cityscapes_names_cities_as_drives_and_leaves_test_out(tmp_path: Path) -> None:
    for part, city in (("train", "aachen"), ("val", "bonn"), ("test", "berlin")):
        put(tmp_path / f"leftImg8bit/{part}/{city}/{city}_000001_000019_leftImg8bit.png")
        put(tmp_path / f"gtFine/{part}/{city}/{city}_000001_000019_gtFine_labelIds.png", 26)
    layout = find_pairs(tmp_path)
    assert layout.name == "Cityscapes"
    assert [(p.drive, p.part) for p in layout.pairs] == [("aachen", "train"), ("bonn", "val")]
    data = gather(Config(data=(str(tmp_path),), out=str(tmp_path)))
    assert data.card.classes[13] == "car"
    assert data.tables[0][26] == 13  # car among labelIds
    assert data.tables[0][4] == 255  # static: not scored
    assert data.tables[0][77] == -1


def test_ade20k_counts_from_one_and_mmsegmentation_from_zero(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        put(tmp_path / f"ade/images/{part}/ADE_00000001.jpg")
        put(tmp_path / f"ade/annotations/{part}/ADE_00000001.png")
    for part in ("train", "val"):
        put(tmp_path / f"mm/img_dir/{part}/a_01.jpg")
        put(tmp_path / f"mm/ann_dir/{part}/a_01.png")
    ade = gather(Config(data=(str(tmp_path / "ade"),), out=str(tmp_path)))
    assert (ade.tables[0][0], ade.tables[0][1], ade.tables[0][150]) == (255, 0, 149)
    assert [item.part for item in ade.items] == ["train", "val"]
    mm = find_pairs(tmp_path / "mm")
    assert (mm.name, [p.part for p in mm.pairs]) == ("mmsegmentation", ["train", "val"])


def test_folders_without_a_layout_and_images_without_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no layout that is known"):
        find_pairs(tmp_path)
    write_drives(tmp_path, drives=1)
    (tmp_path / "labels" / "drivea_0001.png").unlink()
    with pytest.raises(DataError, match="1 of 3 images .*labels/drivea_0001.png"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("name", "drive"),
    [("0006R0_f00930", "0006R0"), ("yard-07.000123", "yard-07"), ("000123", ""), ("p7", ""),
     ("sunset", "sunset")],
)  # fmt: skip
def test_a_drive_is_what_stands_before_the_frames_number(name: str, drive: str) -> None:
    assert drive_of(name) == drive


def test_ids_of_the_card_and_palettes_of_the_files_become_classes(tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path / "card.yaml", ids={7: "floor", 9: "person", 3: "ignore"}))
    table = card.table()
    assert [int(table[i]) for i in (7, 9, 3, 255, 0)] == [0, 2, 255, 255, -1]
    grey = np.array([[7, 9], [3, 7]], np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    expected = np.array([[0, 2], [255, 0]])
    assert (read_classes(tmp_path / "grey.png", None, table) == expected).all()
    from PIL import Image

    indexed = Image.fromarray(grey, "P")
    indexed.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
    indexed.save(tmp_path / "indexed.png")
    assert (read_classes(tmp_path / "indexed.png", None, table) == expected).all()
    rgb = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb[..., ::-1])
    plain = read_card(write_card(tmp_path / "plain.yaml")).table()
    found = read_classes(tmp_path / "rgb.png", [(4, 5, 6), (9, 9, 9), (1, 2, 3)], plain)
    assert found.tolist() == [[2, 0]]


def test_classes_of_others_become_own_by_map_name_or_group_or_are_named() -> None:
    groups = card_of({"classes": ["other", "drivable", "person", "sky"]})
    city = data_set("cityscapes")
    with pytest.raises(DataError, match="own class these are: sidewalk, building"):
        class_table(city.classes, city.keys["groups"], groups)
    mapped = card_of(
        {**groups.keys, "map": {"side walk": "ignore", "sidewalk": "drivable", "*": "ignore"}}
    )
    table = class_table(city.classes, city.keys["groups"], mapped)
    by_name = dict(zip(city.classes, table, strict=False))
    assert (by_name["road"], by_name["sidewalk"], by_name["person"]) == (1, 1, 2)
    assert (by_name["rider"], by_name["sky"], by_name["building"]) == (2, 3, 255)


@pytest.mark.parametrize(
    ("content", "text"),
    [({"names": ["a"]}, "a table with classes"), ({"classes": ["a"], "colour": 1}, "'colour'"),
     ({"classes": ["a"], "map": {"x": "b"}}, "lead to 'b'"), ({"classes": ["a", "a"]}, "twice")],
)  # fmt: skip
def test_cards_that_mean_nothing_are_refused(content: dict[str, object], text: str) -> None:
    with pytest.raises(ManifestError, match=text):
        card_of(content)


def test_settings_of_data_are_read_or_refused() -> None:
    found = DataSetting.parse("yard,weight=2.5,labels=truth")
    assert (found.path, found.weight, found.labels) == ("yard", 2.5, "truth")
    for text, problem in (("yard,wight=2", "'wight'"), ("yard,weight=x", "takes no 'x'"),
                          ("yard,weight=0", "above 0")):  # fmt: skip
        with pytest.raises(UsageError, match=problem):
            DataSetting.parse(text)
