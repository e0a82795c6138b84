"""An evaluation that was interrupted keeps what was done, and goes on to the same numbers."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.evaluated import scores
from support.recordings import drive, write_bag

from seg_perception.errors import DataError
from seg_perception.evaluation import progress
from seg_perception.evaluation.accumulator import MAX_REASONS, Accumulator
from seg_perception.evaluation.hardest import Worst
from seg_perception.evaluation.progress import NAME
from seg_perception.evaluation.saved_state import read_state, write_state
from seg_perception.labels import LabelSpace

Make = Callable[..., Path]

Evaluate = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that has Ctrl-C pressed after so many images."""

    def after(images: int) -> None:
        add = Accumulator.add
        seen = []

        def counted(*arguments: Any) -> Any:
            made = add(*arguments)
            seen.append(1)
            if len(seen) == images:
                os.kill(os.getpid(), signal.SIGINT)
            return made

        monkeypatch.setattr(Accumulator, "add", counted)

    return after


def test_ctrl_c_keeps_what_was_done_and_resume_goes_on_to_the_same_numbers(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, interrupt: Callable[[int], None]
) -> None:
    bag, labels = drive(tmp_path, 20)
    command = ("--model", make_model(), "--bag", bag, "--labels", labels, "--measure", "boundary",
               "--measure", "flicker", "--measure", "calibration")  # fmt: skip
    status, whole, _ = evaluate(*command)
    assert status == 0
    interrupt(7)
    status, part, said = evaluate(*command)
    assert status == 130
    assert part["interrupted"] is True
    assert part["frames_in"] == 7
    assert "up to then; go on with the same command and --resume" in said
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [NAME, "report.html", "report.json"]
    interrupt(5)
    assert evaluate(*command, "--resume")[1]["frames_in"] == 12
    status, report, _ = evaluate(*command, "--resume")
    assert status == 0
    assert scores(report) == scores(whole)
    assert report["flicker"]["pairs"] == 19
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json"]


def test_resume_without_an_interrupted_run_begins_anew(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    bag, labels = drive(tmp_path, 3)
    command = ("--model", make_model(), "--bag", bag, "--labels", labels)
    assert evaluate(*command, "--resume")[1]["frames_in"] == 3


def test_another_evaluation_is_not_gone_on_with(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, interrupt: Callable[[int], None]
) -> None:
    bag, labels = drive(tmp_path, 5)
    command = ("--model", make_model(), "--bag", bag, "--labels", labels)
    interrupt(2)
    assert evaluate(*command)[0] == 130
    status, _, said = evaluate(*command, "--void", "3", "--resume")
    assert status == 2
    assert "was interrupted with another void: None, now (3,)" in said
    (tmp_path / "out" / NAME).write_bytes(b"half of it")
    status, _, said = evaluate(*command, "--resume")
    assert status == 1
    assert "holds no counts to go on from" in said


def test_an_error_on_the_way_keeps_what_was_counted(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    bag, labels = drive(tmp_path, 6)
    bad = sorted(labels.iterdir())[4]
    good = bad.read_bytes()
    cv2.imwrite(str(bad), np.zeros((7, 7), np.uint8))
    command = ("--model", make_model(), "--bag", bag, "--labels", labels)
    status, report, said = evaluate(*command)
    assert status == 1
    assert report is None
    assert "truth is (7, 7)" in said
    bad.write_bytes(good)
    status, report, _ = evaluate(*command, "--resume")
    assert (status, report["frames_in"]) == (0, 6)


def test_a_disk_that_is_full_leaves_nothing_half_written(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, labels = drive(tmp_path, 3)
    write_text = Path.write_text

    def full(path: Path, text: str, *arguments: Any, **named: Any) -> int:
        if path.parent.name != "out":
            return write_text(path, text, *arguments, **named)
        write_text(path, text[:10], *arguments, **named)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    status, _, said = evaluate("--model", make_model(), "--bag", bag, "--labels", labels)
    assert status == 1
    assert "cannot be written: No space left on device" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == []


def test_a_report_that_cannot_be_written_costs_no_counts(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, labels = drive(tmp_path, 3)
    command = ("--model", make_model(), "--bag", bag, "--labels", labels)
    monkeypatch.setattr(progress, "SAVE_PERIOD_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28)))
        assert evaluate(*command)[0] == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == [NAME]
    status, report, _ = evaluate(*command, "--resume")
    assert (status, report["frames_scored"]) == (0, 3)
    assert not (tmp_path / "out" / NAME).exists()


def test_what_ends_in_the_midst_of_a_image_counts_none_of_it(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, labels = drive(tmp_path, 8)
    command = ("--model", make_model(), "--bag", bag, "--labels", labels)
    whole = evaluate(*command)[1]
    monkeypatch.setattr(progress, "SAVE_PERIOD_S", 0.0)
    with monkeypatch.context() as patched:
        offer, seen = Worst.offer, []

        def offered(*arguments: Any) -> None:
            seen.append(1)
            if len(seen) == 5:
                raise KeyboardInterrupt  # as of a second Ctrl-C
            offer(*arguments)

        patched.setattr(Worst, "offer", offered)
        assert evaluate(*command)[0] == 130
    status, report, _ = evaluate(*command, "--resume")
    assert status == 0
    assert scores(report) == scores(whole)


def test_another_teacher_of_the_same_name_is_not_gone_on_with(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, interrupt: Callable[[int], None]
) -> None:
    bag, _ = drive(tmp_path, 5)
    command = ("--model", make_model(), "--bag", bag, "--teacher", make_model("teacher.onnx"))
    interrupt(2)
    assert evaluate(*command)[0] == 130
    make_model("teacher.onnx", wide=4)
    status, _, said = evaluate(*command, "--resume")
    assert status == 2
    assert "was interrupted with another weights" in said


def test_reasons_of_all_parts_together_stay_few() -> None:
    space = LabelSpace(("a",), np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8))
    whole, images = Accumulator(space, (255,)), 3 * MAX_REASONS
    for part in range(3):
        accumulator = Accumulator(space, (255,))
        for i in range(images):
            accumulator.skip(i, f"part {part}, reason {i}")
        whole.merge(accumulator.state())
    assert len(whole.skipped) <= MAX_REASONS + 1
    assert sum(whole.skipped.values()) == whole.frames_in == 3 * images


def test_what_is_stored_comes_back_and_nothing_else_is_taken(tmp_path: Path) -> None:
    state = {
        "number": 3, "share": 0.1, "none": None, "a/b c": "text", "yes": True,
        "list": [{"array": np.arange(6, dtype=np.float32).reshape(2, 3)}, 2],
        "counts": np.array([2**62], np.int64), "empty": {},
    }  # fmt: skip
    path = tmp_path / "state.npz"
    write_state(path, state)
    back = read_state(path)
    assert json.dumps({k: back[k] for k in ("number", "share", "none", "a/b c", "yes", "empty")})
    assert {k: v for k, v in back.items() if k not in ("list", "counts")} == {
        k: v for k, v in state.items() if k not in ("list", "counts")
    }
    assert back["list"][0]["array"].dtype == np.float32
    np.testing.assert_array_equal(back["list"][0]["array"], state["list"][0]["array"])
    assert back["counts"][0] == 2**62
    with pytest.raises(TypeError):
        write_state(path, {"object": object()})
    assert read_state(path)["number"] == 3, "what was there stays"
    np.savez(path, tree=np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="holds no counts to go on from"):
        read_state(path)
    with pytest.raises(DataError, match="holds no counts to go on from"):
        read_state(write_bag(tmp_path / "b.mcap"))
