"""Figures of reports: SVG text in the page's own colours."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seg_perception.labels import LabelSpace
from seg_perception.metrics.description import Panel

# Readable on light and dark pages; models of a comparison have them in this order.
COLOURS = ("#4a8fc4", "#c8604f", "#5f9e62", "#b08a3c", "#8a72b8", "#4f9d9d")
BLUE, RED = COLOURS[:2]
INK = "#010203"  # stands for the page's own text colour
RATE_WINDOW = 15  # masks


class Dot(NamedTuple):
    """A difference, and the interval around it where there is one."""

    value: float | None
    low: float | None
    high: float | None


def class_bars(panels: Sequence[Panel], space: LabelSpace) -> str:
    """Draw a panel next to the other; rows are classes, by the first panel's values."""
    first = {name: value for name, value in panels[0].values.items() if value is not None}
    names = [name for name, _ in sorted(first.items(), key=lambda item: item[1])]
    if not names:
        return ""
    colours = [space.colours[space.names.index(name)] / 255 for name in names]
    width = 6 if len(panels) == 1 else 11
    figure = Figure(figsize=(width, 0.3 * len(names) + 0.6))
    for at, panel in enumerate(panels):
        axes = _plain(figure.add_subplot(1, len(panels), at + 1))
        _bars(axes, panel, names, colours)
        if len(panels) > 1:
            axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
        if at:
            axes.set_yticklabels([])
    return _svg(figure)


def _bars(axes: Any, panel: Panel, names: Sequence[str], colours: Sequence[Any]) -> None:
    values = [panel.values.get(name) for name in names]
    bars = axes.barh(names, [v or 0.0 for v in values], color=colours)
    digits = 3 if panel.is_small else 2
    texts = ["-" if v is None else f"{v:.{digits}f}" for v in values]
    axes.bar_label(bars, labels=texts, padding=3, fontsize=9, color=INK)
    largest = max((v for v in values if v), default=1.0) if panel.is_small else 1.0
    axes.set_xlim(0, largest * (1.3 if panel.is_small else 1.05))
    if panel.mean is not None:
        axes.axvline(panel.mean, color=RED, linewidth=1, linestyle="--")
        axes.annotate(
            f"mean {panel.mean:.3f}", (panel.mean, -0.4), xytext=(4, 0),
            textcoords="offset points", fontsize=9, color=RED,
        )  # fmt: skip


def age_chart(received: Sequence[float], age_ms: Sequence[float], dropped: Sequence[float]) -> str:
    """Draw the age of each mask at its receipt, and when images got none, in seconds."""
    figure, axes = _timeline_axes([*received, *dropped])
    axes.plot(received, age_ms, ".", color=BLUE, markersize=5)
    if dropped:
        level = np.zeros(len(dropped))
        axes.plot(dropped, level, "x", color=RED, clip_on=False, label="no mask")
        axes.legend(frameon=False, fontsize=9, labelcolor=RED, handletextpad=0)
    axes.set_ylim(0, max([*age_ms, 1.0]) * 1.15)
    return _svg(figure)


def rate_chart(received: Sequence[float], dropped: Sequence[float]) -> str:
    """Draw, at each receipt (s), the rate over the last RATE_WINDOW masks."""
    figure, axes = _timeline_axes([*received, *dropped])
    times = np.asarray(received)
    window = min(RATE_WINDOW, len(times) - 1)
    if window > 0:
        rates = window / np.maximum(times[window:] - times[:-window], 1e-9)
        axes.plot(times[window:], rates, color=BLUE)
        axes.set_ylim(0, rates.max() * 1.25)
    return _svg(figure)


def confusion_chart(confusion: NDArray[np.int64], space: LabelSpace) -> str:
    """Draw where the pixels of each true class (rows) went, from int64 (K+1,K+1)."""
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


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw the accuracy of each bin against its confidence, and its share of the pixels below."""
    held = [b for b in bins if b["pixels"]]
    if not held:
        return ""
    confidence = [b["confidence"] for b in held]
    total = sum(b["pixels"] for b in held)
    figure = Figure(figsize=(4.6, 4.8))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    _plain(upper).plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=1, linestyle="--")
    upper.plot(confidence, [b["accuracy"] for b in held], "o-", color=BLUE, markersize=5)
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("share that is right", fontsize=9, color=INK)
    upper.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    _plain(lower).bar(confidence, [b["pixels"] / total for b in held], width=0.045, color=BLUE)
    lower.set_xlim(0, 1.02)
    lower.set_ylabel("pixels", fontsize=9, color=INK)
    lower.set_xlabel("confidence", fontsize=9, color=INK)
    return _svg(figure)


def difference_chart(models: Mapping[str, Mapping[str, Dot]]) -> str:
    """Draw how much higher the IoU of each class is than the base's, with intervals.

    Classes are rows, by the first model's differences, and models stand under each other in a row.
    """
    first = next(iter(models.values()))
    values = {name: dot.value for name, dot in first.items() if dot.value is not None}
    names = [name for name, _ in sorted(values.items(), key=lambda item: item[1])]
    figure, axes = _axes(6, (0.22 + 0.12 * len(models)) * max(len(names), 1) + 0.8)
    axes.axvline(0, color=INK, alpha=0.5, linewidth=1)
    for at, (model, dots) in enumerate(models.items()):
        offset = (0.5 - (at + 0.5) / len(models)) * 0.6
        colour = COLOURS[(at + 1) % len(COLOURS)]
        for row, name in enumerate(names):
            value, low, high = dots[name]
            if low is not None and high is not None:
                axes.plot([low, high], [row + offset] * 2, color=colour, linewidth=2)
            if value is not None:
                axes.plot(value, row + offset, "o", color=colour, markersize=6)
        axes.plot([], [], "o-", color=colour, label=model)
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.8)
    axes.set_xlabel("IoU above the base's", fontsize=9, color=INK)
    if len(models) > 1:
        _legend(axes)
    return _svg(figure)


def trade_chart(points: Mapping[str, tuple[float, float]]) -> str:
    """Draw models by their time for an image, ms, and their mean IoU."""
    figure, axes = _axes(6, 3.4)
    for at, (model, (milliseconds, miou)) in enumerate(points.items()):
        colour = COLOURS[at % len(COLOURS)]
        axes.plot(milliseconds, miou, "o", color=colour, markersize=9, label=model)
    axes.set_xlim(0, max(ms for ms, _ in points.values()) * 1.15)
    axes.margins(y=0.25)
    axes.grid(color=INK, alpha=0.15, linewidth=0.8)
    axes.set_xlabel("ms an image, median", fontsize=9, color=INK)
    axes.set_ylabel("mean IoU", fontsize=9, color=INK)
    _legend(axes)
    return _svg(figure)


def curve_chart(curves: Mapping[str, Sequence[tuple[float, float]]], across: str) -> str:
    """Draw curves of (x, y), each in a panel of its own above the next; `across` names x."""
    held = {name: points for name, points in curves.items() if points}
    if not held:
        return ""
    figure = Figure(figsize=(6, 1.9 * len(held)))
    panels = figure.subplots(len(held), sharex=True, squeeze=False)[:, 0]
    for at, (axes, (name, points)) in enumerate(zip(panels, held.items(), strict=True)):
        x, y = zip(*points, strict=True)
        _plain(axes).plot(x, y, "o-", color=COLOURS[at % len(COLOURS)], markersize=3)
        axes.set_ylabel(name, fontsize=9, color=INK)
        axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    panels[-1].set_xlabel(across, fontsize=9, color=INK)
    return _svg(figure)


def _legend(axes: Any) -> None:
    axes.legend(
        frameon=False, fontsize=9, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1),
        borderaxespad=0, ncols=1,
    )  # fmt: skip


def _timeline_axes(times: Sequence[float]) -> tuple[Figure, Any]:
    figure, axes = _axes(6, 2)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    axes.set_xlim(0, max([*times, 1.0]) * 1.01)
    axes.set_xlabel("seconds into the drive", fontsize=9, color=INK)
    return figure, axes


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    return figure, _plain(figure.subplots())


def _plain(axes: Any) -> Any:
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    return axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "seg_perception"}):
        figure.savefig(
            text, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None}
        )
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
