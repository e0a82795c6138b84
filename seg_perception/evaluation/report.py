"""report.json and report.html from one set of results; schema in README, "report.json"."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seg_perception.files import written_whole
from seg_perception.labels import LabelSpace

SCHEMA = 1
BLUE, RED = "#4a8fc4", "#c8604f"  # readable on light and dark pages
INK = "#010203"  # stands for the page's own text colour
RATE_WINDOW = 15  # masks


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
    """Pictures of one moment, BGR (H,W,3): camera, overlay, truth in class colours, map."""

    title: str
    picture: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    map: NDArray[np.uint8] | None = None


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
    timeline: Timeline | None = None,
    confusion: NDArray[np.int64] | None = None,
    space: LabelSpace,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Write one self-contained page: pictures and charts are inside it.

    `confusion` is int64 (K+1,K+1) by (truth, prediction), as ConfusionMatrix counts it; `timeline`
    belongs to a run through live nodes. `beside` names files in the same folder and says what they
    are.
    """
    templates = Environment(
        loader=PackageLoader("seg_perception.evaluation", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
    )
    charts = {}
    if report.scores:
        charts["classes"] = _class_bars(report.scores, space)
    if confusion is not None:
        charts["confusion"] = _confusion_chart(confusion, space)
    if timeline is not None:
        charts |= {"age": _age_chart(timeline), "rate": _rate_chart(timeline)}
    page = templates.get_template("report.html.j2").render(
        report=report,
        scores=report.scores,
        samples=[(s.title, _columns(s, report)) for s in samples],
        legend=[(n, "rgb({}, {}, {})".format(*space.colours[i])) for i, n in space.class_map()],
        charts=charts,
        rate_window=RATE_WINDOW,
        beside=beside or {},
    )
    _replace(path, page)


def _replace(path: Path, text: str) -> None:
    with written_whole(path) as beside:
        beside.write_text(text, "utf-8")


def _columns(sample: Sample, report: Report) -> list[tuple[str, str]]:
    """Return what stands side by side: a caption and a jpeg each."""
    truth = f"labels of {report.teacher}" if report.teacher else "ground truth (black: void)"
    captions = (f"camera, {sample.title}", "labels", truth, "map from above")
    return [(c, _jpeg(p)) for c, p in zip(captions, sample[1:], strict=True) if p is not None]


def _jpeg(picture: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return base64.b64encode(data.tobytes()).decode()


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "seg_perception"}):
        figure.savefig(
            text, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None}
        )
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    return figure, axes


def _class_bars(measured: Mapping[str, Any], space: LabelSpace) -> str:
    scores = [(n, v) for n, v in measured["per_class_iou"].items() if v is not None]
    scores.sort(key=lambda s: s[1])
    figure, axes = _axes(6, 0.3 * len(scores) + 0.6)
    colours = [space.colours[space.names.index(name)] / 255 for name, _ in scores]
    bars = axes.barh([n for n, _ in scores], [v for _, v in scores], color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9, color=INK)
    axes.set_xlim(0, 1.05)
    axes.axvline(measured["miou"], color=RED, linewidth=1, linestyle="--")
    axes.annotate(
        f"mean {measured['miou']:.3f}", (measured["miou"], -0.4), xytext=(4, 0),
        textcoords="offset points", fontsize=9, color=RED,
    )  # fmt: skip
    return _svg(figure)


def _age_chart(timeline: Timeline) -> str:
    figure, axes = _timeline_axes(timeline)
    axes.plot(timeline.received, timeline.age_ms, ".", color=BLUE, markersize=5)
    if timeline.dropped:
        level = np.zeros(len(timeline.dropped))
        axes.plot(timeline.dropped, level, "x", color=RED, clip_on=False, label="no mask")
        axes.legend(frameon=False, fontsize=9, labelcolor=RED, handletextpad=0)
    axes.set_ylim(0, max([*timeline.age_ms, 1.0]) * 1.15)
    return _svg(figure)


def _rate_chart(timeline: Timeline) -> str:
    """Draw, at each receipt, the rate over the last RATE_WINDOW masks."""
    figure, axes = _timeline_axes(timeline)
    received = np.asarray(timeline.received)
    window = min(RATE_WINDOW, len(received) - 1)
    if window > 0:
        rates = window / np.maximum(received[window:] - received[:-window], 1e-9)
        axes.plot(received[window:], rates, color=BLUE)
        axes.set_ylim(0, rates.max() * 1.25)
    return _svg(figure)


def _timeline_axes(timeline: Timeline) -> tuple[Figure, Any]:
    figure, axes = _axes(6, 2)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    axes.set_xlim(0, max([*timeline.received, *timeline.dropped, 1.0]) * 1.01)
    axes.set_xlabel("seconds into the drive", fontsize=9, color=INK)
    return figure, axes


def _confusion_chart(confusion: NDArray[np.int64], space: LabelSpace) -> str:
    names = [n or f"id {i}" for i, n in enumerate(space.names)]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure, axes = _axes(7.5, 6.5)
    cells = np.empty((*shares.shape, 4))  # rows columns RGBA: nothing is the page's own colour
    cells[..., :3] = to_rgb(BLUE)
    cells[..., 3] = shares
    axes.imshow(cells, interpolation="nearest")
    axes.set_xticks(
        range(len(shares)), [*names, "unknown"], rotation=60, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(shares)), [*names, "void"])
    axes.set_xticks(np.arange(len(shares)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(shares)) - 0.5, minor=True)
    axes.grid(which="minor", color=INK, alpha=0.12, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    for y, x in np.argwhere(shares >= 0.005) if len(shares) <= 24 else ():
        text = f"{100 * shares[y, x]:.0f}"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color=INK)
    return _svg(figure)
