"""report.json and report.html from one set of results; schema in README, "report.json"."""

import base64
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seg_perception.labels import LabelSpace

SCHEMA = 1
GREY, BLUE, RED = "#6b7280", "#2f6f9f", "#b4483c"


@dataclass(frozen=True)
class Report:
    """The numbers of one run; the keys of report.json. Shares are 0..1, times milliseconds."""

    miou: float
    miou_void_counted: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]
    frames_in: int
    frames_out: int
    dropped: int
    rate_hz: float
    age_ms: dict[str, float]
    stage_ms: dict[str, float]
    model: str
    provider: str
    threads: int
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA


class Sample(NamedTuple):
    """A picture for the report: BGR (H,W,3), overlay BGR, truth in class colours BGR."""

    title: str
    picture: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    truth: NDArray[np.uint8]


class Timeline(NamedTuple):
    """Seconds since the first picture, and the age of its mask in milliseconds."""

    seconds: Sequence[float]
    age_ms: Sequence[float]


def write_json(path: Path, report: Report) -> None:
    """Write report.json."""
    _replace(path, json.dumps(asdict(report), indent=2) + "\n")


def write_html(
    path: Path,
    report: Report,
    *,
    samples: Sequence[Sample],
    timeline: Timeline,
    confusion: NDArray[np.int64],
    space: LabelSpace,
) -> None:
    """Write one self-contained page: pictures and charts are inside it.

    `confusion` is int64 (K+1,K+1) by (truth, prediction), as ConfusionMatrix counts it.
    """
    templates = Environment(
        loader=PackageLoader("seg_perception.evaluation", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
    )
    charts = {
        "classes": _class_bars(report, space),
        "age": _age_chart(timeline),
        "rate": _rate_chart(timeline),
        "confusion": _confusion_chart(confusion, space),
    }
    page = templates.get_template("report.html.j2").render(
        report=report,
        samples=[(s.title, *(_jpeg(p) for p in s[1:])) for s in samples],
        charts=charts,
    )
    _replace(path, page)


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return base64.b64encode(data.tobytes()).decode()


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "seg_perception"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _axes(width: float, height: float, title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, color="#111827")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=GREY, labelsize=9)
    return figure, axes


def _class_bars(report: Report, space: LabelSpace) -> str:
    scores = [(n, v) for n, v in report.per_class_iou.items() if v is not None]
    scores.sort(key=lambda s: s[1])
    figure, axes = _axes(6, 0.3 * len(scores) + 0.8, "IoU of each class")
    colours = [space.colours[space.names.index(name)] / 255 for name, _ in scores]
    bars = axes.barh([n for n, _ in scores], [v for _, v in scores], color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9, color=GREY)
    axes.set_xlim(0, 1.05)
    axes.axvline(report.miou, color=RED, linewidth=1, linestyle="--")
    axes.annotate(
        f"mean {report.miou:.3f}", (report.miou, -0.4), xytext=(4, 0), textcoords="offset points",
        fontsize=8, color=RED,
    )  # fmt: skip
    return _svg(figure)


def _age_chart(timeline: Timeline) -> str:
    figure, axes = _axes(6, 2.2, "Age of each mask when it was received (ms)")
    axes.plot(timeline.seconds, timeline.age_ms, ".", color=BLUE, markersize=4)
    axes.set_ylim(0, max([*timeline.age_ms, 1.0]) * 1.15)
    axes.set_xlabel("seconds into the drive", fontsize=9, color=GREY)
    return _svg(figure)


def _rate_chart(timeline: Timeline) -> str:
    """Masks in each half second, as a rate."""
    figure, axes = _axes(6, 2.2, "Masks per second")
    edges = np.arange(0, max([*timeline.seconds, 0.5]) + 0.5, 0.5)
    counts, _ = np.histogram(timeline.seconds, edges)
    axes.stairs(counts[:-1] * 2, edges[:-1], color=BLUE)
    axes.set_ylim(0, None)
    axes.set_xlabel("seconds into the drive", fontsize=9, color=GREY)
    return _svg(figure)


def _confusion_chart(confusion: NDArray[np.int64], space: LabelSpace) -> str:
    names = [*(n or f"id {i}" for i, n in enumerate(space.names)), "void / unknown"]
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    figure, axes = _axes(7.5, 6.5, "Confusion: share of each true class (rows) by prediction")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    for y, row in enumerate(shares):
        for x, share in enumerate(row):
            if share >= 0.005 and len(names) <= 24:
                colour = "white" if share > 0.5 else "#374151"
                axes.text(
                    x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour
                )
    return _svg(figure)
