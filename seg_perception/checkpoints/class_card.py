"""What a card says of the classes of an imported network: names, palette, planner groups."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seg_perception import catalogue
from seg_perception.cards import load_card
from seg_perception.checkpoints.recognise import Fit
from seg_perception.checkpoints.source import Source
from seg_perception.errors import CheckpointError, ManifestError, first_line
from seg_perception.group_words import guess_groups, plain
from seg_perception.labels import GROUPS
from seg_perception.models import DATASET_CLASSES, class_counts
from seg_perception.models.dialects import OFFICIAL

BACKGROUND = {"classes": ["background"], "palette": [[0, 0, 0]]}


class ClassCard(NamedTuple):
    """Keys of a manifest that the classes decide, and what was found or guessed, to be read."""

    keys: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """Return the data set whose classes these are, or an empty text."""
        return str(self.keys.get("dataset", ""))


def class_card(source: Source, fit: Fit, *, dataset: str = "", groups: Path | None) -> ClassCard:
    """Return what is known of a network's classes.

    A `dataset` that is asked for comes first, then the names in the file, then what its class count
    says of an official network. `groups` is a YAML file of class: group, which comes before what
    is known of the data set, and before guesses; of a file that names no classes it names all, in
    the order of their ids. CheckpointError says what to give where names stay unknown.
    """
    given = read_groups(groups) if groups else {}
    if not dataset and source.names:
        card = _of_names(source, fit.classes, given)
    elif not dataset and given:
        card = _of_groups(source, fit.classes, given)
    else:
        card = _of_data_set(source, fit, dataset)
    unknown = [name for name in given if name not in card.keys["classes"]]
    if unknown:
        raise CheckpointError(
            f"{groups} names {unknown[:3]}, which are no classes of {source.path}: it has "
            f"{', '.join(card.keys['classes'][:8])}, ..."
        )
    if given:
        return card._replace(keys={**card.keys, "groups": {**card.keys["groups"], **given}})
    return card


def data_set_card(dataset: str, classes: int) -> dict[str, Any]:
    """Return the data set's card; a network with one class more has its background first."""
    card = load_card(dataset)
    if len(card["classes"]) + 1 == classes:
        card = {**card, **{key: first + card[key] for key, first in BACKGROUND.items()}}
        card["void_ids"] = [0, *(i + 1 for i in card.get("void_ids", []))]
    return card


def read_groups(path: Path) -> dict[str, str]:
    """Return the classes and groups of a YAML file; ManifestError says what is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict) or not content:
        raise ManifestError(f"{path} is no table of class: group, as in road: drivable")
    for name, group in content.items():
        if not isinstance(name, str) or group not in GROUPS:
            raise ManifestError(
                f"{path} maps {name!r} to {group!r}: give names of classes, in quotes where YAML "
                f"reads something else, and one of {', '.join(GROUPS)}"
            )
    return content


def _of_data_set(source: Source, fit: Fit, dataset: str) -> ClassCard:
    """Return the card of a data set that was asked for, or that the class count shows."""
    notes = []
    if not dataset:
        dataset = _counted(source, fit)
        notes.append(
            f"{fit.classes} classes without names: those of {dataset}, which the official "
            f"{fit.arch} of this size has (--dataset or --groups say otherwise)"
        )
    card = data_set_card(dataset, fit.classes)
    if source.names and list(source.names) != card["classes"]:
        notes.append(
            f"the file names other classes ({', '.join(source.names[:3])}, ...); those of "
            f"{dataset} are taken, as asked"
        )
    return ClassCard(card, tuple(notes))


def _counted(source: Source, fit: Fit) -> str:
    """Return the data set of a published variant with as many classes; CheckpointError if none."""
    published = [
        name
        for name in DATASET_CLASSES
        if fit.classes in class_counts(fit.arch, name) and catalogue.find(fit.arch, name)
        if fit.dialect.name == OFFICIAL and not fit.changes(name)
    ]
    if not published:
        raise CheckpointError(
            f"{source.path} tells {fit.classes} classes apart and does not name them: give "
            "--dataset, or --groups with a line NAME: GROUP for each class, in the order of the ids"
        )
    return published[0]


def _of_names(source: Source, classes: int, given: Mapping[str, str]) -> ClassCard:
    """Return the card of names in the file: a data set's where they are all its own."""
    names = list(source.names)
    if (len(names), classes) == (2, 1):
        raise CheckpointError(
            f"{source.path} gives one score for two classes ({', '.join(names)}), cut by a "
            "threshold: only networks with a score for each class can be imported"
        )
    if len(names) != classes:
        raise CheckpointError(
            f"{source.path} names {len(names)} classes, its weights tell {classes} apart: give the "
            "--dataset whose classes they are"
        )
    for dataset in DATASET_CLASSES:
        card = data_set_card(dataset, classes)
        if list(map(plain, card["classes"])) == list(map(plain, names)):
            return ClassCard(card, (f"its classes are those of {dataset}",))
    names, notes = _unique(names)
    keys: dict[str, Any] = {"classes": names, "groups": dict.fromkeys(names, "other")}
    if source.palette:
        keys["palette"] = [list(colour) for colour in source.palette]
    if given:
        rest = [name for name in names if name not in given]
        text = f"groups: {len(given)} as given" + (f"; other: {', '.join(rest)}" if rest else "")
        return ClassCard(keys, (*notes, text))
    guesses = guess_groups(names)
    keys["groups"] = {guess.name: guess.group for guess in guesses}
    notes.append("groups are guessed from the names; --groups GROUPS.yaml says otherwise:")
    return ClassCard(keys, (*notes, *(f"  {guess.text()}" for guess in guesses)))


def _of_groups(source: Source, classes: int, given: Mapping[str, str]) -> ClassCard:
    """Return the card of a file that names no classes, by a table of groups that names them all."""
    if len(given) != classes:
        raise CheckpointError(
            f"{source.path} names no classes and tells {classes} apart, the table of groups names "
            f"{len(given)}: give a line NAME: GROUP for each, in the order of the ids"
        )
    keys = {"classes": list(given), "groups": dict(given)}
    return ClassCard(keys, ("the classes are named by the table of groups, in its order",))


def _unique(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names that all differ, and a note of those that were told apart by their ids."""
    found: list[str] = []
    doubles = []
    for i, name in enumerate(names):
        if name in found:
            doubles.append(name)
            name = f"{name} {i}"
        found.append(name)
    notes = [f"given to several classes, now with their ids: {', '.join(doubles)}"]
    return found, notes if doubles else []
