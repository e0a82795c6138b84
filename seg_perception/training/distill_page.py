"""The page of a distillation: verdict, curves, per-class table, images before and after."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import weights
from seg_perception.drawing import draw_overlay
from seg_perception.evaluation.results import Outcome
from seg_perception.labels import LabelSpace
from seg_perception.metrics.description import NONE, decimals, percent, share
from seg_perception.reporting.charts import curve_chart
from seg_perception.reporting.pages import Column, Section, write_page
from seg_perception.reporting.report import Report
from seg_perception.segmenter import Segmenter
from seg_perception.training.curves_page import curves
from seg_perception.training.data_page import SAMPLES, WIDTH, sample
from seg_perception.training.heldout import HeldOut
from seg_perception.training.labels import read_pixels
from seg_perception.training.preparation import Run, described
from seg_perception.training.split import scored


def write_distill_page(
    path: Path, run: Run, held_out: HeldOut, outcome: Outcome, line: str
) -> None:
    """Write the page; the evaluation's own report is linked by its place."""
    by = "people" if held_out.by_people else "the teacher: to agree with it is not to be right"
    notes = [
        line,
        f"Scored on what was held out of training, by labels of {by}.",
        "Data: data.html. Every number of the evaluation: evaluation/report.html.",
        *run.begun.notes,
    ]
    settings = [("", ""), *((name, str(value)) for name, value in described(run.config).items())]
    space = run.data.card.manifest().label_space()
    new = outcome.reports[-1]
    numbers = [(share(new.miou), "mean IoU, after")]
    if outcome.differences:
        figure, _, interval = outcome.differences[0].miou.text().partition(" ")
        numbers = [
            (share(outcome.reports[0].miou), "mean IoU, before"), *numbers,
            (figure, f"difference, interval of 95 % {interval}"),
        ]  # fmt: skip
    sections = [
        Section("Curves", chart=curve_chart(curves(run.state.curve), "epoch")),
        Section("Classes", rows=_class_rows(outcome)),
        Section("Flicker and speed", rows=_other_rows(outcome.reports)),
        Section("Images", images=_images(run, space, has_before=len(outcome.reports) > 1)),
        Section("Settings", rows=settings),
    ]
    write_page(path, "What was distilled", sections, notes=notes, numbers=numbers, space=space)


def _class_rows(outcome: Outcome) -> list[Sequence[str]]:
    """Return IoU of each class after and, where there is one, before, with the difference."""
    reports, new = outcome.reports, outcome.reports[-1]
    if len(reports) == 1 or not outcome.differences:
        alone = new.per_class_iou or {}
        return [("", "IoU"), *((name, share(value)) for name, value in alone.items())]
    difference, before = outcome.differences[0], reports[0].per_class_iou or {}
    rows: list[Sequence[str]] = [("", "before", "after", "difference, interval of 95 %")]
    for name, value in (new.per_class_iou or {}).items():
        text = difference.per_class_iou[name].text()
        rows.append((name, share(before.get(name)), share(value), text))
    return rows


def _other_rows(reports: Sequence[Report]) -> list[Sequence[str]]:
    heads = ("before", "after") if len(reports) > 1 else ("after",)
    flicker = [(r.metrics.get("flicker") or {}).get("share") for r in reports]
    times = [r.stage_ms.get("network") for r in reports]
    rows: list[Sequence[str]] = [("", *heads)]
    if any(value is not None for value in flicker):
        rows.append(("labels that flicker", *(percent(value) for value in flicker)))
    rows.append(("network, ms an image", *(decimals(value, 1) for value in times)))
    return [row for row in rows if set(row[1:]) != {NONE}]


def _images(run: Run, space: LabelSpace, *, has_before: bool) -> list[tuple[str, list[Column]]]:
    """Return held-out images with the labels of both networks, and those they are scored by."""
    networks = {"after": Segmenter.load(run.model)}
    if has_before:
        networks = {"before": Segmenter.load(weights.resolve(run.config.init)), **networks}
    own = scored(run.items)
    rows = []
    for item in own[:: max(1, len(own) // SAMPLES)][:SAMPLES]:
        image = read_pixels(Path(item.image))
        name, columns = sample(run.data, item, space)
        for title, network in networks.items():
            labels = network(image, confidence=False).labels
            columns.insert(-1, (title, _small(draw_overlay(image[..., ::-1], labels, space))))
        rows.append((name, columns[:-1]))
    return rows


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = min(1.0, WIDTH / image.shape[1])
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
