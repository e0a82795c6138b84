"""seg-perception evaluate with several models, measures and live nodes: one command, one report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import CLIP, drive, first_of_clip, write_bag

from seg_perception.bags.bag import BagReader

Make = Callable[..., Path]

Evaluate = Callable[..., tuple[int, Any, str]]
MOUNT = ("--camera-z", "1.4", "--camera-pitch", "0.05")


def test_models_are_compared_on_the_same_images_and_judged_one_by_one(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    bag, labels = drive(tmp_path, 80)
    model, copy = make_model(), make_model("same.onnx")
    command = ("--model", model, "--model", f"{model},min_confidence=0.9", "--model",
               copy, "--bag", bag, "--labels", labels)  # fmt: skip
    status, report, said = evaluate(
        *command, "--require", "miou>=0.99", "--require", "comparison.1.miou.low>=0", "--require",
        "models.0.frames_in>=80",
    )  # fmt: skip
    assert status == 1
    base, sure, same = report["models"]
    assert [m["model"] for m in report["models"]] == [
        str(model), f"{model},min_confidence=0.9", str(copy)
    ]  # fmt: skip
    assert base["miou"] == same["miou"] > sure["miou"]
    first, second = report["comparison"]
    assert first["base"] == str(model)
    assert first["miou"]["difference"] == pytest.approx(sure["miou"] - base["miou"])
    assert first["miou"]["low"] <= first["miou"]["difference"] <= first["miou"]["high"] < 0
    assert second["miou"] == {"difference": 0, "low": 0, "high": 0}
    assert first["blocks"] == 8
    assert "rate_hz" not in base
    judged = [(v["require"], v.get("model"), v["holds"]) for v in report["verdicts"]]
    assert judged == [
        ("miou>=0.99", str(model), base["miou"] >= 0.99),
        ("miou>=0.99", f"{model},min_confidence=0.9", False),
        ("miou>=0.99", str(copy), base["miou"] >= 0.99),
        ("comparison.1.miou.low>=0", None, True),
        ("models.0.frames_in>=80", None, True),
    ]
    assert f"{model},min_confidence=0.9 against {model}: mean IoU -0." in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") >= 2


def test_models_of_other_classes_are_not_compared(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    bag, labels = drive(tmp_path, 2)
    other = make_model("other.onnx", classes=["red", "lime", "blue"], groups={})
    status, report, said = evaluate("--model", make_model(), "--model", other, "--bag", bag,
                                    "--labels", labels)  # fmt: skip
    assert status == 1
    assert "they differ from 'lime' on: compare models of the same classes" in said
    assert report is None


def test_several_models_without_truth_give_times(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    bag, _ = drive(tmp_path, 3)
    model = make_model()
    status, report, _ = evaluate("--model", model, "--model", f"{model},threads=2", "--bag", bag)
    assert status == 0
    assert [m["frames_out"] for m in report["models"]] == [3, 3]
    assert report["comparison"] == []


def test_every_measure_comes_with_a_bag_that_has_camera_info(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    with BagReader(CLIP / "bag") as clip:
        records = list(clip.raw(["/camera/image/compressed", "/camera/camera_info"]))[:12]
    bag = write_bag(tmp_path / "short.mcap", *records)
    status, report, _ = evaluate(
        "--model", "tiny", "--bag", bag, "--labels", CLIP / "truth", *MOUNT, "--measure",
        "boundary", "--measure", "calibration", "--measure", "flicker", "--measure", "occupancy",
        "--require", "boundary.iou>=0.3", "--require", "calibration.ece<=0.2",
        "--require", "flicker.share<=0.2", "--require", "occupancy.error<=0.2",
    )  # fmt: skip
    assert status == 0
    assert report["miou"] > report["boundary"]["iou"]
    assert report["flicker"]["pairs"] == report["frames_in"] - 1
    assert report["occupancy"]["cells"] > 1000
    assert sum(b["pixels"] for b in report["calibration"]["bins"]) == sum(
        map(sum, np.array(report["confusion_matrix"])[:-1])
    )


def test_a_bag_without_camera_info_gives_no_map(tmp_path: Path, evaluate: Evaluate) -> None:
    bag, _ = first_of_clip(tmp_path / "short.mcap", 2)
    status, report, said = evaluate("--model", "tiny", "--bag", bag, "--labels", CLIP / "truth",
                                    *MOUNT, "--measure", "occupancy")  # fmt: skip
    assert status == 1
    assert "record camera_info with the images" in said
    assert report is None


@pytest.mark.alone
def test_live_nodes_are_scored_by_the_masks_that_came(tmp_path: Path, evaluate: Evaluate) -> None:
    pytest.importorskip("rclpy")
    bag, _ = first_of_clip(tmp_path / "short.mcap", 10)
    command = ("--model", "tiny", "--bag", bag, "--labels", CLIP / "truth")
    status, live, said = evaluate(*command, "--live", "--rate", "0.5", "--require",
                                  "age_ms.p95<=100000")  # fmt: skip
    assert status == 0, said
    assert (live["frames_in"], live["dropped"]) == (10, 0)
    assert 0 < live["age_ms"]["p50"] <= live["age_ms"]["p95"] <= live["age_ms"]["p99"]
    assert live["jitter_ms"]["p50"] >= 0
    assert live["verdicts"][0]["holds"]
    result = tmp_path / "out" / "result.mcap"
    kept = result.rename(tmp_path / "result.mcap")
    status, offline, _ = evaluate(*command, "--stamps", kept)
    assert status == 0
    for key in ("miou", "confusion_matrix", "frames_scored", "worst"):
        assert offline[key] == live[key], key


def test_a_bag_without_truth_among_several_is_told_and_loses_nothing(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    bag, labels = drive(tmp_path, 3)
    strange, _ = drive(tmp_path, 2, first=2 * 10**18)
    command = ("--model", make_model(), "--labels", labels, "--bag", strange)
    status, report, said = evaluate(*command, "--bag", bag)
    assert status == 1
    assert [row["frames_scored"] for row in report["per_source"]] == [0, 3]
    assert f"no image of {strange} has its truth in {labels}" in report["damage"]
    assert report["damage"] in said
    status, report, said = evaluate(*command)
    assert status == 1
    assert report is None
