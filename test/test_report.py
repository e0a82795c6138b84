"""Reports and charts are whole and self-contained."""

import json
from pathlib import Path

import numpy as np
from conftest import card

from seg_perception.evaluation.report import Report, Sample, Timeline, write_html, write_json
from seg_perception.manifest import Manifest

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
    picture = np.zeros((12, 16, 3), np.uint8)
    write_html(
        tmp_path / "report.html",
        REPORT,
        samples=[Sample("0.0 s", picture, picture, picture, picture)],
        timeline=Timeline([0.0, 0.1], [30.0, 31.0], [0.05]),
        confusion=np.ones((4, 4), np.int64),
        space=Manifest.from_dict(card()).label_space(),
        beside={"overlay.mp4": "the drive"},
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("<svg") == 4
    assert 'src="http' not in page
    assert "<b>bold" not in page, "names are escaped"
    assert "#010203" not in page, "charts take the page's text colour"
    assert '<i style="background: rgb(255, 0, 0)"></i>red' in page
    assert '<a href="overlay.mp4">overlay.mp4</a>, the drive' in page
    assert "1 picture got no mask" in page
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
