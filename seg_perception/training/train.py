"""Train a segmentation network: prepare, rehearse, epochs, evaluation, export.

Read it from `main` downwards. `main(Config(...))` is a plain function; the checkpoint it writes
resumes a run exactly where it stopped, and holds the averaged weights that are exported.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg_perception.errors import DataError
from seg_perception.interrupts import until_interrupted
from seg_perception.training.config import Config
from seg_perception.training.crops import Batch, Crops
from seg_perception.training.curves_page import write_curves_page
from seg_perception.training.parallel import grouped
from seg_perception.training.preparation import CHECKPOINT, Run, prepare, rehearse, say
from seg_perception.training.release import release
from seg_perception.training.schedule import Schedule, loader
from seg_perception.training.split import TRAIN
from seg_perception.training.step import learn
from seg_perception.training.validation import EXPORTED, evaluate

BEST = "best.pt"  # the checkpoint of the best evaluation, where a run may end early
TRIED = 3  # steps of a dry run


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
    after Ctrl-C, when all is saved. Processes that torchrun started share every batch.
    """
    with grouped() as group:
        console = console or Console(stderr=True, quiet=not group.is_first)
        with group.first_alone():
            run = prepare(config, console, group)
            if group.is_first:
                rehearse(run)
        if dry_run:
            try_steps(run)
            return {}
        scores = fit(run)
        if group.is_first:
            export(run, scores)
        return scores


def try_steps(run: Run) -> None:
    """Take a few steps, and print how long all would take."""
    batches, started = _batches(run), 0.0
    total = len(_schedule(run))
    for at, wait in enumerate(batches):
        if at == min(TRIED, total) - 1:
            started = time.monotonic()
        learn(run, wait.batch, total)
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
    run.group.share(state.model)
    total, steps = len(Schedule(_weights(run), config)), _schedule(run).steps
    saved, waited, began = time.monotonic(), 0.0, time.monotonic()
    with until_interrupted() as interrupted, _progress(run) as progress:
        task = progress.add_task("training", total=total, completed=state.step)
        for wait in _batches(run) if not _is_over(run) else ():
            loss = learn(run, wait.batch, total)
            state.losses = [state.losses[0] + loss, state.losses[1] + 1]
            waited += wait.seconds
            if state.step % steps == 0:
                _end_epoch(run)
            share = waited / max(time.monotonic() - began, 1e-9)
            progress.update(task, completed=state.step, description=_said(run, loss, share))
            is_over = _is_over(run)
            (stops,) = run.group.sum([float(interrupted.is_set())])
            if is_over or stops or _is_due(saved, config.save_minutes):
                _save(run, checkpoint)
                saved = time.monotonic()
            if is_over:
                break
            if stops:
                _stop(run)
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


def _save(run: Run, path: Path) -> None:
    if run.group.is_first:
        run.state.save(path)


def _stop(run: Run) -> None:
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
        first = run.group.is_first
        entry |= run.group.told(evaluate(state.averaged.network, run) if first else None)
    state.curve.append(entry)
    if EXPORTED in entry and entry[EXPORTED] > state.best[0]:
        state.best = (entry[EXPORTED], state.epoch)
        if config.patience:
            _save(run, run.out / BEST)
    if run.group.is_first:
        _log(run, entry)


def _log(run: Run, entry: dict[str, float]) -> None:
    text = " ".join(f"{k} {v:.4f}" for k, v in entry.items() if k != "epoch")
    with (run.out / "log.txt").open("a") as log:
        print(f"epoch {run.state.epoch} {text}", file=log)


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
    return Schedule(_weights(run), run.config, first=run.state.step, group=run.group)


def _weights(run: Run) -> list[float]:
    return [run.data.weights[item.source] for item in run.of(TRAIN)]


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
