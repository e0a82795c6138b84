"""A new metric is one file and one line: nothing else of the package names one."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.paths import ROOT
from support.recordings import thirds, write_images

from seg_perception.metrics.description import Compared, Description, Headline, Panel, Table, share
from seg_perception.metrics.registry import METRICS

Make = Callable[..., Path]

Evaluate = Callable[..., tuple[int, Any, str]]


class Leftness:
    """The share of labelled pixels in the left half of the images, of all and of each class."""

    name = "leftness"
    needs_truth = False
    needs_confidence = False
    needs_previous = False
    needs_camera = False

    def __init__(self, classes: Any) -> None:
        self.classes = classes
        self.pixels = np.zeros((2, len(classes)), np.int64)  # on the left, anywhere

    @classmethod
    def create(cls, context: Any) -> "Leftness":
        return cls(context.manifest.classes)

    def add(self, view: Any) -> None:
        left = view.labels[:, : view.labels.shape[1] // 2]
        for row, ids in zip(self.pixels, (left, view.labels), strict=True):
            row += np.bincount(ids.ravel(), minlength=256)[: len(self.classes)]

    def state(self) -> dict[str, Any]:
        return {"pixels": self.pixels.copy()}

    def merge(self, later: dict[str, Any]) -> None:
        self.pixels += later["pixels"]

    def result(self) -> dict[str, Any]:
        left, all_ = self.pixels.tolist()
        shares = zip(self.classes, left, all_, strict=True)
        return {
            "share": sum(left) / sum(all_),
            "per_class": {name: part / whole if whole else None for name, part, whole in shares},
        }

    @staticmethod
    def describe(result: Any) -> Description:
        text = share(result["share"])
        return Description(
            rows=[("labels on the left", text)],
            compared=Compared("how far left", result["share"]),
            headline=Headline(text, "of labels are left"),
            panel=Panel("share on the left", result["per_class"]),
            table=Table("The left half", [("its share", text)]),
        )


@pytest.fixture
def leftness(monkeypatch: pytest.MonkeyPatch) -> str:
    """Add the one file and the one line."""
    file = ModuleType("seg_perception.metrics.leftness")
    file.METRIC = Leftness
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setitem(METRICS, "leftness", "how much is on the left")
    return "leftness"


def test_a_new_metric_is_in_the_report_the_page_and_the_table(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Evaluate, leftness: str
) -> None:
    images = write_images(tmp_path / "images", halves, halves)
    labels = write_images(tmp_path / "labels", thirds(), thirds())
    status, report, said = evaluate(
        "--model", make_model(), "--images", images, "--labels", labels, "--measure", leftness,
        "--measure", "boundary", "--require", "leftness.per_class.red>=1",
    )  # fmt: skip
    assert status == 0, said
    # The network says red in the left half and blue in the right one.
    shares = {"share": 0.5, "per_class": {"red": 1.0, "green": None, "blue": 0.0}}
    assert report["leftness"] == shares
    keys = list(report)
    assert keys[keys.index("boundary") + 1] == "leftness", "in the order of the dict"
    assert "metrics" not in report
    assert re.search(r"labels on the left +│ +0\.500", said)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>0.500</b><span>of labels are left</span>" in page
    assert "<h3>The left half</h3>" in page
    assert '<tr><th scope="row">its share</th><td>0.500</td></tr>' in page
    assert "<!-- share on the left -->" in page, "the chart of the classes"


def test_a_new_metric_is_compared_between_models(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Evaluate, leftness: str
) -> None:
    images = write_images(tmp_path / "images", halves)
    model = make_model()
    status, report, _ = evaluate("--model", model, "--model", f"{model},threads=2",
                                 "--images", images, "--measure", leftness)  # fmt: skip
    assert status == 0
    assert [each["leftness"]["share"] for each in report["models"]] == [0.5, 0.5]
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r"how far left</th><td>0\.500</td><td>0\.500</td>", page)


def test_a_metric_that_needs_what_is_not_there_is_refused_by_its_needs(
    make_model: Make,
    halves: np.ndarray,
    tmp_path: Path,
    evaluate: Evaluate,
    leftness: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = write_images(tmp_path / "images", halves)
    command = ("--model", make_model(), "--images", images, "--measure", leftness)
    for need, text in (
        ("needs_truth", "--measure leftness needs truth"),
        ("needs_camera", "--measure leftness needs a --bag with CameraInfo"),
    ):
        monkeypatch.setattr(Leftness, need, True)
        status, report, said = evaluate(*command)
        assert (status, report) == (2, None)
        assert text in said


def test_no_other_file_names_a_metric() -> None:
    package, names = ROOT / "seg_perception", "|".join(METRICS)
    own = {package / "metrics" / f"{name}.py" for name in [*METRICS, "registry"]}
    near = [package / room for room in ("metrics", "reporting", "evaluation")]
    found = []
    for path in sorted({*package.rglob("*.py"), *package.rglob("*.j2")} - own):
        text = path.read_text("utf-8").replace("seg_perception.occupancy", "")  # a room
        pattern = rf"\b({names})\b"
        if not {*near} & {*path.parents} and path != package / "cli" / "evaluate.py":
            # Far away the words have other meanings; imports of metrics would be found.
            pattern = rf"\bmetrics(\.| import ){pattern}"
        found += [f"{path.relative_to(package)}: {m[0]}" for m in re.finditer(pattern, text)]
    assert found == []
