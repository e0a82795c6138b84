"""What changes while training, and the checkpoint that holds it."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_perception.errors import CheckpointError, ModelError, first_line
from seg_perception.files import atomic_write
from seg_perception.training.config import Config
from seg_perception.training.start import freeze, rate_factors

# What a run may be given otherwise when it goes on: none of it changes what is learned up to then.
FREE = ("epochs", "eval_every", "eval_scales", "patience", "save_minutes", "export_size", "device",
        "threads", "workers", "out", "model")  # fmt: skip


class WithAuxiliaryHeads(nn.Module):
    """Add a 1x1 classifier to the backbone's two coarsest maps; training only, never exported.

    Of the networks that have a `backbone` and a `decode_head`; a lone map gets no head.
    """

    def __init__(self, network: nn.Module, *, classes: int, size: tuple[int, int]) -> None:
        """Find the maps' widths with an image of `size` (height, width)."""
        super().__init__()
        self.network = network
        names = dict(network.named_children())
        if not {"backbone", "decode_head"} <= set(names):
            raise ModelError(
                f"{type(network).__name__} is for running here, not for training: choose "
                "TopFormer, AFFormer or SegFormer"
            )
        try:
            with torch.no_grad():  # in eval mode, or the black image would count in its statistics
                maps = network.eval().get_submodule("backbone")(torch.zeros(1, 3, *size))
        except RuntimeError as error:
            raise ModelError(
                f"the network cannot take crops of {size[0]}x{size[1]}: {first_line(error)}; give "
                "another crop, or another arch"
            ) from error
        coarse = [] if isinstance(maps, Tensor) else maps[1:][-2:]
        self.heads = nn.ModuleList(nn.Conv2d(int(m.shape[1]), classes, 1) for m in coarse)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.network.get_submodule("backbone")(x)
        logits = self.network.get_submodule("decode_head")(maps)
        coarse = maps[-len(self.heads) :] if len(self.heads) else []
        return logits, [head(m) for head, m in zip(self.heads, coarse, strict=True)]


class State:
    """Weights, their average, optimiser, and how far a run is.

    `step` counts batches of all epochs: what is drawn depends on it and on the seed alone.
    `losses` are sum and count of those of the epoch, `curve` what was found at its end.
    """

    def __init__(
        self, model: WithAuxiliaryHeads, config: Config, description: Mapping[str, Any]
    ) -> None:
        """Take a model on its device; `description` is saved with it: card, network, data."""
        self.config, self.description = config, dict(description)
        self.model = model
        self.frozen = freeze(model, config.freeze)
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            _groups(model, config), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.epoch = 0
        self.step = 0
        self.losses = [0.0, 0.0]
        self.curve: list[dict[str, float]] = []
        self.best = (-math.inf, 0)  # mIoU, and the epoch in which it was

    def train_mode(self) -> None:
        """Let the model learn, but for the statistics of frozen layers."""
        self.model.train()
        for norm in self.frozen:
            norm.eval()

    def average(self) -> None:
        """Move the averaged weights and BatchNorm statistics towards the trained ones."""
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        current = self.model.state_dict()
        for key, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[key], 1 - decay)
            else:
                value.copy_(current[key])

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all; ModelError where the disk is full."""
        content = {
            "config": asdict(self.config),
            **self.description,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses,
            "curve": self.curve,
            "best": self.best,
        }
        with atomic_write(path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:  # what torch makes of a full disk
                raise ModelError(
                    f"{path} cannot be written: {first_line(error)}; make room, then run the same "
                    "command again: it goes on from the checkpoint before"
                ) from error

    def resume(self, path: Path) -> bool:
        """Continue from `path` and return True, when it is there.

        CheckpointError for a file that is damaged, or of other settings or data.
        """
        if not path.exists():
            return False
        try:
            saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            self._check_same(saved, path)
            self.model.load_state_dict(saved["model"])
            self.averaged.load_state_dict(saved["averaged"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.epoch, self.step = saved["epoch"], saved["step"]
            self.losses, self.curve = saved["losses"], saved["curve"]
            self.best = (saved["best"][0], saved["best"][1])
        except CheckpointError:
            raise
        except Exception as error:  # pickle, zip and shapes each have their own
            raise CheckpointError(
                f"{path} cannot be continued: {first_line(error)}; move it away, or choose another "
                "folder"
            ) from error
        return True

    def _check_same(self, saved: Mapping[str, Any], path: Path) -> None:
        before = {**asdict(Config()), **saved["config"], **saved}
        now = {**asdict(self.config), **self.description}
        other = [k for k in now if k not in FREE and _plain(now[k]) != _plain(before.get(k))]
        if other:
            values = f" ({_short(before.get(other[0]))}, now {_short(now[other[0]])})"
            raise CheckpointError(
                f"{path} is of a run with another {', '.join(other)}{values}: give the same "
                "settings to go on, or another folder (out, or -o) to begin again"
            )


def _groups(model: nn.Module, config: Config) -> list[dict[str, Any]]:
    """Return the optimiser's groups: by factor of the rate, and with decay for matrices alone."""
    factors = rate_factors(model, config.rates)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if name not in factors:
            continue
        decays = parameter.ndim > 1
        group = groups.setdefault(
            (factors[name], decays),
            {"params": [], "factor": factors[name], **({} if decays else {"weight_decay": 0.0})},
        )
        group["params"].append(parameter)
    return list(groups.values())


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, as a file may have them."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:60] + "..."
