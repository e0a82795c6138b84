"""Everything that decides a training run, and what YAML files may say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from seg_perception.errors import UsageError, first_line

PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; a YAML file may override any field."""

    data: tuple[str, ...] = ()  # folders, each DIR[,KEY=VALUE...]: see sources.DataSetting
    bags: tuple[str, ...] = ()  # recordings with labels, of the same form
    card: str = ""  # YAML of the classes; without one the card of `dataset` or of the layout
    out: str = "out/train"  # folder for checkpoint, log, split and pages
    model: str = ""  # OUT.onnx; model.onnx in `out` without one
    arch: str = "topformer_tiny"
    dataset: str = "camvid"
    init: str = ""  # checkpoint or model to start from
    freeze: tuple[str, ...] = ()  # beginnings of modules that are not trained
    rates: Mapping[str, float] = field(default_factory=dict)  # module: factor of learning_rate
    split: str = "auto"  # drives, blocks, or a split.csv that an earlier run wrote
    holdout: str = ""  # beginning of drives' names that are kept out and evaluated, whatever split
    val_share: float = 0.2  # of the images, where the data do not say which are val
    epochs: int = 300
    batch: int = 16
    accumulate: int = 1  # parts of a batch that are computed one after the other
    crop: tuple[int, int] = (320, 416)  # height, width; multiples of 32
    scale: tuple[float, float] = (0.7, 2.2)  # of an image of the median size
    stretch: float = 0.0  # how far the aspect may change: exp(+-stretch)
    rotate: float = 5.0  # degrees
    jitter: float = 0.25  # strength of colour changes
    mix: float = 0.5  # share of crops that get classes of another image pasted
    balanced: float = 0.5  # share of crops around a pixel of a class drawn evenly
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    warmup: int = 150  # iterations
    weight_power: float = 0.3
    smoothing: float = 0.0
    auxiliary: float = 0.4  # weight of each auxiliary head (1/16 and 1/32)
    average: float = 0.998  # decay of the weights' moving average
    eval_every: int = 10  # epochs
    eval_scales: tuple[float, ...] = ()  # network input / image size, besides the exported size
    patience: int = 0  # evaluations without a better one, after which it ends; 0: never
    save_minutes: float = 5.0  # between checkpoints
    export_size: tuple[int, int] | None = None  # height, width; None: of the images' shape
    precision: str = "bf16"
    device: str = "cpu"
    threads: int = 4
    workers: int = 2  # processes that read and crop; 0: none but this one
    seed: int = 0

    def checked(self) -> "Config":
        """Return this, or raise UsageError for the first value that no run can have."""
        for name, good, wanted in (
            ("crop", all(s > 0 and s % 32 == 0 for s in self.crop), "multiples of 32"),
            ("scale", 0 < self.scale[0] <= self.scale[1], "two factors above 0, rising"),
            ("batch", self.batch > 0, "at least 1"),
            ("accumulate", 0 < self.accumulate <= self.batch, "1 to batch"),
            ("epochs", self.epochs > 0, "at least 1"),
            ("eval_every", self.eval_every > 0, "at least 1"),
            ("val_share", 0 < self.val_share < 1, "a share between 0 and 1"),
            ("precision", self.precision in PRECISIONS, " or ".join(PRECISIONS)),
            ("workers", self.workers >= 0, "0 or more"),
            ("average", 0 <= self.average < 1, "a share below 1"),
        ):
            if not good:
                raise UsageError(f"{name} is {getattr(self, name)!r}; give {wanted}")
        return self


def read_config(
    path: Path | None, defaults: Mapping[str, Any] | None = None, **changes: Any
) -> Config:
    """Return the defaults, changed by others, by a YAML file and then by `changes`.

    UsageError names unknown keys, and values that no run can have.
    """
    values = {**(defaults or {}), **(_read(path) if path else {}), **changes}
    unknown = sorted(set(values) - set(Config.__dataclass_fields__))
    if unknown:
        known = ", ".join(Config.__dataclass_fields__)
        raise UsageError(f"{path} has unknown keys {unknown}; known are {known}")
    frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return replace(Config(), **frozen).checked()
    except TypeError as error:
        raise UsageError(f"{path} holds a value of the wrong type: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no table of key: value, as in epochs: 100")
    return content
