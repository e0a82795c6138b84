"""Look at every image and label once, before the first step: what cannot be used is named."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError, ImageError
from seg_perception.files import atomic_write
from seg_perception.training.labels import as_ignored, read_ids, read_pixels
from seg_perception.training.sources import Item, Labelled
from seg_perception.training.split import GAP, TRAIN, VAL

SHOWN = 5  # files of one problem that an error lists
AT_ONCE = 64  # images that wait to be looked at
FILE = "checked.json"


class Seen(NamedTuple):
    """What one image is: height and width, a hash of its pixels, pixels by id of its labels."""

    size: tuple[int, int]
    digest: str
    ids: dict[int, int]
    problem: str = ""


@dataclass
class Summary:
    """What all images are: pixels by part and class, images by class, and sizes.

    Arrays are int64 (K,); `sizes` counts images of train by (height, width).
    """

    pixels: dict[str, NDArray[np.int64]]
    images: dict[str, NDArray[np.int64]]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def median_size(self) -> tuple[int, int]:
        """Return the median height and the median width of the training images."""
        sides = np.array([size for size, n in self.sizes.items() for _ in range(n)])
        height, width = np.median(sides, axis=0).astype(int)
        return int(height), int(width)

    def notes(self, classes: Sequence[str]) -> Iterator[str]:
        """Yield what is no error and may be a mistake."""
        sizes = ", ".join(f"{w}x{h} ({n})" for (h, w), n in self.sizes.most_common(SHOWN))
        yield f"{len(self.sizes)} size{'s' if len(self.sizes) > 1 else ''} of images: {sizes}"
        for part, images in self.images.items():
            missing = [n for n, count in zip(classes, images, strict=True) if not count]
            if missing:
                yield f"never in {part}: {', '.join(missing)}"


def inspect(
    data: Labelled,
    items: Sequence[Item],
    folder: Path,
    *,
    threads: int = 4,
    on_image: Callable[[], None] = lambda: None,
) -> Summary:
    """Read all images of train and val, and return what they are.

    Files that have not changed since are not read again: `folder` holds what was found. DataError
    lists unreadable pairs, ids that are no class, and images that are in train and in val.
    """
    used = [item for item in items if item.part != GAP]
    known = _read_known(folder / FILE)
    seen: dict[str, Seen] = {}
    for item, found in zip(used, _look(data, used, known, threads), strict=True):
        seen[item.image] = found
        on_image()
    _write_known(folder / FILE, data, used, seen)
    problems = [*_unusable(used, seen), *_meaningless(data, used, seen), *_doubled(used, seen)]
    if problems:
        raise DataError("the data cannot be trained on: " + "; ".join(problems))
    return _summary(data, used, seen)


def _look(
    data: Labelled, items: Sequence[Item], known: dict[str, Any], threads: int
) -> Iterator[Seen]:
    """Yield what each image is, in their order, with few of them in memory."""

    def one(item: Item) -> Seen:
        before = known.get(item.image)
        if before and before["of"] == _stamp(item):
            ids = {int(k): v for k, v in before["ids"].items()}
            return Seen((before["size"][0], before["size"][1]), before["digest"], ids)
        return _look_at(item, data.palettes[item.source])

    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(left, AT_ONCE)):
            yield from pool.map(one, batch)


def _look_at(item: Item, palette: Any) -> Seen:
    try:
        image = read_pixels(Path(item.image))
        size = (image.shape[0], image.shape[1])
        digest = hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest()
        if not item.label:
            return Seen(size, digest, {})
        ids = read_ids(Path(item.label), palette)
    except (DataError, ImageError) as error:
        return Seen((0, 0), "", {}, str(error))
    if ids.shape != size:
        text = f"{item.image} is {size} and {item.label} {ids.shape}, (height, width)"
        return Seen(size, digest, {}, text)
    counts = np.bincount(ids.ravel(), minlength=256)
    return Seen(size, digest, {int(i): int(counts[i]) for i in np.flatnonzero(counts)})


def _unusable(items: Sequence[Item], seen: dict[str, Seen]) -> Iterator[str]:
    bad = [seen[item.image].problem for item in items if seen[item.image].problem]
    if bad:
        yield f"{len(bad)} of {len(items)} pairs: {_some(bad)}"


def _meaningless(data: Labelled, items: Sequence[Item], seen: dict[str, Seen]) -> Iterator[str]:
    """Name ids of labels that are neither a class nor ignored."""
    where: dict[int, list[str]] = defaultdict(list)
    for item in items:
        for i in seen[item.image].ids:
            if data.tables[item.source][i] < 0:
                where[i].append(item.label)
    if where:
        ids = sorted(where)
        first = where[ids[0]][0]
        yield (
            f"ids {ids[:SHOWN]} of {len({f for files in where.values() for f in files})} label "
            f"files are no class of the card's {len(data.card.classes)}, such as {ids[0]} in "
            f"{first}: name them in ids or void_ids of the card"
        )


def _doubled(items: Sequence[Item], seen: dict[str, Seen]) -> Iterator[str]:
    """Name images of val whose very pixels are in train, too."""
    trained = {seen[item.image].digest: item.image for item in items if item.part == TRAIN}
    trained.pop("", None)
    twice = [
        f"{item.image} is {trained[seen[item.image].digest]}"
        for item in items
        if item.part == VAL and seen[item.image].digest in trained
    ]
    if twice:
        yield f"{len(twice)} images of val are in train, too, so that val would lie: {_some(twice)}"


def _summary(data: Labelled, items: Sequence[Item], seen: dict[str, Seen]) -> Summary:
    classes = data.card.classes
    tables = [as_ignored(table) for table in data.tables]
    empty = {part: np.zeros(len(classes), np.int64) for part in (TRAIN, VAL)}
    found = Summary(empty, {part: np.zeros(len(classes), np.int64) for part in (TRAIN, VAL)})
    for item in items:
        counts = np.zeros(256, np.int64)
        for i, pixels in seen[item.image].ids.items():
            counts[tables[item.source][i]] += pixels
        found.pixels[item.part] += counts[: len(classes)]
        found.images[item.part] += counts[: len(classes)] > 0
        if item.part == TRAIN:
            found.sizes[seen[item.image].size] += 1
    return found


def check_classes(classes: Sequence[str], found: Summary) -> None:
    """Raise DataError where hardly a class is there: then they are those of other data."""
    missing = [n for n, count in zip(classes, found.images[TRAIN], strict=True) if not count]
    if 2 * len(missing) > len(classes):
        raise DataError(
            f"{len(missing)} of {len(classes)} classes never occur ({', '.join(missing[:8])}), "
            "so these are hardly the classes of the data: give theirs with --card CARD.yaml"
        )


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def _stamp(item: Item) -> list[int]:
    """Return what changes when one of the files does; [] for one that is not there."""
    try:
        states = [Path(p).stat() for p in (item.image, item.label) if p]
    except OSError:
        return []
    return [value for state in states for value in (state.st_size, state.st_mtime_ns)]


def _read_known(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _write_known(path: Path, data: Labelled, items: Iterable[Item], seen: dict[str, Seen]) -> None:
    good = {
        item.image: {**seen[item.image]._asdict(), "of": _stamp(item)}
        for item in items
        if not seen[item.image].problem
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(good))
