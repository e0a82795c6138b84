"""The demo: three processes over DDS, and a report that the recording bears out."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception import demo, messages
from seg_perception.errors import SegPerceptionError
from seg_perception.evaluation.bags import BagReader, deserialize
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
        assert len(list(bag.raw([demo.PICTURES]))) == 101, "recorded from the first picture on"
    assert len(masks) == len(sure) == report["frames_out"]
    # Count once more, by hand, with labels that the segmenter gives without ROS.
    segmenter = Segmenter.load("default")
    pictures = dict(demo._pictures(CLIP / "bag"))
    hits, union, seen = np.zeros(11), np.zeros(11), np.zeros(11)
    for message in masks:
        stamp = messages.stamp_ns(message.header)
        mask = messages.to_array(message)
        assert (mask == segmenter(pictures[stamp], "bgr8").labels).all()
        truth = cv2.imread(str(CLIP / "truth" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
        for c in range(11):
            hits[c] += ((truth == c) & (mask == c)).sum()
            union[c] += (((truth == c) | (mask == c)) & (truth != 11)).sum()
            seen[c] += (truth == c).sum()
    assert report["miou"] == pytest.approx((hits / union)[seen > 0].mean(), abs=1e-9)


def test_a_node_that_fails_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "NODE", "no_such_node")
    with pytest.raises(
        SegPerceptionError, match=r"no_such_node ended with status 1:(.|\n)*No module"
    ):
        demo.run_demo(tmp_path)


def test_a_node_that_stops_on_the_way_is_an_error_and_no_old_report_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_text("of an earlier run")
    nodes: dict[str, demo._Process] = {}
    start = demo._Process.__init__

    def start_and_stop(process: demo._Process, name: str, *arguments: Any) -> None:
        start(process, name, *arguments)
        nodes[name] = process
        if name == "player_node":
            nodes[demo.NODE]._process.terminate()

    monkeypatch.setattr(demo._Process, "__init__", start_and_stop)
    with pytest.raises(SegPerceptionError, match="segmentation_node ended with status 0"):
        demo.run_demo(tmp_path)
    assert not (tmp_path / "report.json").exists()
    assert all(p._process.returncode is not None for p in nodes.values()), "nothing is left running"


def test_the_demo_keeps_to_this_machine_whatever_the_shell_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    seen: list[dict[str, str]] = []

    def look(*arguments: Any, env: dict[str, str], **_: Any) -> None:
        seen.append(env)
        raise SegPerceptionError("seen enough")

    monkeypatch.setattr(demo.subprocess, "Popen", look)
    with pytest.raises(SegPerceptionError, match="seen enough"):
        demo.run_demo(tmp_path)
    assert seen[0]["ROS_DOMAIN_ID"] != "0"
    assert seen[0]["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert Path(seen[0]["FASTDDS_DEFAULT_PROFILES_FILE"]).name == "fastdds.xml"
