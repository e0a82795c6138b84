"""Teach a light network what large ones know of your world: frames, labels, training, verdict.

Read it from `distill` downwards; training itself is train.py's.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from seg_perception import weights
from seg_perception.bags.sources import BagSource, FolderSource
from seg_perception.errors import ModelError, UsageError
from seg_perception.evaluation.cluster import Cluster
from seg_perception.evaluation.evaluate import evaluate
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.evaluation.plan import Plan
from seg_perception.evaluation.results import Outcome
from seg_perception.files import check_output
from seg_perception.images import resized
from seg_perception.metrics.paired import Interval
from seg_perception.models import ARCHITECTURES
from seg_perception.quantization.quantize import Comparison, quantize
from seg_perception.training.card import Card, card_of, read_card
from seg_perception.training.config import Config
from seg_perception.training.distill_page import write_distill_page
from seg_perception.training.frames import Recording, choose_frames
from seg_perception.training.heldout import HeldOut, write_held_out
from seg_perception.training.inspect import Summary
from seg_perception.training.labelling import label, question
from seg_perception.training.labels import read_pixels
from seg_perception.training.preparation import (
    check_room,
    exported_size,
    look_at,
    ready,
    rehearse,
    say,
    tell,
    try_export,
)
from seg_perception.training.soft_labels import read_soft
from seg_perception.training.sources import DataSetting, Item, Labelled, gather
from seg_perception.training.split import FILE, GAP, split, summary, write_split
from seg_perception.training.start import start
from seg_perception.training.teacher import CELL, load, manifest_of
from seg_perception.training.train import export, fit, try_steps

MAX_LOSS = 0.005  # of mean IoU, above which no 8-bit file is written
CALIBRATED = 32  # images

# What differs from training on labels of people: less of everything is needed, and colours vary
# more, as a teacher knows its way in other light.
DEFAULTS: dict[str, Any] = {
    "epochs": 60, "eval_every": 2, "patience": 6, "jitter": 0.35, "stretch": 0.15,
    "scale": (0.6, 2.2), "learning_rate": 1e-3,
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What is distilled: `teachers` are MODEL[,key=value...], `student` an architecture or a file.

    `bags` and `images` are recordings without labels, or with few. `count` is how many frames are
    labelled at most, `label_weight` what a pixel counts that people labelled. A `cluster` labels in
    other processes.
    """

    teachers: tuple[str, ...]
    student: str
    bags: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    labels: str = ""
    flip: bool = False
    count: int = 2000
    label_weight: float = 3.0
    int8: bool = False
    cluster: Cluster | None = None


class Verdict(NamedTuple):
    """The scores of the student before, if it could be compared, and after; and the line."""

    outcome: Outcome
    line: str


def distill(
    task: Task, config: Config, *, dry_run: bool = False, console: Console | None = None
) -> str:
    """Distil, and return the line that says whether the new network is better, and by how much.

    Raises SegPerceptionError for what cannot be used, before anything long where that can be known.
    """
    console = console or Console(stderr=True)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "distill is one process; --workers labels in several, and train takes torchrun"
        )
    config = _with_student(task, config)
    check_output(Path(config.model), kinds=(".onnx",))
    card = own_card(task, config)
    teachers = load(task.teachers, card, flip=task.flip, threads=config.threads)
    recordings = _open(task, card)
    data, items = _collect(task, config, card, recordings, console)
    found = look_at(data, items, config, console)
    _rehearse(data, items, config, found)
    asked = question(task.teachers, card, flip=task.flip)
    folder = Path(config.out) / "teacher"
    items = label(items, teachers, asked, folder, cluster=task.cluster, console=console)
    _count(data, items, found)
    tell(data, items, found, config, console)
    run = ready(config, data, items, found, console, label_weight=task.label_weight)
    rehearse(run)
    if dry_run:
        try_steps(run)
        return ""
    export(run, fit(run))
    held_out = write_held_out(run.out / "heldout", data, items, recordings)
    if task.int8:
        say(console, _int8(run.model, held_out))
    verdict = judge(task, config, run.model, held_out)
    write_distill_page(run.out / "distill.html", run, held_out, verdict.outcome, verdict.line)
    say(console, f"open {run.out / 'distill.html'}")
    return verdict.line


def own_card(task: Task, config: Config) -> Card:
    """Return the classes to learn: of --card, of the student's file, or of a lone teacher.

    What it says of terms names all parents. UsageError where nothing says which classes.
    """
    parents = [manifest_of(text.partition(",")[0]) for text in task.teachers]
    student = manifest_of(config.init) if config.init else None
    source = student or (parents[0] if len(parents) == 1 else None)
    if config.card:
        card = read_card(Path(config.card))
    elif source is not None:
        kept = ("classes", "palette", "groups", "void_ids", "dataset")
        card = card_of({k: v for k, v in source.to_dict().items() if k in kept})
    else:
        raise UsageError("nothing says which classes are learned; give --card CARD.yaml")
    everyone = [manifest for manifest in (student, *parents) if manifest is not None]
    terms = {}
    for key in ("license", "attribution"):
        said = dict.fromkeys((card.keys.get(key, ""), *(getattr(m, key) for m in everyone)))
        terms[key] = "; ".join(filter(None, said))
    return replace(card, keys={**card.keys, **{k: v for k, v in terms.items() if v}})


def _with_student(task: Task, config: Config) -> Config:
    """Return the config with the student's architecture or file."""
    if task.student in ARCHITECTURES:
        return replace(config, arch=task.student, init="")
    if not Path(weights.resolve(task.student)).exists():
        raise UsageError(
            f"the student {task.student!r} is neither a file nor one of {', '.join(ARCHITECTURES)}"
        )
    return replace(config, init=task.student)


def _open(task: Task, card: Card) -> list[Recording]:
    """Open all recordings; those without labels of their own look into those of the task."""
    if not task.bags and not task.images:
        raise UsageError("there is nothing to label; give --bag BAG or --images DIR")
    opened = []
    for text, is_bag in [*((b, True) for b in task.bags), *((d, False) for d in task.images)]:
        setting = DataSetting.parse(text)
        if task.labels and not setting.labels:
            setting = replace(setting, labels=task.labels)
        opened.append(Recording(setting, is_bag=is_bag, palette=card.palette))
    return opened


def _collect(
    task: Task, config: Config, card: Card, recordings: Sequence[Recording], console: Console
) -> tuple[Labelled, list[Item]]:
    """Choose frames of all recordings, add labelled data sets, and hold out a part."""
    data = Labelled([], card, [], [], [], [])
    each = max(1, task.count // len(recordings))
    for at, recording in enumerate(recordings):
        found = choose_frames(recording, Path(config.out) / "frames", at, each)
        known = sum(bool(item.label) for item in found)
        say(
            console,
            f"{recording.setting.path}: {len(found)} of {recording.source.total} frames that "
            f"differ, {known} with labels of people",
        )
        _add(data, found, recording.setting.weight, card.table(), card.palette)
    if config.data:
        more, first = gather(config, card), len(recordings)
        data.items.extend(item._replace(source=item.source + first) for item in more.items)
        data.weights.extend(more.weights)
        data.tables.extend(more.tables)
        data.palettes.extend(more.palettes)
    items = split(data.items, config.split, holdout=config.holdout, share=config.val_share,
                  seed=config.seed)  # fmt: skip
    write_split(Path(config.out) / FILE, items)
    say(console, summary(items))
    return data, items


def _add(data: Labelled, items: Sequence[Item], weight: float, table: Any, palette: Any) -> None:
    data.items.extend(items)
    data.weights.append(weight)
    data.tables.append(table)
    data.palettes.append(palette)


def _rehearse(data: Labelled, items: Sequence[Item], config: Config, found: Summary) -> None:
    """Try the export of the student before anything is labelled, which takes long."""
    begun = start(config.init, config.arch, data.card, lambda size: _some_images(items, size))
    check_room(Path(config.out), begun.network)
    try_export(begun, data.card, exported_size(config, found))


def _some_images(items: Sequence[Item], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    return [resized(read_pixels(Path(item.image)), size) for item in items[:2]]


def _count(data: Labelled, items: Sequence[Item], found: Summary) -> None:
    """Add the teacher's labels to what was counted, where people made none."""
    for item in items:
        if item.part == GAP or item.label:
            continue
        soft = read_soft(Path(item.soft))
        counts = np.bincount(soft.ids[0].ravel(), minlength=256)[: len(data.card.classes)]
        found.pixels[item.part] += counts * CELL * CELL
        found.images[item.part] += counts > 0


def judge(task: Task, config: Config, model: Path, held_out: HeldOut) -> Verdict:
    """Score the new network, and the student before where it knows the same classes."""
    new = ModelSetting(str(model), threads=config.threads)
    before = manifest_of(config.init) if config.init else None
    classes = manifest_of(str(model))
    models = [new]
    if before is not None and classes is not None and before.classes == classes.classes:
        models.insert(0, ModelSetting(config.init, threads=config.threads))
    measures = ("flicker",) if all(i.kind == "bag" for i in held_out.images) else ()
    plan = Plan(tuple(models), held_out.images, labels=str(held_out.labels), measures=measures)
    outcome = evaluate(plan, Path(config.out) / "evaluation")
    truth = "labels of people" if held_out.by_people else "the teacher's labels"
    difference = outcome.differences[0].miou if outcome.differences else None
    return Verdict(outcome, verdict_line(outcome.reports[-1].miou, difference, truth, task.student))


def verdict_line(miou: float | None, difference: Interval | None, truth: str, student: str) -> str:
    """Return whether the new network is better than the student before, and by how much."""
    scored = f"mean IoU {miou if miou is not None else float('nan'):.3f} on held-out {truth}"
    if difference is None or difference.difference is None:
        return f"the new network has {scored}; {student} before cannot be compared"
    text = f"{difference.text()} against {student}, {scored}"
    if difference.low is None or difference.high is None:
        return f"too few held-out images say whether the new network is better: {text}"
    if difference.low > 0:
        return f"the new network is better: mean IoU {text}"
    if difference.high < 0:
        return f"the new network is worse: mean IoU {text}"
    return f"the new network is not shown to be better: mean IoU {text}"


def _int8(model: Path, held_out: HeldOut) -> str:
    """Write the model in 8 bit next to it; return what it costs, or why there is none."""
    out = model.with_name(f"{model.stem}_int8.onnx")
    first = held_out.images[0]
    path = Path(first.path)
    source = BagSource(path) if first.kind == "bag" else FolderSource(path)
    told: list[str] = []

    def tell(comparison: Comparison, _: tuple[str, ...]) -> None:
        told.append(f"loses {comparison.loss:.4f} of mean IoU")

    try:
        quantize(
            model, source, out, labels=held_out.labels, max_loss=MAX_LOSS, count=CALIBRATED,
            on_comparison=tell,
        )  # fmt: skip
    except ModelError as error:
        return f"no 8-bit file: {error}"
    return f"{out}: {told[0]}"
