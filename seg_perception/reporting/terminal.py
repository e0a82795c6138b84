"""Tables of reports for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from seg_perception.metrics.description import NONE, share
from seg_perception.metrics.registry import describe
from seg_perception.reporting.report import Report


def table(reports: Sequence[Report]) -> Table:
    """Return what was measured, a column for each model."""
    columns = [_rows(report) for report in reports]
    table = Table("", *(report.model for report in reports), title=reports[0].source)
    for name in dict.fromkeys(name for rows in columns for name in rows):
        table.add_row(name, *(rows.get(name, NONE) for rows in columns))
    return table


def _rows(report: Report) -> dict[str, str]:
    scores = report.scores
    rows = {"images in / masks out": f"{report.frames_in} / {report.frames_out}"}
    if report.rate_hz is not None:
        rows["images a second"] = f"{report.rate_hz:.1f}"
    if report.age_ms:
        rows["age p50 / p95 / p99"] = " / ".join(f"{v:.0f}" for v in report.age_ms.values()) + " ms"
    if scores:
        rows["images compared"] = str(report.frames_scored)
        name = f"mean IoU with {report.teacher}" if report.teacher else "mean IoU (void ignored)"
        rows[name] = share(scores["miou"])
        name, key = (
            ("pixels that agree", "pixel_agreement")
            if report.teacher
            else ("pixel accuracy", "pixel_accuracy")
        )
        rows[name] = share(scores[key])
        rows |= {f"  IoU {n}": share(v) for n, v in scores["per_class_iou"].items()}
    for description in describe(report.metrics).values():
        rows |= dict(description.rows)
    return rows | {f"  {n}": f"{t:.1f} ms" for n, t in report.stage_ms.items()}
