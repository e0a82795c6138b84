"""One step of training: a batch in parts, its gradients from all processes, new weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from seg_perception.errors import ModelError
from seg_perception.training.augment import augment
from seg_perception.training.crops import Batch
from seg_perception.training.losses import coarser, cross_entropy, mass
from seg_perception.training.preparation import CHECKPOINT, Run
from seg_perception.training.schedule import seed_part
from seg_perception.training.validation import normalise

COARSE = 4  # labels to one of the auxiliary maps': they are coarse, an eighth is enough
LARGEST_GRADIENT = 5.0


def learn(run: Run, batch: Batch, total: int) -> float:
    """Learn from this process's part of a batch; return the loss of the whole batch.

    `total` is how many steps the run has. ModelError where the loss is no number.
    """
    state = run.state
    state.train_mode()
    _set_rate(run, total)
    state.optimiser.zero_grad(set_to_none=True)
    with _room(run):
        (loss,) = run.group.sum([gradients(run, batch)])
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    run.group.sum_gradients(parameters)
    norm = float(nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT))
    _check_finite(run, loss, norm)
    state.optimiser.step()
    run.group.average_buffers(state.model)
    state.step += 1
    state.average()
    return loss


def gradients(run: Run, batch: Batch) -> float:
    """Compute the gradients of the mean loss of a batch, one part after the other.

    What a part draws (colours, pasting, dropout) is its own, whichever process has it.
    """
    config, state, device = run.config, run.state, run.weights.device
    first = run.group.rank * config.accumulate
    parts = []
    for at, indices in enumerate(torch.arange(len(batch.images)).chunk(config.accumulate)):
        own = Batch(*(t[indices].to(device, non_blocking=True) for t in batch))
        seed_part(config, state.step, first + at, "augment")
        parts.append(augment(own, jitter=config.jitter, mix=config.mix))
    divisors = _masses(run, [labels for _, labels in parts])
    total = 0.0
    for at, (images, labels) in enumerate(parts):
        seed_part(config, state.step, first + at, "network")
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits, others = state.model(normalise(images, run))
        loss = _sum(run, logits, labels) / divisors[0]
        for other in others:
            coarse = _sum(run, other, coarser(labels, COARSE))
            loss = loss + config.auxiliary * coarse / divisors[1]
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _masses(run: Run, parts: list[Batch]) -> list[float]:
    """Return by what the losses of the fine and the coarse labels are divided, of all processes."""
    fine = sum(float(mass(labels, run.weights)) for labels in parts)
    coarse = sum(float(mass(coarser(labels, COARSE), run.weights)) for labels in parts)
    return run.group.sum([fine, coarse])


def _sum(run: Run, logits: torch.Tensor, labels: Batch) -> torch.Tensor:
    return cross_entropy(logits, labels, run.weights, smoothing=run.config.smoothing)


def _set_rate(run: Run, total: int) -> None:
    """Warm up linearly, then fall to zero with the 0.9th power (DeepLab's schedule)."""
    config, step = run.config, run.state.step
    warm = min(1.0, (step + 1) / config.warmup)
    rate = config.learning_rate * warm * (1 - step / total) ** 0.9
    for group in run.state.optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def _check_finite(run: Run, loss: float, norm: float) -> None:
    """Raise ModelError before the weights are spoilt."""
    if abs(loss) < float("inf") and abs(norm) < float("inf"):
        return
    checkpoint = run.out / CHECKPOINT
    kept = f"{checkpoint} of before is kept" if checkpoint.exists() else "no checkpoint was written"
    raise ModelError(
        f"the loss is {loss} and its gradient {norm} at step {run.state.step} (epoch "
        f"{run.state.epoch + 1}): {kept}; lower learning_rate ({run.config.learning_rate:g}), or "
        "say precision: fp32"
    )


@contextmanager
def _room(run: Run) -> Iterator[None]:
    """Say which batch may fit where a GPU's memory does not hold this one."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        config = run.config
        part = config.batch // config.accumulate
        raise ModelError(
            f"{part} crops of {config.crop[0]}x{config.crop[1]} do not fit into the GPU's memory: "
            f"say accumulate: {2 * config.accumulate} (the same batch in parts of {part // 2}), or "
            f"batch: {max(1, config.batch // 2)}"
        ) from error
