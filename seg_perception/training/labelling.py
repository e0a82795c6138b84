"""Let teachers label frames, in this process or by a Dask cluster, into files that stay."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from seg_perception.errors import DataError
from seg_perception.evaluation.cluster import LOST, Cluster, connected, finished, result
from seg_perception.training.card import Card
from seg_perception.training.frames import read_bgr
from seg_perception.training.soft_labels import SoftLabels, write_soft
from seg_perception.training.sources import Item
from seg_perception.training.split import GAP
from seg_perception.training.teacher import Teacher, load, mean

FRAMES_A_TASK = 8  # small, so that little is lost with a worker


class Question(NamedTuple):
    """What is asked of every frame; plain values that every process can be told.

    `run` is a name of its own: workers outlive a run, and files change in between.
    """

    teachers: tuple[str, ...]
    card: Card
    flip: bool
    run: str


_ready: dict[str, list[Teacher]] = {}  # by run, of one at most


def label(
    items: Sequence[Item],
    teachers: Sequence[Teacher],
    question: Question,
    folder: Path,
    *,
    cluster: Cluster | None,
    console: Console,
) -> list[Item]:
    """Return the items with the files of their labels; those below `folder` are found again.

    What is left out of training and val is not labelled. Raises DataError for a frame that cannot
    be read, ModelError where the disk is full; what is labelled by then stays.
    """
    place = folder / "_".join(teacher.key for teacher in teachers)
    files = {item.image: place / _name(item) for item in items if item.part != GAP}
    missing = [image for image, file in files.items() if not file.is_file()]
    with Progress(console=console) as bar:
        task = bar.add_task("labelling", total=len(files), completed=len(files) - len(missing))
        for image, soft in _answers(missing, teachers, question, cluster):
            write_soft(files[image], soft)
            bar.advance(task)
    return [
        item._replace(soft=str(files[item.image])) if item.image in files else item
        for item in items
    ]


def question(teachers: tuple[str, ...], card: Card, *, flip: bool) -> Question:
    """Return what is asked in a run."""
    return Question(teachers, card, flip, token_hex(8))


def label_frames(question: Question, images: Sequence[str]) -> list[SoftLabels]:
    """Label some frames; runs in a worker, which loads the teachers once."""
    if question.run not in _ready:
        _ready.clear()
        _ready[question.run] = load(question.teachers, question.card, flip=question.flip, threads=1)
    return [mean(_ready[question.run], read_bgr(image)) for image in images]


def _answers(
    images: Sequence[str], teachers: Sequence[Teacher], question: Question, cluster: Cluster | None
) -> Iterator[tuple[str, SoftLabels]]:
    """Yield each image with its labels, in whatever order they come."""
    if cluster is None:
        for image in images:
            yield image, mean(teachers, read_bgr(image))
    elif images:
        with connected(cluster) as client:
            yield from _of_cluster(client, images, question)


def _of_cluster(
    client: Any, images: Sequence[str], question: Question
) -> Iterator[tuple[str, SoftLabels]]:
    parts = [images[i : i + FRAMES_A_TASK] for i in range(0, len(images), FRAMES_A_TASK)]
    futures = {client.submit(label_frames, question, part, pure=False): part for part in parts}
    pending = set(futures)
    try:
        while pending:
            for future in finished(pending):
                pending.discard(future)
                part = futures[future]
                yield from zip(part, result(future, f"the frames from {part[0]} on"), strict=True)
    except DataError as error:
        if str(error) != LOST:
            raise
        raise DataError(
            "the Dask scheduler was lost; start it again, and the same command again: what is "
            "labelled is kept"
        ) from error
    finally:
        client.cancel(list(pending))


def _name(item: Item) -> str:
    return f"{item.source}_{item.place}_{Path(item.image).stem}.npz"
