"""The demo: three processes over DDS, and a report that the recording bears out."""

import json
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception import demo, messages
from seg_perception.bags.bag import BagReader, deserialize
from seg_perception.errors import SegPerceptionError
from seg_perception.live import session
from seg_perception.segmenter import Segmenter

CLIP = Path(str(resources.files("seg_perception") / "clip"))


def test_the_report_is_what_the_recording_holds(tmp_path: Path) -> None:
    demo.run_demo(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames_in"] == 101
    assert report["frames_out"] + report["dropped"] == 101
    assert report["miou"] >= 0.5
    for name in ("report.html", "overlay.mp4", "result.mcap"):
        assert (tmp_path / name).stat().st_size > 10_000
    with BagReader(tmp_path / "result.mcap") as bag:
        masks = [deserialize(m) for m in bag.raw(["/segmentation_node/label_mask"])]
        sure = list(bag.raw(["/segmentation_node/confidence"]))
        assert len(list(bag.raw([demo.IMAGES]))) == 101, "recorded from the first image on"
    assert len(masks) == len(sure) == report["frames_out"]
    # Count once more, by hand, with labels that the segmenter gives without ROS.
    segmenter = Segmenter.load("default")
    images = dict(demo._images(CLIP / "bag"))
    hits, union, seen = np.zeros(11), np.zeros(11), np.zeros(11)
    for message in masks:
        stamp = messages.stamp_ns(message.header)
        mask = messages.to_array(message)
        assert (mask == segmenter(images[stamp], "bgr8").labels).all()
        truth = cv2.imread(str(CLIP / "truth" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
        for c in range(11):
            hits[c] += ((truth == c) & (mask == c)).sum()
            union[c] += (((truth == c) | (mask == c)) & (truth != 11)).sum()
            seen[c] += (truth == c).sum()
    assert report["miou"] == pytest.approx((hits / union)[seen > 0].mean(), abs=1e-9)


def test_no_report_of_an_earlier_run_stays_when_a_node_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_text("of an earlier run")
    monkeypatch.setattr(session, "NODE", "no_such_node")
    with pytest.raises(
        SegPerceptionError, match=r"no_such_node ended with status 1:(.|\n)*No module"
    ):
        demo.run_demo(tmp_path)
    assert not (tmp_path / "report.json").exists()
