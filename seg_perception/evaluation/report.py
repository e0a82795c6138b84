"""report.json and report.html from one set of results; schema in README, "report.json"."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, Template, select_autoescape
from numpy.typing import NDArray

from seg_perception.errors import DataError
from seg_perception.evaluation import charts
from seg_perception.evaluation.charts import RATE_WINDOW, Dot, Panel
from seg_perception.evaluation.compare import Difference
from seg_perception.files import written_whole
from seg_perception.labels import LabelSpace

SCHEMA = 2
NONE = "-"  # in tables, for what was not measured


@dataclass(frozen=True, kw_only=True)
class Report:
    """The numbers of one run; the keys of report.json. Shares are 0..1, times milliseconds.

    None: not measured, and then no key. The scores stand in `agreement_with` instead where another
    network's labels took the place of the truth.
    """

    miou: float | None = None
    miou_void_counted: float | None = None
    pixel_accuracy: float | None = None
    per_class_iou: Mapping[str, float | None] | None = None
    agreement_with: Mapping[str, Any] | None = None
    teacher: str | None = None
    confusion_matrix: Sequence[Sequence[int]] | None = None
    void_ids: Sequence[int] | None = None
    boundary: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    flicker: Mapping[str, Any] | None = None
    occupancy: Mapping[str, Any] | None = None
    frames_in: int
    frames_out: int
    frames_scored: int | None = None
    dropped: int
    skipped: Mapping[str, int] | None = None
    damage: str | None = None
    interrupted: bool | None = None
    rate_hz: float | None = None
    age_ms: Mapping[str, float] | None = None
    jitter_ms: Mapping[str, float] | None = None
    stage_ms: Mapping[str, float]
    stage_p95_ms: Mapping[str, float] | None = None
    peak_memory_mb: float | None = None
    model: str
    provider: str
    threads: int
    source: str | None = None
    truth: str | None = None
    per_source: Sequence[Mapping[str, Any]] | None = None
    worst: Sequence[Mapping[str, Any]] | None = None
    verdicts: Sequence[Mapping[str, Any]] | None = None
    notes: Sequence[str] = ()
    schema: int = SCHEMA

    def content(self) -> dict[str, Any]:
        """Return what report.json holds: the keys that were measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def scores(self) -> Mapping[str, Any]:
        """Return miou, per_class_iou ... against the truth or the teacher; empty without any."""
        scores = self.agreement_with or self.content()
        return scores if scores.get("miou") is not None else {}


class Sample(NamedTuple):
    """Pictures of one moment, BGR (H,W,3): camera, overlay, truth in class colours, map.

    `base` is the overlay of the model that this one is compared with.
    """

    title: str
    picture: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    map: NDArray[np.uint8] | None = None
    base: NDArray[np.uint8] | None = None


class Timeline(NamedTuple):
    """Receipts of masks, and pictures without one; in seconds since the first was published."""

    received: Sequence[float]
    age_ms: Sequence[float]
    dropped: Sequence[float] = ()


def write_json(path: Path, report: Report) -> None:
    """Write report.json."""
    _replace(path, json.dumps(report.content(), indent=2) + "\n")


def write_html(
    path: Path,
    report: Report,
    *,
    samples: Sequence[Sample],
    worst: Sequence[Sample] = (),
    timeline: Timeline | None = None,
    confusion: NDArray[np.int64] | None = None,
    space: LabelSpace,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Write one self-contained page: pictures and charts are inside it.

    `worst` are the pictures of report.worst. `confusion` is int64 (K+1,K+1) by (truth, prediction),
    as ConfusionMatrix counts it; `timeline` belongs to a run through live nodes. `beside` names
    files in the same folder and says what they are.
    """
    page = _template("report.html.j2").render(
        report=report,
        scores=report.scores,
        samples=_figures(samples, report.teacher),
        worst=_figures(worst, report.teacher),
        legend=_legend(space),
        charts=_charts(report, timeline, confusion, space),
        rate_window=RATE_WINDOW,
        beside=beside or {},
    )
    _replace(path, page)


def write_comparison(
    path_json: Path,
    path_html: Path,
    *,
    reports: Sequence[Report],
    differences: Sequence[Difference],
    worst: Sequence[Sequence[Sample]] = (),
    verdicts: Sequence[Mapping[str, Any]] | None = None,
    space: LabelSpace,
) -> None:
    """Write report.json and a self-contained page of several models on the same pictures.

    The first report is the base's; `differences` are those of the others to it, none where there
    is no truth; `worst` are pictures of each report. Raises DataError where two models have one
    name.
    """
    names = [report.model for report in reports]
    if len(set(names)) < len(names):
        raise DataError(f"two of the models {names} have one name; name their settings, too")
    pairs = dict(zip(names[1:], differences, strict=True)) if differences else {}
    _replace(path_json, json.dumps(_compared(reports, pairs, verdicts), indent=2) + "\n")
    page = _template("comparison.html.j2").render(
        reports=reports,
        base=reports[0],
        pairs=pairs,
        rows=_rows(reports, pairs),
        verdicts=verdicts or (),
        worst=[
            (name, samples[0].base is not None, _figures(samples, reports[0].teacher))
            for name, samples in zip(names, worst, strict=False)
            if samples
        ],
        legend=_legend(space),
        charts=_comparison_charts(reports, pairs),
        schema=SCHEMA,
    )
    _replace(path_html, page)


def _compared(
    reports: Sequence[Report],
    pairs: Mapping[str, Difference],
    verdicts: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    content = {
        "schema": SCHEMA,
        "models": [report.content() for report in reports],
        "comparison": [found.content(reports[0].model, name) for name, found in pairs.items()],
    }
    return content if verdicts is None else {**content, "verdicts": list(verdicts)}


def _template(name: str) -> Template:
    templates = Environment(
        loader=PackageLoader("seg_perception.evaluation", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
    )
    templates.filters |= {"share": _share, "percent": _percent}
    return templates.get_template(name)


def _replace(path: Path, text: str) -> None:
    with written_whole(path) as beside:
        beside.write_text(text, "utf-8", errors="replace")  # a file's name may be no text


def _legend(space: LabelSpace) -> list[tuple[str, str]]:
    return [(n, "rgb({}, {}, {})".format(*space.colours[i])) for i, n in space.class_map()]


def _figures(
    samples: Sequence[Sample], teacher: str | None
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each sample's title and what stands side by side: a caption and a jpeg each."""
    truth = f"labels of {teacher}" if teacher else "ground truth (black: void)"
    figures = []
    for title, picture, overlay, true, from_above, base in samples:
        columns = {
            f"camera, {title}": picture,
            "labels of the base": base,
            "labels": overlay,
            truth: true,
            "map from above": from_above,
        }
        shown = [(c, _jpeg(p)) for c, p in columns.items() if p is not None]
        figures.append((title, shown))
    return figures


def _charts(
    report: Report,
    timeline: Timeline | None,
    confusion: NDArray[np.int64] | None,
    space: LabelSpace,
) -> dict[str, str]:
    """Return the figures of what was measured."""
    drawn = {}
    panels = _panels(report)
    if panels:
        drawn["classes"] = charts.class_bars(panels, space)
    if report.calibration:
        drawn["reliability"] = charts.reliability_chart(report.calibration["bins"])
    if confusion is not None:
        drawn["confusion"] = charts.confusion_chart(confusion, space)
    if timeline is not None:
        drawn["age"] = charts.age_chart(*timeline)
        drawn["rate"] = charts.rate_chart(timeline.received, timeline.dropped)
    return drawn


def _panels(report: Report) -> list[Panel]:
    """Return what was measured of each class."""
    scores, boundary, flicker = report.scores, report.boundary, report.flicker
    panels = []
    if scores:
        panels.append(Panel("IoU", scores["per_class_iou"], scores["miou"]))
    if boundary:
        panels.append(Panel("boundary IoU", boundary["per_class_iou"], boundary["iou"]))
    if flicker:
        panels.append(Panel("share that flickers", flicker["per_class"], is_small=True))
    return panels


def _jpeg(picture: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return base64.b64encode(data.tobytes()).decode()


Cell = tuple[str, str]  # a value, and its difference to the base's where it is tested


def _rows(
    reports: Sequence[Report], pairs: Mapping[str, Difference]
) -> list[tuple[str, list[Cell]]]:
    """Return the table of a comparison: a name, and what each model has."""
    rows = [("mean IoU", [_scored(r, pairs, None) for r in reports])]
    accuracy = [r.scores.get("pixel_accuracy", r.scores.get("pixel_agreement")) for r in reports]
    right = "pixels that agree" if reports[0].teacher else "pixels that are right"
    rows.append((right, [(_share(value), "") for value in accuracy]))
    classes = reports[0].scores.get("per_class_iou", {})
    rows += [(f"IoU {name}", [_scored(r, pairs, name) for r in reports]) for name in classes]
    for title, key, inner in (
        ("boundary IoU", "boundary", "iou"),
        ("calibration error", "calibration", "ece"),
        ("labels that flicker", "flicker", "share"),
        ("map cells that differ", "occupancy", "error"),
    ):
        values = [(getattr(r, key) or {}).get(inner) for r in reports]
        rows.append((title, [(_share(value), "") for value in values]))
    for stage in dict.fromkeys(stage for r in reports for stage in r.stage_ms):
        values = [r.stage_ms.get(stage) for r in reports]
        rows.append((f"{stage}, ms", [(_decimals(value, 2), "") for value in values]))
    for key in ("age", "jitter"):
        values = [(getattr(r, f"{key}_ms") or {}).get("p95") for r in reports]
        rows.append((f"{key}, p95, ms", [(_decimals(value, 1), "") for value in values]))
    rows.append(("masks / pictures", [(f"{r.frames_out} / {r.frames_in}", "") for r in reports]))
    rows.append(("pictures a second", [(_decimals(r.rate_hz, 1), "") for r in reports]))
    rows.append(("memory, MB", [(_decimals(r.peak_memory_mb, 0), "") for r in reports]))
    return [row for row in rows if any(text != NONE for text, _ in row[1])]


def _scored(report: Report, pairs: Mapping[str, Difference], name: str | None) -> Cell:
    """Return an IoU, of a class or the mean, with its difference to the base's."""
    scores = report.scores
    if not scores:
        return NONE, ""
    value = _share(scores["miou"] if name is None else scores["per_class_iou"][name])
    if report.model not in pairs:
        return value, ""
    found = pairs[report.model]
    interval = found.miou if name is None else found.per_class_iou[name]
    return value, interval.text()


def _comparison_charts(
    reports: Sequence[Report], pairs: Mapping[str, Difference]
) -> dict[str, str]:
    if not pairs:
        return {}
    dots = {
        model: {name: Dot(*interval) for name, interval in found.per_class_iou.items()}
        for model, found in pairs.items()
    }
    times = {
        r.model: (r.stage_ms.get("total", sum(r.stage_ms.values())), r.scores["miou"])
        for r in reports
    }
    return {
        "differences": charts.difference_chart(dots),
        "trade": charts.trade_chart(times),
    }


def _share(value: float | None) -> str:
    return _decimals(value, 3)


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


def _decimals(value: float | None, count: int) -> str:
    return NONE if value is None else f"{value:.{count}f}"
