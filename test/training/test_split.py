"""What is held out: drives or blocks of time, never the neighbours of what is trained on."""

from itertools import pairwise
from pathlib import Path

import pytest

from seg_perception.errors import DataError, UsageError
from seg_perception.training.sources import Item
from seg_perception.training.split import GAP, TRAIN, VAL, split, summary, write_split


def drive(name: str, count: int, *, source: int = 0, part: str = "") -> list[Item]:
    return [Item(f"{name}_{i}", "x.png", source, name, i, part) for i in range(count)]


def parts(items: list[Item], how: str = "auto", **options: object) -> list[str]:
    found = split(items, how, **{"share": 0.2, "seed": 0, **options})
    assert [i._replace(part="") for i in found] == [i._replace(part="") for i in items]
    return [item.part for item in found]


def test_many_drives_are_held_out_whole() -> None:
    items = [item for d in range(10) for item in drive(f"d{d}", 7)]
    found = split(items, "auto", share=0.2, seed=3)
    by_drive = {}
    for item in found:
        by_drive.setdefault(item.drive, set()).add(item.part)
    assert all(len(own) == 1 for own in by_drive.values())
    assert sum(own == {VAL} for own in by_drive.values()) == 2
    assert found == split(items, "auto", share=0.2, seed=3)
    assert "train: 56 images of 8 drives; val: 14 images of 2 drives" in summary(found)


def test_one_drive_is_cut_into_blocks_with_gaps() -> None:
    found = parts(drive("d", 100))
    assert 15 <= found.count(VAL) <= 25
    assert found.count(GAP) >= 2
    for before, after in pairwise(found):
        assert {before, after} != {TRAIN, VAL}


def test_order_in_time_counts_not_order_in_the_list() -> None:
    items = drive("d", 100)
    mixed = items[1::2] + items[::2]
    found = split(mixed, "blocks", share=0.2, seed=0)
    places = {part: {i.place for i in found if i.part == part} for part in (TRAIN, VAL)}
    assert not any(place + step in places[TRAIN] for place in places[VAL] for step in (-1, 1))


def test_what_the_data_say_counts_but_for_a_holdout() -> None:
    items = drive("a", 3, part=TRAIN) + drive("b", 2, part=VAL)
    assert parts(items) == [TRAIN] * 3 + [VAL] * 2
    items += drive("c", 2, part=TRAIN)
    assert parts(items, holdout="c") == [TRAIN] * 3 + [GAP] * 2 + [VAL] * 2
    with pytest.raises(DataError, match="no drive begins with 'z'; there are a, b, c"):
        parts(items, holdout="z")


def test_each_source_is_split_by_itself() -> None:
    items = drive("a", 3, part=TRAIN) + drive("b", 2, part=VAL) + drive("c", 50, source=1)
    found = split(items, "auto", share=0.2, seed=0)
    assert {i.part for i in found if i.source == 1} == {TRAIN, VAL, GAP}
    assert [i.part for i in found if i.source == 0] == [TRAIN] * 3 + [VAL] * 2


def test_a_written_split_is_used_again(tmp_path: Path) -> None:
    found = split(drive("d", 40), "auto", share=0.2, seed=0)
    write_split(tmp_path / "split.csv", found)
    assert parts(drive("d", 40), str(tmp_path / "split.csv")) == [i.part for i in found]
    with pytest.raises(DataError, match="does not name 10 images, such as e_0"):
        parts(drive("d", 40) + drive("e", 10), str(tmp_path / "split.csv"))
    with pytest.raises(UsageError, match="'nowhere'; give auto, drives, blocks"):
        parts(drive("d", 40), "nowhere")


def test_a_part_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="no image is in val"):
        parts(drive("d", 1))
