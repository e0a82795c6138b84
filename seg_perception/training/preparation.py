"""Everything that can go wrong before the first epoch: data, split, card, network, disk, export."""

import copy
import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from seg_perception.checkpoints.export import export_onnx
from seg_perception.errors import DataError, ModelError
from seg_perception.files import check_output
from seg_perception.images import resized
from seg_perception.training.card import Card
from seg_perception.training.config import Config
from seg_perception.training.data_page import write_data_page
from seg_perception.training.inspect import Summary, check_classes, inspect
from seg_perception.training.labels import read_pixels
from seg_perception.training.losses import class_weights
from seg_perception.training.parallel import ALONE, Group
from seg_perception.training.release import describe
from seg_perception.training.sources import Item, Labelled, gather
from seg_perception.training.split import FILE as SPLIT
from seg_perception.training.split import TRAIN, VAL, split, summary, write_split
from seg_perception.training.start import Start, start
from seg_perception.training.state import State, WithAuxiliaryHeads

CHECKPOINT = "checkpoint.pt"
CALIBRATION = 16  # images that set the statistics of a network taken from an .onnx file
LARGEST = 512 * 704  # pixels of an input whose size nobody chose
GROWTH = 1.5  # of the images' size, at most, there: thin things need a fine grid
STEP = 32  # pixels that both sides of what a network takes are multiples of
WHOLE = 64  # and of a file that is to run in the shape of every camera
COPIES = 5  # weights, average and the optimiser's two, and one checkpoint while it is replaced


@dataclass
class Run:
    """A run that is ready: its data, its network, and where its files go.

    `weights` (K,) are those of the classes, `area` (pixels) is what images are scaled to,
    `size` (height, width) the input of the exported file.
    """

    config: Config
    data: Labelled
    items: Sequence[Item]
    summary: Summary
    begun: Start
    state: State
    weights: Tensor
    area: float
    size: tuple[int, int]
    label_weight: float
    console: Console
    group: Group

    @property
    def out(self) -> Path:
        """Return the folder of the run."""
        return Path(self.config.out)

    @property
    def model(self) -> Path:
        """Return the path of the file that is exported at the end."""
        return Path(self.config.model) if self.config.model else self.out / "model.onnx"

    def of(self, part: str) -> list[Item]:
        """Return the images of a part of the split."""
        return [item for item in self.items if item.part == part]


def prepare(config: Config, console: Console, group: Group = ALONE) -> Run:
    """Open, split and check all data of a config, and build its network.

    Raises SegPerceptionError, before anything is trained, for whatever cannot be used.
    """
    data = gather(config)
    items = split(
        data.items, config.split, holdout=config.holdout, share=config.val_share, seed=config.seed
    )
    write_split(Path(config.out) / SPLIT, items)
    found = look_at(data, items, config, console)
    tell(data, items, found, config, console)
    return ready(config, data, items, found, console, group=group)


def look_at(data: Labelled, items: Sequence[Item], config: Config, console: Console) -> Summary:
    """Inspect all images with a bar."""
    with Progress(console=console) as bar:
        used = sum(item.part in (TRAIN, VAL) for item in items)
        task = bar.add_task("checking the data", total=used)

        def advance() -> None:
            bar.advance(task)

        return inspect(data, items, Path(config.out), threads=config.threads, on_image=advance)


def tell(
    data: Labelled, items: Sequence[Item], found: Summary, config: Config, console: Console
) -> None:
    """Print what is to know of the data, and write their page; DataError for hardly a class."""
    notes = [*data.notes, summary(items), *found.notes(data.card.classes)]
    for note in notes:
        say(console, note)
    check_classes(data.card.classes, found)
    page = Path(config.out) / "data.html"
    write_data_page(page, data, items, found, notes)
    say(console, f"open {page}")


def ready(
    config: Config,
    data: Labelled,
    items: Sequence[Item],
    found: Summary,
    console: Console,
    *,
    label_weight: float = 1.0,
    group: Group = ALONE,
) -> Run:
    """Build the network of a run over data that were looked at."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    size = exported_size(config, found)
    trained = [item for item in items if item.part == TRAIN]
    begun = start(config.init, config.arch, data.card, lambda s: _images(trained, s))
    model = WithAuxiliaryHeads(begun.network, classes=len(data.card.classes), size=config.crop)
    _draw_heads(model)
    model = model.to(torch.device(config.device)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for note in begun.notes:
        say(console, note)
    area = min(float(np.prod(found.median_size)), float(np.prod(size)))
    weights = class_weights(found.pixels[TRAIN], power=config.weight_power)
    state = State(model, config, _description(data, items, begun))
    return Run(
        config, data, items, found, begun, state, weights.to(config.device), area, size,
        label_weight, console, group,
    )  # fmt: skip


def rehearse(run: Run) -> None:
    """Try what comes after the last epoch: room on the disk, and the export of the network.

    ModelError says what would have failed.
    """
    check_output(run.model, kinds=(".onnx",))
    check_room(run.out, run.state.model)
    try_export(run.begun._replace(network=run.state.model.network), run.data.card, run.size)


def check_room(folder: Path, network: nn.Module) -> None:
    """Raise ModelError where the disk has no room for a network's checkpoints."""
    needed = COPIES * 4 * sum(p.numel() for p in network.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder} has {free / 1e6:.0f} MB free, checkpoints need {needed / 1e6:.0f} MB; make "
            "room, or choose another folder (out, or -o)"
        )


def try_export(begun: Start, card: Card, size: tuple[int, int]) -> None:
    """Export a network to nowhere; ModelError says why that cannot be done."""
    manifest = describe(begun.arch, card.keys, begun.changes, size)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(copy.deepcopy(begun.network), manifest, Path(folder) / "rehearsal.onnx")


def exported_size(config: Config, found: Summary) -> tuple[int, int]:
    """Return the input size (height, width) of the file, as chosen or by the images' shape."""
    return config.export_size or usual_size(found.median_size)


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def usual_size(median: tuple[int, int]) -> tuple[int, int]:
    """Return the input size (height, width) for images of a median size: of their shape, larger
    where that is cheap."""
    factor = min(GROWTH, math.sqrt(LARGEST / (median[0] * median[1])))
    height, width = (max(WHOLE, round(side * factor / WHOLE) * WHOLE) for side in median)
    return height, width


def _images(items: Sequence[Item], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    apart = max(1, len(items) // CALIBRATION)
    for item in items[::apart][:CALIBRATION]:
        yield resized(read_pixels(Path(item.image)), size)


def _draw_heads(model: WithAuxiliaryHeads) -> None:
    for head in model.heads:
        assert isinstance(head, torch.nn.Conv2d)
        torch.nn.init.normal_(head.weight, std=0.01)
        assert head.bias is not None
        torch.nn.init.zeros_(head.bias)


def _description(data: Labelled, items: Sequence[Item], begun: Start) -> Mapping[str, Any]:
    """Return what a checkpoint says of its run: enough to export it, and to know it again."""
    if not items:
        raise DataError("there are no images")
    listed = "\n".join(f"{i.part} {i.image} {i.label} {i.soft}" for i in items)
    return {
        "arch": begun.arch,
        "card": dict(data.card.keys),
        "network": dict(begun.changes),
        "images": hashlib.sha256(listed.encode()).hexdigest()[:16],
    }


def described(config: Config) -> dict[str, Any]:
    """Return the settings as plain values, for pages."""
    return {k: v for k, v in asdict(config).items() if v not in ("", (), {}, None)}
