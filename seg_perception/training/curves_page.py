"""The page of a training run: its curves, its settings, and images with the labels it gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_perception.drawing import draw_overlay
from seg_perception.metrics.description import share
from seg_perception.reporting.charts import curve_chart
from seg_perception.reporting.pages import Column, Section, write_page
from seg_perception.segmenter import Segmenter
from seg_perception.training.data_page import SAMPLES, sample
from seg_perception.training.labels import read_pixels
from seg_perception.training.preparation import Run, described
from seg_perception.training.split import VAL


def write_curves_page(run: Run, path: Path) -> None:
    """Write the page of a run whose model file is written."""
    curve = run.state.curve
    scored = [entry for entry in curve if "miou" in entry]
    space = run.data.card.manifest().label_space()
    sections = [
        Section("Curves", chart=curve_chart(curves(curve), "epoch")),
        Section("Images that were held out", images=_answers(run)),
        Section(
            "Settings", rows=[("", ""), *((k, str(v)) for k, v in described(run.config).items())]
        ),
    ]
    numbers = [(share(entry["miou"]), "mean IoU on val, exported size") for entry in scored[-1:]]
    numbers.append((str(run.state.epoch), "epochs"))
    write_page(
        path, "What was learned", sections, notes=run.begun.notes, numbers=numbers, space=space
    )


def curves(curve: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Return points (epoch, value) by name: the loss, and each score where it was measured."""
    names = dict.fromkeys(name for entry in curve for name in entry if name != "epoch")
    return {
        name: [(entry["epoch"], entry[name]) for entry in curve if name in entry] for name in names
    }


def _answers(run: Run) -> list[tuple[str, list[Column]]]:
    segmenter = Segmenter.load(run.model)
    own = run.of(VAL)
    rows = []
    for item in own[:: max(1, len(own) // SAMPLES)][:SAMPLES]:
        image = read_pixels(Path(item.image))
        labels = segmenter(image, confidence=False).labels
        name, columns = sample(run.data, item, segmenter.space)
        overlay = draw_overlay(image[..., ::-1], labels, segmenter.space)
        rows.append((name, [*columns[:2], ("what was learned", overlay)]))
    return rows
