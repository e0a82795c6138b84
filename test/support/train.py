"""Settings of training runs that take seconds."""

from pathlib import Path

from seg_perception.training.config import Config


def small(data: Path | None, out: Path, **changes: object) -> Config:
    """Return a config with small crops and one thread, reading in this process."""
    values = {
        "data": (str(data),) if data else (), "out": str(out), "crop": (32, 64), "batch": 2,
        "eval_every": 1, "threads": 1, "warmup": 2, "workers": 0, "epochs": 2,
    }  # fmt: skip
    return Config(**{**values, **changes})
