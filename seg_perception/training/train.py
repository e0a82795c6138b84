"""Train a segmentation network: prepare, rehearse, epochs, evaluation, export.

Read it from `main` downwards. `main(Config(...))` is a plain function; the checkpoint it writes
resumes a run exactly where it stopped, and holds the averaged weights that are exported.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from seg_perception.errors import DataError, ModelError
from seg_perception.interrupts import until_interrupted
from seg_perception.training.augment import augment
from seg_perception.training.config import Config
from seg_perception.training.crops import Batch, Crops
from seg_perception.training.curves_page import write_curves_page
from seg_perception.training.losses import coarser, cross_entropy, mass
from seg_perception.training.preparation import CHECKPOINT, Run, prepare, rehearse, say
from seg_perception.training.release import release
from seg_perception.training.schedule import Schedule, loader, seed_step
from seg_perception.training.split import TRAIN
from seg_perception.training.validation import EXPORTED, evaluate, normalise

BEST = "best.pt"  # the checkpoint of the best evaluation, where a run may end early
COARSE = 4  # labels to one of the auxiliary maps': they are coarse, an eighth is enough
TRIED = 3  # steps of a dry run
LARGEST_GRADIENT = 5.0


class Wait(NamedTuple):
    """A batch, and the seconds that were waited for it."""

    batch: Batch
    seconds: float


def main(
    config: Config, *, dry_run: bool = False, console: Console | None = None
) -> dict[str, float]:
    """Train, evaluate, save and export; return the last scores (mIoU in 0..1).

    With `dry_run` all is checked and a few steps are taken, and nothing is kept. Raises
    SegPerceptionError for what cannot be used, or where the loss is no number; KeyboardInterrupt
    after Ctrl-C, when all is saved.
    """
    run = prepare(config, console or Console(stderr=True))
    rehearse(run)
    if dry_run:
        try_steps(run)
        return {}
    scores = fit(run)
    export(run, scores)
    return scores


def try_steps(run: Run) -> None:
    """Take a few steps, and print how long all would take."""
    batches, started = _batches(run), 0.0
    total = len(_schedule(run))
    for at, wait in enumerate(batches):
        if at == min(TRIED, total) - 1:
            started = time.monotonic()
        _step(run, wait.batch, total)
        if at == min(TRIED, total) - 1:
            break
    seconds = time.monotonic() - started
    say(
        run.console,
        f"dry run: everything is there, and the export works; {total} steps of {seconds:.2f} s "
        f"would take {total * seconds / 3600:.1f} h; nothing was kept",
    )


def fit(run: Run) -> dict[str, float]:
    """Train to the end, from the checkpoint of an interrupted run on; return the last scores."""
    state, config = run.state, run.config
    checkpoint = run.out / CHECKPOINT
    if state.resume(checkpoint):
        say(run.console, f"going on from step {state.step} of epoch {state.epoch + 1}")
    total, steps = len(Schedule(_weights(run), config)), _schedule(run).steps
    saved, waited, began = time.monotonic(), 0.0, time.monotonic()
    with until_interrupted() as interrupted, _progress(run) as progress:
        task = progress.add_task("training", total=total, completed=state.step)
        for wait in _batches(run) if not _is_over(run) else ():
            loss = _step(run, wait.batch, total)
            state.losses = [state.losses[0] + loss, state.losses[1] + 1]
            waited += wait.seconds
            if state.step % steps == 0:
                _end_epoch(run)
            share = waited / max(time.monotonic() - began, 1e-9)
            progress.update(task, completed=state.step, description=_said(run, loss, share))
            is_over = _is_over(run)
            if is_over or interrupted.is_set() or _is_due(saved, config.save_minutes):
                state.save(checkpoint)
                saved = time.monotonic()
            if is_over:
                break
            _stop_if(interrupted, run)
    return _last_scores(run)


def export(run: Run, scores: dict[str, float]) -> None:
    """Write the model file of the best or last weights, and the page of the run."""
    best = run.out / BEST
    source = best if run.config.patience and best.is_file() else run.out / CHECKPOINT
    metrics = {f"val_{name}": round(score, 4) for name, score in scores.items()}
    exported = release(source, run.model, size=run.size, metrics=metrics)
    write_curves_page(run, run.out / "training.html")
    say(run.console, f"{run.model}: equal to the network, {exported.parity.text()}")
    say(run.console, f"open {run.out / 'training.html'}")


def _stop_if(interrupted: Event, run: Run) -> None:
    if interrupted.is_set():
        epoch = run.state.epoch + 1
        say(run.console, f"saved in epoch {epoch}: the same command goes on from there")
        raise KeyboardInterrupt


def _end_epoch(run: Run) -> None:
    """Note the loss, and every few epochs the scores; keep the best where that may end the run."""
    state, config = run.state, run.config
    state.epoch += 1
    entry = {"epoch": float(state.epoch), "loss": state.losses[0] / state.losses[1]}
    state.losses = [0.0, 0.0]
    if state.epoch % config.eval_every == 0 or state.epoch == config.epochs:
        entry |= evaluate(state.averaged.network, run)
    state.curve.append(entry)
    if EXPORTED in entry and entry[EXPORTED] > state.best[0]:
        state.best = (entry[EXPORTED], state.epoch)
        if config.patience:
            state.save(run.out / BEST)
    text = " ".join(f"{k} {v:.4f}" for k, v in entry.items() if k != "epoch")
    with (run.out / "log.txt").open("a") as log:
        print(f"epoch {state.epoch} {text}", file=log)


def _is_over(run: Run) -> bool:
    """Whether all epochs are done, or none of the last evaluations was the best."""
    state, config = run.state, run.config
    if state.epoch >= config.epochs:
        return True
    worse = [e for e in state.curve if EXPORTED in e and e["epoch"] > state.best[1]]
    return 0 < config.patience <= len(worse)


def _last_scores(run: Run) -> dict[str, float]:
    """Return the scores of the weights that are exported."""
    scored = [e for e in run.state.curve if EXPORTED in e]
    if not scored:  # a longer run that was cut by fewer epochs
        return evaluate(run.state.averaged.network, run)
    best = [e for e in scored if e["epoch"] == run.state.best[1]]
    chosen = best[0] if run.config.patience and best else scored[-1]
    return {k: v for k, v in chosen.items() if k not in ("epoch", "loss")}


def _step(run: Run, batch: Batch, total: int) -> float:
    """Learn from one batch and return its loss; ModelError where that is no number."""
    state, config = run.state, run.config
    device = run.weights.device
    seed_step(config, state.step)
    state.train_mode()
    _set_rate(run, total)
    with _room(run):
        whole = Batch(*(t.to(device, non_blocking=True) for t in batch))
        images, mixed = augment(whole, jitter=config.jitter, mix=config.mix)
        state.optimiser.zero_grad(set_to_none=True)
        loss = _gradients(run, normalise(images, run), mixed)
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    norm = float(nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT))
    _check_finite(run, loss, norm)
    state.optimiser.step()
    state.step += 1
    state.average()
    return loss


def _gradients(run: Run, x: Tensor, batch: Batch) -> float:
    """Compute the gradients of the mean loss of a batch, in as many parts as asked for."""
    config, weights = run.config, run.weights
    divisor = mass(batch, weights)
    small = coarser(batch, COARSE)
    small_divisor = mass(small, weights)
    total = 0.0
    for part in torch.arange(len(x), device=x.device).chunk(config.accumulate):
        own, own_small = (Batch(*(t[part] for t in b)) for b in (batch, small))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits, others = run.state.model(x[part])
        loss = cross_entropy(logits, own, weights, smoothing=config.smoothing) / divisor
        for other in others:
            extra = cross_entropy(other, own_small, weights, smoothing=config.smoothing)
            loss = loss + config.auxiliary * extra / small_divisor
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


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


def _batches(run: Run) -> Iterator[Wait]:
    """Yield the batches from the state's step on, and how long each was waited for."""
    crops = Crops(run.data, run.of(TRAIN), run.config, run.area, label_weight=run.label_weight)
    last = time.monotonic()
    for batch in loader(crops, _schedule(run), run.config):
        if isinstance(batch, DataError):
            raise batch
        yield Wait(batch, time.monotonic() - last)
        last = time.monotonic()


def _schedule(run: Run) -> Schedule:
    return Schedule(_weights(run), run.config, first=run.state.step)


def _weights(run: Run) -> list[float]:
    return [run.data.weights[item.source] for item in run.of(TRAIN)]


def _set_rate(run: Run, total: int) -> None:
    """Warm up linearly, then fall to zero with the 0.9th power (DeepLab's schedule)."""
    config, step = run.config, run.state.step
    warm = min(1.0, (step + 1) / config.warmup)
    rate = config.learning_rate * warm * (1 - step / total) ** 0.9
    for group in run.state.optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def _is_due(since: float, minutes: float) -> bool:
    return time.monotonic() - since >= 60 * minutes


def _said(run: Run, loss: float, share: float) -> str:
    """Return the text next to the bar; a share of waiting that matters shows a slow disk."""
    scored = [e[EXPORTED] for e in run.state.curve if EXPORTED in e]
    miou = f", mIoU {scored[-1]:.3f}" if scored else ""
    slow = f", {share:.0%} waiting for data" if share > 0.1 else ""
    return f"epoch {run.state.epoch + 1}, loss {loss:.3f}{miou}{slow}"


def _progress(run: Run) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=run.console)
