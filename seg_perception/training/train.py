"""Train a segmentation network from scratch: configuration, data, loop, evaluation, save, export.

Read it from `main` downwards. `main(Config(...))` is a plain function; the checkpoint it writes
resumes a run exactly where it stopped, and holds the averaged weights that are exported.
"""

import copy
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from seg_perception.catalogue import MEAN, STD
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.models import create_model
from seg_perception.training.data import (
    IGNORE,
    CropCentres,
    Images,
    augment,
    load_images,
)
from seg_perception.training.losses import class_weights, cross_entropy
from seg_perception.training.release import release


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; a YAML file may override any field."""

    data: str = "camvid"  # holds train/ and val/, each with images/ and labels/
    out: str = "out/train"
    arch: str = "topformer_tiny"
    dataset: str = "camvid"
    classes: int = 11
    holdout: str = ""  # file-name prefix kept out of training and evaluated instead of val/
    epochs: int = 300
    batch: int = 16
    crop: tuple[int, int] = (320, 416)  # height, width; multiples of 32
    scale: tuple[float, float] = (0.7, 2.2)
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
    eval_scales: tuple[float, ...] = (1.0,)  # network input size / image size
    export_size: tuple[int, int] = (512, 704)  # height, width of the released file's input
    device: str = "cpu"
    threads: int = 4
    seed: int = 0


class WithAuxiliaryHeads(nn.Module):
    """Add a 1x1 classifier to the backbone's two coarsest maps; training only, never exported.

    Of the networks that have a `backbone` and a `decode_head`; a lone map gets no head.
    """

    def __init__(self, network: nn.Module, *, classes: int, size: tuple[int, int]) -> None:
        """Find the maps' widths with an image of `size` (height, width)."""
        super().__init__()
        self.network = network
        with torch.no_grad():
            maps = network.get_submodule("backbone")(torch.zeros(2, 3, *size))
        coarse = [] if isinstance(maps, Tensor) else maps[1:][-2:]
        self.heads = nn.ModuleList(nn.Conv2d(int(m.shape[1]), classes, 1) for m in coarse)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.network.get_submodule("backbone")(x)
        logits = self.network.get_submodule("decode_head")(maps)
        coarse = maps[-len(self.heads) :] if len(self.heads) else []
        return logits, [head(m) for head, m in zip(self.heads, coarse, strict=True)]


def main(config: Config) -> dict[str, float]:
    """Train, evaluate, save and export; return the last scores (mIoU in 0..1 by input scale)."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    device = torch.device(config.device)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)

    root = Path(config.data)
    train = load_images(root / "train", classes=config.classes, exclude=config.holdout)
    if config.holdout:
        test = load_images(root / "train", classes=config.classes, match=config.holdout)
    else:
        test = load_images(root / "val", classes=config.classes)
    weights = class_weights(train.labels, classes=config.classes, power=config.weight_power)

    network = create_model(config.arch, dataset=config.dataset, num_classes=config.classes)
    model = WithAuxiliaryHeads(network, classes=config.classes, size=config.crop)
    _initialise(model)
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(model, train, config)
    state.resume(out / "checkpoint.pt")

    steps = len(train.images) // config.batch
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    scores: dict[str, float] = {}
    with Progress(*columns) as progress, (out / "log.txt").open("a") as log:
        task = progress.add_task("training", total=config.epochs, completed=state.epoch)
        while state.epoch < config.epochs:
            started = time.monotonic()
            loss = _train_epoch(state, train, weights.to(device), steps)
            state.epoch += 1
            line = f"epoch {state.epoch} loss {loss:.4f} {time.monotonic() - started:.1f} s"
            # With a held-out drive the curve is watched; without one, val is looked at once.
            last = state.epoch == config.epochs
            if last or (config.holdout and state.epoch % config.eval_every == 0):
                scores = evaluate(state.averaged.network, test, config)
                line += "".join(f" {k} {v:.4f}" for k, v in scores.items())
            print(line, file=log, flush=True)
            progress.update(task, completed=state.epoch, description=f"loss {loss:.3f}")
            if last or state.epoch % config.eval_every == 0:
                state.save(out / "checkpoint.pt")
    release(out / "checkpoint.pt", out / "model.onnx", size=config.export_size)
    return scores


class State:
    """What changes while training: weights, their average, optimiser, epoch and random numbers."""

    def __init__(self, model: WithAuxiliaryHeads, train: Images, config: Config) -> None:
        self.config = config
        self.centres = CropCentres(train.labels, classes=config.classes, seed=config.seed)
        self.model = model
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.random = np.random.default_rng(config.seed)
        self.epoch = 0
        self.step = 0

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
        """Write the checkpoint next to `path`, then rename it into place."""
        temporary = path.with_suffix(".part")
        torch.save(
            {
                "config": asdict(self.config),
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "random": self.random.bit_generator.state,
                "torch_random": torch.get_rng_state(),
            },
            temporary,
        )
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        """Continue from `path` when it exists."""
        if not path.exists():
            return
        saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(saved["model"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.random.bit_generator.state = saved["random"]
        torch.set_rng_state(saved["torch_random"])


def _train_epoch(state: State, train: Images, weights: Tensor, steps: int) -> float:
    """Run one pass over the images and return the mean loss."""
    config, device = state.config, weights.device
    state.model.train()
    order = state.random.permutation(len(train.images))
    total = 0.0
    for i in range(steps):
        index = order[i * config.batch : (i + 1) * config.batch]
        size = (int(train.images.shape[2]), int(train.images.shape[3]))
        centres = torch.from_numpy(state.centres.draw(index, size, config.balanced, state.random))
        images, truth = augment(
            train.images[index].to(device),
            train.labels[index].to(device),
            centres.to(device),
            crop=config.crop,
            scale=config.scale,
            rotate=config.rotate,
            jitter=config.jitter,
            mix=config.mix,
            label_stride=2,
        )
        rate = _learning_rate(state.step, steps * config.epochs, config)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits, others = state.model(normalise(images))
        loss = cross_entropy(logits, truth, weights, smoothing=config.smoothing)
        coarse = truth[:, 2::4, 2::4]  # the auxiliary maps are coarse: an eighth is enough
        for other in others:
            auxiliary = cross_entropy(other, coarse, weights, smoothing=config.smoothing)
            loss = loss + config.auxiliary * auxiliary
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.model.parameters(), 5.0)
        state.optimiser.step()
        state.step += 1
        state.average()
        total += loss.item()
    return total / steps


@torch.no_grad()
def evaluate(network: nn.Module, test: Images, config: Config) -> dict[str, float]:
    """Return the mIoU (0..1, void ignored) at the images' own size for each evaluation scale."""
    network.eval()
    device = next(network.parameters()).device
    size = (int(test.images.shape[2]), int(test.images.shape[3]))
    scores = {}
    for scale in config.eval_scales:
        matrix = ConfusionMatrix(config.classes, (IGNORE,))
        inside = (round(size[0] * scale / 32) * 32, round(size[1] * scale / 32) * 32)
        for image, truth in zip(test.images, test.labels, strict=True):
            x = F.interpolate(image[None].to(device).float(), inside, mode="bilinear")
            logits = network(normalise(x))
            full = F.interpolate(logits.float(), size, mode="bilinear")
            matrix.add(truth.numpy(), full.argmax(1)[0].byte().cpu().numpy())
        scores[f"miou@{scale:g}"] = matrix.miou()
    return scores


def normalise(images: Tensor) -> Tensor:
    """Turn RGB in 0..255 (N,3,H,W) into the network's input."""
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _learning_rate(step: int, total: int, config: Config) -> float:
    """Warm up linearly, then fall to zero with the 0.9th power (DeepLab's schedule)."""
    warm = min(1.0, (step + 1) / config.warmup)
    return float(config.learning_rate * warm * (1 - step / total) ** 0.9)


def _initialise(model: nn.Module) -> None:
    """Draw convolutions by He et al. (2015), fan-in; classifiers (1x1, biased) start near zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if module.bias is not None and module.kernel_size == (1, 1):
                nn.init.normal_(module.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
