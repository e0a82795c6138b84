"""report.json and report.html from one set of results; schema in docs/report.md."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError
from seg_perception.labels import LabelSpace
from seg_perception.metrics.description import NONE, Description, Panel, decimals, share
from seg_perception.metrics.paired import Difference
from seg_perception.metrics.registry import METRICS, describe
from seg_perception.reporting import charts
from seg_perception.reporting.charts import RATE_WINDOW, Dot
from seg_perception.reporting.pages import jpeg, legend, template, write_text

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Report:
    """The numbers of one run; the keys of report.json. Shares are 0..1, times milliseconds.

    None: not measured, and then no key. `metrics` holds results by name; in report.json each has a
    key of its own. The scores stand in `agreement_with` instead where another network's labels took
    the place of the truth.
    """

    miou: float | None = None
    miou_void_counted: float | None = None
    pixel_accuracy: float | None = None
    per_class_iou: Mapping[str, float | None] | None = None
    agreement_with: Mapping[str, Any] | None = None
    teacher: str | None = None
    confusion_matrix: Sequence[Sequence[int]] | None = None
    void_ids: Sequence[int] | None = None
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
        content: dict[str, Any] = {}
        for key, value in asdict(self).items():
            content |= value if key == "metrics" else {key: value}
        return {key: value for key, value in content.items() if value is not None}

    @property
    def scores(self) -> Mapping[str, Any]:
        """Return miou, per_class_iou ... against the truth or the teacher; empty without any."""
        scores = self.agreement_with or self.content()
        return scores if scores.get("miou") is not None else {}


def known_keys() -> set[str]:
    """Return every key that the report of one model can have."""
    return {each.name for each in fields(Report)} - {"metrics"} | {*METRICS}


class Sample(NamedTuple):
    """Images of one moment, BGR (H,W,3): camera, overlay, truth in class colours, map.

    `base` is the overlay of the model that this one is compared with.
    """

    title: str
    image: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    map: NDArray[np.uint8] | None = None
    base: NDArray[np.uint8] | None = None


class Timeline(NamedTuple):
    """Receipts of masks, and images without one; in seconds since the first was published."""

    received: Sequence[float]
    age_ms: Sequence[float]
    dropped: Sequence[float] = ()


def write_json(path: Path, report: Report) -> None:
    """Write report.json."""
    write_text(path, json.dumps(report.content(), indent=2) + "\n")


def write_html(
    path: Path,
    report: Report,
    *,
    samples: Sequence[Sample],
    worst: Sequence[Sample] = (),
    timeline: Timeline | None = None,
    confusion: NDArray[np.int64] | None = None,
    space: LabelSpace,
    related: Mapping[str, str] | None = None,
) -> None:
    """Write one self-contained page: images and charts are inside it.

    `worst` are the images of report.worst. `confusion` is int64 (K+1,K+1) by (truth, prediction),
    as ConfusionMatrix counts it; `timeline` belongs to a run through live nodes. `next to` names
    files in the same folder and says what they are.
    """
    metrics = describe(report.metrics).values()
    page = template("report.html.j2").render(
        report=report,
        scores=report.scores,
        samples=_figures(samples, report.teacher),
        worst=_figures(worst, report.teacher),
        legend=legend(space),
        metrics=metrics,
        has_panels=any(metric.panel for metric in metrics),
        reliability=_reliability(metrics),
        charts=_charts(report, metrics, timeline, confusion, space),
        rate_window=RATE_WINDOW,
        related=related or {},
    )
    write_text(path, page)


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
    """Write report.json and a self-contained page of several models on the same images.

    The first report is the base's; `differences` are those of the others to it, none where there
    is no truth; `worst` are images of each report. Raises DataError where two models have one
    name.
    """
    names = [report.model for report in reports]
    if len(set(names)) < len(names):
        raise DataError(f"two of the models {names} have one name; name their settings, too")
    pairs = dict(zip(names[1:], differences, strict=True)) if differences else {}
    write_text(path_json, json.dumps(_compared(reports, pairs, verdicts), indent=2) + "\n")
    page = template("comparison.html.j2").render(
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
        legend=legend(space),
        charts=_comparison_charts(reports, pairs),
        schema=SCHEMA,
    )
    write_text(path_html, page)


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


def _figures(
    samples: Sequence[Sample], teacher: str | None
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each sample's title and what stands side by side: a caption and a jpeg each."""
    truth = f"labels of {teacher}" if teacher else "ground truth (black: void)"
    figures = []
    for title, image, overlay, true, from_above, base in samples:
        columns = {
            f"camera, {title}": image,
            "labels of the base": base,
            "labels": overlay,
            truth: true,
            "map from above": from_above,
        }
        shown = [(c, jpeg(p)) for c, p in columns.items() if p is not None]
        figures.append((title, shown))
    return figures


def _charts(
    report: Report,
    metrics: Collection[Description],
    timeline: Timeline | None,
    confusion: NDArray[np.int64] | None,
    space: LabelSpace,
) -> dict[str, str]:
    """Return the figures of what was measured."""
    drawn = {}
    scores = report.scores
    panels = [metric.panel for metric in metrics if metric.panel]
    if scores:
        panels.insert(0, Panel("IoU", scores["per_class_iou"], scores["miou"]))
    if panels:
        drawn["classes"] = charts.class_bars(panels, space)
    if confusion is not None:
        drawn["confusion"] = charts.confusion_chart(confusion, space)
    if timeline is not None:
        drawn["age"] = charts.age_chart(*timeline)
        drawn["rate"] = charts.rate_chart(timeline.received, timeline.dropped)
    return drawn


def _reliability(metrics: Collection[Description]) -> list[tuple[str, str, str]]:
    """Return heading, figure and text of each chart of accuracy by confidence."""
    found = [metric.reliability for metric in metrics if metric.reliability]
    return [(heading, charts.reliability_chart(bins), text) for heading, bins, text in found]


Cell = tuple[str, str]  # a value, and its difference to the base's where it is tested


def _rows(
    reports: Sequence[Report], pairs: Mapping[str, Difference]
) -> list[tuple[str, list[Cell]]]:
    """Return the table of a comparison: a name, and what each model has."""
    rows = [("mean IoU", [_scored(r, pairs, None) for r in reports])]
    accuracy = [r.scores.get("pixel_accuracy", r.scores.get("pixel_agreement")) for r in reports]
    right = "pixels that agree" if reports[0].teacher else "pixels that are right"
    rows.append((right, [(share(value), "") for value in accuracy]))
    classes = reports[0].scores.get("per_class_iou", {})
    rows += [(f"IoU {name}", [_scored(r, pairs, name) for r in reports]) for name in classes]
    rows += _metric_rows(reports)
    for stage in dict.fromkeys(stage for r in reports for stage in r.stage_ms):
        values = [r.stage_ms.get(stage) for r in reports]
        rows.append((f"{stage}, ms", [(decimals(value, 2), "") for value in values]))
    for key in ("age", "jitter"):
        values = [(getattr(r, f"{key}_ms") or {}).get("p95") for r in reports]
        rows.append((f"{key}, p95, ms", [(decimals(value, 1), "") for value in values]))
    rows.append(("masks / images", [(f"{r.frames_out} / {r.frames_in}", "") for r in reports]))
    rows.append(("images a second", [(decimals(r.rate_hz, 1), "") for r in reports]))
    rows.append(("memory, MB", [(decimals(r.peak_memory_mb, 0), "") for r in reports]))
    return [row for row in rows if any(text != NONE for text, _ in row[1])]


def _metric_rows(reports: Sequence[Report]) -> list[tuple[str, list[Cell]]]:
    """Return the row of each metric that was counted for one model at least."""
    described = [describe(report.metrics) for report in reports]
    rows = []
    for name in METRICS:
        found = [each[name].compared if name in each else None for each in described]
        titles = [compared.title for compared in found if compared]
        if titles:
            cells = [(share(compared and compared.value), "") for compared in found]
            rows.append((titles[0], cells))
    return rows


def _scored(report: Report, pairs: Mapping[str, Difference], name: str | None) -> Cell:
    """Return an IoU, of a class or the mean, with its difference to the base's."""
    scores = report.scores
    if not scores:
        return NONE, ""
    value = share(scores["miou"] if name is None else scores["per_class_iou"][name])
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
