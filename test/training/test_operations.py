"""What happens to a long run: kills, Ctrl-C, full disks, numbers that are none, early errors."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from rich.console import Console
from support.own_data import write_card, write_drives
from support.train import small

from seg_perception.errors import CheckpointError, ModelError, SegPerceptionError, UsageError
from seg_perception.training import step, train
from seg_perception.training.config import Config, read_config
from seg_perception.training.parallel import Group
from seg_perception.training.preparation import Run, prepare
from seg_perception.training.schedule import Schedule
from seg_perception.training.state import State
from seg_perception.training.train import main

STEPS = 6  # of an epoch: 12 images in batches of 2


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Config]:
    data = write_drives(tmp_path / "data")
    card = str(write_card(tmp_path / "card.yaml"))

    def config(name: str = "run", **changes: object) -> Config:
        values = {"card": card, "precision": "fp32", "eval_every": 2, "export_size": (64, 64)}
        return small(data, tmp_path / name, **{**values, **changes})

    return config


def checkpoint(config: Config) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(Path(config.out) / "checkpoint.pt", weights_only=True)
    return loaded


def weights(config: Config) -> dict[str, torch.Tensor]:
    saved = checkpoint(config)
    return {**saved["averaged"], **{f"model.{k}": v for k, v in saved["model"].items()}}


def assert_equal(one: Config, other: Config) -> None:
    theirs = weights(other)
    for key, value in weights(one).items():
        assert torch.equal(value, theirs[key]), key
    assert (Path(one.out) / "log.txt").read_text() == (Path(other.out) / "log.txt").read_text()


KILLED = """
import os, signal, sys
from seg_perception.training.config import Config
from seg_perception.training.state import State
from seg_perception.training.train import main
whole, saves = State.save, []
def save(self, path):
    whole(self, path)
    saves.append(path)
    if len(saves) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
State.save = save
main(eval(sys.argv[1]))
"""


def test_a_killed_run_goes_on_with_the_same_numbers(make: Callable[..., Config]) -> None:
    whole, broken = make("whole", workers=2), make("broken", workers=2, save_minutes=0.0)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, repr(broken)], capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL  # and no worker holds its output open
    saved = torch.load(Path(broken.out) / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 4  # in the middle of the first epoch
    main(replace(broken, save_minutes=5.0))
    main(whole)
    assert_equal(whole, broken)


def test_ctrl_c_saves_and_the_same_command_goes_on(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = train.learn, []

    def learn(*arguments: object) -> float:
        steps.append(1)
        if len(steps) == STEPS + 2:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(train, "learn", learn)
    with pytest.raises(KeyboardInterrupt):
        main(make("broken"))
    saved = torch.load(Path(make("broken").out) / "checkpoint.pt", weights_only=True)
    assert saved["step"] == STEPS + 2
    monkeypatch.undo()
    main(make("broken"))
    main(make("whole"))
    assert_equal(make("whole"), make("broken"))


def test_a_seed_reproduces_and_another_does_not(make: Callable[..., Config]) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        main(make(name, epochs=1, seed=seed, split="drives", mix=1.0))
    assert_equal(make("one"), make("again"))
    same = weights(make("one"))
    assert not all(torch.equal(v, same[k]) for k, v in weights(make("other")).items())


def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(State, "train_mode", lambda self: self.model.eval())  # no drops, no norms
    gradients = {}
    for parts in (1, 4):
        config = make(accumulate=parts, batch=4, mix=0.0, jitter=0.0)  # which mix within a part
        run = prepare(config, Console(quiet=True))
        step.gradients(run, next(train._batches(run)).batch)
        gradients[parts] = [p.grad for p in run.state.model.parameters()]
    for whole, part in zip(gradients[1], gradients[4], strict=True):
        torch.testing.assert_close(whole, part)


@pytest.mark.timeout(200)
def test_two_processes_of_torchrun_have_the_losses_of_one(make: Callable[..., Config]) -> None:
    run = "import sys\nfrom seg_perception.training.train import main\n" + (
        "from seg_perception.training.config import Config\nmain(eval(sys.argv[1]))\n"
    )
    one, two = (
        make(name, batch=4, mix=1.0, accumulate=parts) for name, parts in (("one", 2), ("two", 1))
    )
    script = Path(two.out).parent / "run.py"
    script.write_text(run)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0",
         str(script), repr(two)], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    main(one)
    curves = [
        [
            entry["loss"]
            for entry in torch.load(Path(c.out) / "checkpoint.pt", weights_only=True)["curve"]
        ]
        for c in (one, two)
    ]
    assert len(curves[0]) == 2
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert (Path(two.out) / "model.onnx").exists()
    assert len((Path(two.out) / "log.txt").read_text().splitlines()) == 2  # one process writes


def test_a_batch_that_processes_cannot_share_is_refused(make: Callable[..., Config]) -> None:
    with pytest.raises(UsageError, match="batch is 2, and 3 processes .* give a multiple of 3"):
        Schedule([1.0] * 6, make(), group=Group(0, 3))
    config = make(batch=4)
    parts = [list(Schedule([1.0] * 12, config, group=Group(rank, 2))) for rank in range(2)]
    joined = [a + b for a, b in zip(*parts, strict=True)]
    assert joined == list(Schedule([1.0] * 12, config))


def test_a_longer_run_goes_on_and_other_settings_are_refused(make: Callable[..., Config]) -> None:
    main(make(epochs=1, eval_every=1))
    main(make(epochs=2, eval_every=1))
    assert len((Path(make().out) / "log.txt").read_text().splitlines()) == 2
    with pytest.raises(CheckpointError, match="another learning_rate .0.002, now 0.1"):
        main(make(epochs=3, learning_rate=0.1))
    with pytest.raises(CheckpointError, match="another holdout, images"):
        main(make(epochs=3, holdout="drivea"))


def test_a_damaged_checkpoint_is_refused(make: Callable[..., Config]) -> None:
    Path(make().out).mkdir()
    (Path(make().out) / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="cannot be continued.*move it away"):
        main(make())


def test_a_dry_run_takes_steps_and_keeps_nothing(
    make: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(make(), dry_run=True) == {}
    text = capsys.readouterr().err
    assert "the export works; 12 steps of" in text
    names = {path.name for path in Path(make().out).iterdir()}
    assert names == {"split.csv", "checked.json", "data.html"}


class Early(NamedTuple):
    changes: dict[str, object]
    text: str


@pytest.mark.parametrize(
    "early",
    [
        Early({"model": "out.pt"}, "no .onnx file"),
        Early({"export_size": (0, 64)}, "input size .0, 64. must be"),
        Early({"arch": "setr_naive_base"}, "cannot take crops of 32x64"),
        Early({"arch": "hrformer_small_ocr_v2"}, "is for running here, not for training"),
        Early({"freeze": ("",)}, "no module"),
        Early({"freeze": ("backbone", "decode_head")}, "every layer is frozen"),
    ],
    ids=lambda early: str(*early.changes.values()) if len(early.changes) == 1 else "",
)
def test_what_would_fail_at_the_end_fails_at_the_beginning(
    early: Early, make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "fit", lambda _: pytest.fail("it was trained"))
    with pytest.raises(SegPerceptionError, match=early.text):
        main(make(**early.changes))


def test_a_disk_without_room_is_named_before_the_first_epoch(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int = 1_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage())
    with pytest.raises(ModelError, match="has 1 MB free, checkpoints need [0-9]+ MB"):
        main(make())


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, saves = torch.save, []

    def save(content: object, path: object) -> None:
        saves.append(path)
        if len(saves) > 2:
            Path(str(path)).write_bytes(b"half of it")
            raise RuntimeError("write failed: no space left\nmore")
        whole(content, path)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(ModelError, match="no space left; make room, then run the same command"):
        main(make(save_minutes=0.0))
    monkeypatch.undo()
    assert torch.load(Path(make().out) / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not list(Path(make().out).glob("*.part"))


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(
    loss: float, norm: float, make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = step.gradients, []

    def gradients(run: Run, *arguments: object) -> float:
        steps.append(1)
        found = real(run, *arguments)
        if len(steps) < 4:
            return found
        for parameter in run.state.model.parameters():
            parameter.grad.fill_(norm)
        return loss

    monkeypatch.setattr(step, "gradients", gradients)
    with pytest.raises(ModelError, match="at step 3 .epoch 1.*checkpoint.pt of before is kept"):
        main(make(save_minutes=0.0))
    for key, value in weights(make()).items():
        assert value.isfinite().all(), key


def test_a_gpu_without_memory_is_told_a_batch_that_may_fit(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def augment(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step, "augment", augment)
    with pytest.raises(ModelError, match="accumulate: 2 .*parts of 2.*or batch: 2"):
        main(make(batch=4))


def test_a_run_ends_early_and_the_best_weights_are_exported(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    monkeypatch.setattr(train, "evaluate", lambda *_: {"miou": next(scores)})
    config = make(epochs=9, eval_every=1, patience=2)
    assert main(config) == {"miou": 0.5}
    assert len((Path(config.out) / "log.txt").read_text().splitlines()) == 4
    best = torch.load(Path(config.out) / "best.pt", weights_only=True)
    assert best["epoch"] == 2
    from seg_perception.segmenter import Segmenter

    manifest = Segmenter.load(Path(config.out) / "model.onnx").manifest
    assert manifest.metrics == {"val_miou": 0.5}
    assert "for 2 epochs" in manifest.source


def test_the_line_next_to_the_bar_says_score_and_slow_disk(make: Callable[..., Config]) -> None:
    run = prepare(make(), Console(quiet=True))
    assert train._said(run, 1.5, 0.05) == "epoch 1, loss 1.500"
    run.state.curve = [{"epoch": 1.0, "loss": 2.0, "miou": 0.25}, {"epoch": 2.0, "loss": 1.0}]
    text = "epoch 1, loss 1.500, mIoU 0.250, 40% waiting for data"
    assert train._said(run, 1.5, 0.4) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [("epoch: 3", "unknown keys .'epoch'"), ("crop: [30, 64]", "crop is .30, 64.; give multiples"),
     ("batch: 0", "batch is 0"), ("- a", "no table"), ("batch: x", "wrong type"),
     ("precision: fp8", "bf16 or fp32"), ("a: [", "cannot be read")],
)  # fmt: skip
def test_configs_that_mean_nothing_are_refused(content: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=text):
        read_config(path)
