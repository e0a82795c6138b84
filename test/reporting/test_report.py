"""Reports and charts are whole and self-contained."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.brightest import card
from support.paths import ROOT

from seg_perception.errors import DataError
from seg_perception.manifest import Manifest
from seg_perception.metrics.paired import Blocks, Difference, compare
from seg_perception.reporting.report import (
    Report,
    Sample,
    Timeline,
    known_keys,
    write_comparison,
    write_html,
    write_json,
)

SPACE = Manifest.from_dict(card()).label_space()
IMAGE = np.zeros((12, 16, 3), np.uint8)

REPORT = Report(
    miou=0.5,
    miou_void_counted=0.4,
    pixel_accuracy=0.8,
    per_class_iou={"red": 0.5, "green": None, "blue": 0.5},
    frames_in=3,
    frames_out=2,
    dropped=1,
    rate_hz=15.0,
    age_ms={"p50": 30.0, "p95": 40.0, "p99": 50.0},
    stage_ms={"network": 20.0},
    model="<b>bold</b>",
    provider="cpu",
    threads=1,
)


def test_report_json_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", REPORT)
    loaded = json.loads((tmp_path / "report.json").read_text())
    for key in (
        "miou", "pixel_accuracy", "per_class_iou", "miou_void_counted", "frames_in", "frames_out",
        "dropped", "rate_hz", "age_ms", "stage_ms", "model", "provider", "threads", "schema",
    ):  # fmt: skip
        assert key in loaded
    assert loaded["per_class_iou"]["green"] is None


def test_report_html_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    image = np.zeros((12, 16, 3), np.uint8)
    write_html(
        tmp_path / "report.html",
        REPORT,
        samples=[Sample("0.0 s", image, image, image, image)],
        timeline=Timeline([0.0, 0.1], [30.0, 31.0], [0.05]),
        confusion=np.ones((4, 4), np.int64),
        space=Manifest.from_dict(card()).label_space(),
        related={"overlay.mp4": "the drive"},
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("<svg") == 4
    assert 'src="http' not in page
    assert "<b>bold" not in page, "names are escaped"
    assert "#010203" not in page, "charts take the page's text colour"
    assert '<i style="background: rgb(255, 0, 0)"></i>red' in page
    assert '<a href="overlay.mp4">overlay.mp4</a>, the drive' in page
    assert "1 image got no mask" in page
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_page_tells_of_every_key_and_of_no_other() -> None:
    page = (ROOT / "docs" / "report.md").read_text("utf-8")
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    told = [key for cell in cells for key in re.findall(r"`(\w+)`", cell)]
    assert len(told) == len(set(told))
    assert set(told) == known_keys() | {"models", "comparison"}


MEASURED = replace(
    REPORT,
    age_ms=None,
    metrics={
        "boundary": {
            "iou": 0.21,
            "per_class_iou": {"red": 0.2, "green": None, "blue": 0.22},
            "width": 1,
        },
        "calibration": {
            "ece": 0.031,
            "mce": 0.12,
            "mean_confidence": 0.93,
            "accuracy": 0.9,
            "bins": [
                {"confidence": None, "accuracy": None, "pixels": 0},
                {"confidence": 0.6, "accuracy": 0.5, "pixels": 10},
            ],
        },
        "flicker": {"share": 0.023, "per_class": {"red": 0.01, "green": None, "blue": 0.0}},
        "occupancy": {
            "cells": 123,
            "error": 0.07,
            "missed": 0.031,
            "phantom": None,
            "unseen": 0.01,
            "per_group_iou": {"person": None, "drivable": 0.95},
        },
    },
    per_source=[
        {"source": "monday.mcap", "frames_in": 2, "frames_out": 1, "miou": 0.5},
        {"source": "tuesday.mcap", "frames_in": 1, "frames_out": 1, "miou": None},
    ],
)


def test_the_page_shows_what_was_measured_besides_the_scores(tmp_path: Path) -> None:
    page = shown(tmp_path, MEASURED, worst=[Sample("17: mean IoU 0.1", IMAGE, IMAGE, IMAGE)])
    for text in ("boundary IoU", "share that flickers", "how often it is right", "monday.mcap"):
        assert text in page
    assert "2.3 %" in page, "flicker"
    assert "off by 0.031 in the mean" in page
    assert re.search(r"missed</th>\s*<td>3.1 %", page)
    assert re.search(r"not there</th>\s*<td>-<", page), "nothing lethal was predicted"
    assert "17: mean IoU 0.1" in page
    assert page.count("<svg") == 2


def test_the_page_is_silent_about_what_was_not_measured(tmp_path: Path) -> None:
    page = shown(tmp_path, replace(REPORT, age_ms=None))
    for text in ("boundary", "flicker", "Confidence", "map that follows", "Recordings", "worst"):
        assert text not in page


def shown(folder: Path, report: Report, *, worst: list[Sample] | None = None) -> str:
    write_html(folder / "report.html", report, samples=[], worst=worst or [], space=SPACE)
    return (folder / "report.html").read_text()


def difference() -> Difference:
    """Six seconds of one image; the other model is right on 9 pixels of red more."""
    base, other = Blocks(3), Blocks(3)
    for second in range(6):
        base.add(second * 10**9, np.array([[50, 0, 50], [100, 0, 100], [50, 0, 50]]))
        other.add(second * 10**9, np.array([[59, 0, 50], [100, 0, 100], [59, 0, 50]]))
    return compare(base, other, ("red", "green", "blue"))


def compared(folder: Path, **changes: object) -> tuple[dict, str]:
    base = replace(REPORT, model="base")
    other = replace(
        REPORT, model="<i>other</i>", per_class_iou={**REPORT.per_class_iou, "red": 0.59}
    )
    parts = {
        "reports": [base, other],
        "differences": [difference()],
        "worst": [[], [Sample("5: mean IoU 0.3", IMAGE, IMAGE, IMAGE, base=IMAGE)]],
        "verdicts": [{"model": "base", "require": "miou>=0.9", "value": 0.5, "holds": False}],
        "space": SPACE,
    }
    write_comparison(folder / "report.json", folder / "report.html", **{**parts, **changes})
    page = (folder / "report.html").read_text()
    return json.loads((folder / "report.json").read_text()), page


def test_a_comparison_holds_each_report_and_what_differs(tmp_path: Path) -> None:
    content, page = compared(tmp_path)
    assert set(content) == {"schema", "models", "comparison", "verdicts"}
    assert [model["model"] for model in content["models"]] == ["base", "<i>other</i>"]
    (found,) = content["comparison"]
    assert (found["base"], found["model"]) == ("base", "<i>other</i>")
    assert found["miou"]["difference"] == pytest.approx(0.045)
    assert found["per_class_iou"]["red"]["low"] == pytest.approx(0.09)
    assert found["per_class_iou"]["green"] == {"difference": None, "low": None, "high": None}
    assert (found["blocks"], found["unit"], found["better_blocks"]) == (6, "seconds", 1.0)
    assert "+0.090 (+0.090 to +0.090)" in page
    assert re.search(r"base: miou&gt;=0.9</th>\s*<td>0.5</td>\s*<td class=\"bad\">fails", page)


def test_the_page_of_a_comparison_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    _, page = compared(tmp_path)
    assert page.count("data:image/jpeg;base64,") == 4, "camera, the base's labels, labels, truth"
    assert page.count("<svg") == 2
    assert 'src="http' not in page
    assert "<i>other" not in page, "names are escaped"
    assert "labels of the base" in page
    assert "loses most against the base" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_models_are_compared_in_time_alone_where_there_is_no_truth(tmp_path: Path) -> None:
    blind = [
        replace(REPORT, model=name, miou=None, per_class_iou=None, pixel_accuracy=None)
        for name in ("base", "other")
    ]
    content, page = compared(tmp_path, reports=blind, differences=[], worst=[], verdicts=None)
    assert content["comparison"] == []
    assert "verdicts" not in content
    assert "network, ms" in page
    assert "IoU" not in page


def test_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two of the models .* have one name; name their settings"):
        compared(tmp_path, reports=[REPORT, REPORT])
    assert not list(tmp_path.iterdir())
