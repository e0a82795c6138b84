"""Labelled frames of bags are trained on: labels from a folder by stamp, or from a topic."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from support.own_data import image, labels, write_card
from support.recordings import image_message, write_bag
from support.train import small

from seg_perception.errors import DataError
from seg_perception.segmenter import Segmenter
from seg_perception.training import bag_frames
from seg_perception.training.card import read_card
from seg_perception.training.sources import Item, gather
from seg_perception.training.train import main

STAMPS = [9_000_000_000 + i * 500_000_000 for i in range(20)]  # from one digit to the next


def record(path: Path, *, topic: bool) -> dict[int, np.ndarray]:
    """Write a bag of images; every second one has a label message where `topic` says so."""
    random = np.random.default_rng(0)
    truth, records = {}, []
    for i, stamp in enumerate(STAMPS):
        ids = labels(random, (32, 48))
        pixels = np.ascontiguousarray(image(ids, random)[..., ::-1])
        records.append(image_message("/rgb", stamp, pixels, "rgb8"))
        if i % 2 == 0:
            truth[stamp] = ids
            if topic:
                records.append(image_message("/truth", stamp, ids, "mono8"))
    write_bag(path, *records)
    return truth


def items(tmp_path: Path, setting: str) -> list[Item]:
    card = write_card(tmp_path / "card.yaml")
    return gather(small(None, tmp_path / "run", bags=(setting,), card=str(card))).items


@pytest.mark.parametrize("topic", [True, False])
def test_labelled_frames_become_files_once(
    topic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = record(tmp_path / "yard.mcap", topic=topic)
    for stamp, ids in truth.items():
        (tmp_path / "truth").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "truth" / f"{stamp}.png"), ids)
    where = "/truth" if topic else tmp_path / "truth"
    setting = f"{tmp_path / 'yard.mcap'},topic=/rgb,labels={where},weight=2"
    found = items(tmp_path, setting)
    assert [item.place for item in found] == list(truth)
    assert {item.drive for item in found} == {"yard"}
    for item in found:
        assert (cv2.imread(item.label, -1) == truth[item.place]).all()
        assert cv2.imread(item.image).shape == (32, 48, 3)
    monkeypatch.setattr(bag_frames, "_write_frames", lambda *_: pytest.fail("written again"))
    assert items(tmp_path, setting) == found


def test_bags_without_labels_are_refused_with_what_to_do(tmp_path: Path) -> None:
    record(tmp_path / "yard.mcap", topic=False)
    with pytest.raises(DataError, match="yard.mcap has no labels: write --bag .*distill"):
        items(tmp_path, str(tmp_path / "yard.mcap"))
    (tmp_path / "truth").mkdir()
    cv2.imwrite(str(tmp_path / "truth" / "1.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(DataError, match=f"none of the 20 images .* such as {STAMPS[0]}.png"):
        items(tmp_path, f"{tmp_path / 'yard.mcap'},labels={tmp_path / 'truth'}")


def test_one_bag_trains_with_blocks_of_time_held_out(tmp_path: Path) -> None:
    record(tmp_path / "yard.mcap", topic=True)
    card = str(write_card(tmp_path / "card.yaml"))
    setting = f"{tmp_path / 'yard.mcap'},labels=/truth"
    config = small(None, tmp_path / "run", bags=(setting,), card=card, epochs=1)
    assert "miou" in main(config)
    assert list(Segmenter.load(tmp_path / "run" / "model.onnx").manifest.classes) == (
        read_card(Path(card)).classes
    )
