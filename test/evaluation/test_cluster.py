"""Many processes count a recording, and their numbers are those of one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.brightest import card
from support.evaluated import scores
from support.lost_workers import lose_a_worker
from support.recordings import drive, image_message, write_bag

from seg_perception.bags.sources import BagSource, Span
from seg_perception.evaluation.evaluator import Evaluator
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.evaluation.plan import Images, Plan

__all__ = ["lose_a_worker"]  # a fixture
Make = Callable[..., Path]

Evaluate = Callable[..., tuple[int, Any, str]]


def test_spans_of_a_bag_hold_each_image_once_and_those_shortly_before(tmp_path: Path) -> None:
    bag, _ = drive(tmp_path, 23)
    source = BagSource(bag)
    whole = [frame.key for frame in source.frames()]
    spans = source.spans(4)
    assert len(spans) == 4
    parts = [[(f.key, f.counted) for f in source.frames(span)] for span in spans]
    assert [key for part in parts for key, counted in part if counted] == whole
    for part in parts[1:]:
        own = [key for key, counted in part if counted]
        before = [key for key, _ in part[: -len(own)]]
        assert whole.index(own[0]) == whole.index(before[-1]) + 1
        assert not any(counted for _, counted in part[: -len(own)])


def test_masks_are_found_across_the_cuts(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6), np.uint8)
    records = []
    for i in range(12):
        stamp = 10**18 + i * 10**8
        records.append(image_message("/camera/image", stamp, pixels, "mono8"))
        late = image_message("/mask", stamp, pixels + i, "mono8")
        records.append(late._replace(time_ns=stamp + 3 * 10**8 + 1))
    records.sort(key=lambda record: record.time_ns)
    source = BagSource(write_bag(tmp_path / "b.mcap", *records), "/camera/image", labels="/mask")
    found = [
        (frame.key, int(frame.mask.data[0]))
        for span in source.spans(3)
        for frame in source.frames(span)
        if frame.counted
    ]
    assert found == [(10**18 + i * 10**8, i) for i in range(12)]


def test_two_images_of_one_stamp_are_both_paired(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6), np.uint8)
    records = []
    for i, stamp in enumerate([10, 20, 10, 20]):  # the clock was set back
        records.append(
            image_message("/camera/image", stamp, pixels, "mono8")._replace(time_ns=i * 10)
        )
        records.append(
            image_message("/mask", stamp, pixels + i, "mono8")._replace(time_ns=i * 10 + 5)
        )
    source = BagSource(write_bag(tmp_path / "b.mcap", *records), "/camera/image", labels="/mask")
    assert [(f.key, int(f.mask.data[0])) for f in source.frames()] == [
        (10, 0), (20, 1), (10, 2), (20, 3)
    ]  # fmt: skip


def test_a_image_before_a_cut_that_does_not_count_costs_no_pair(
    make_model: Make, tmp_path: Path
) -> None:
    bag, _ = drive(tmp_path, 12)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, frame in enumerate(BagSource(bag).frames()):
        cv2.imwrite(str(folder / f"{i:02d}.png"), frame.image)
    (folder / "05.png").write_bytes(b"no image")
    answered = write_bag(
        tmp_path / "result.mcap",
        *(image_message("/n/label_mask", 10**18 + i * 10**8, np.zeros((4, 4), np.uint8), "mono8")
          for i in range(12) if i != 5),
    )  # fmt: skip
    models = (ModelSetting(str(make_model())),)
    for images, stamps in (
        (Images("images", str(folder)), None),
        (Images("bag", str(bag)), str(answered)),
    ):
        evaluator = Evaluator(Plan(models, (images,), stamps=stamps, measures=("flicker",)))
        source = images.open()
        (whole,), (merged,) = evaluator.accumulators(), evaluator.accumulators()
        evaluator.count(source, [whole])
        cuts = [Span(0, 6), Span(6, 12)] if stamps is None else source.spans(2)
        for span in cuts:
            (part,) = evaluator.accumulators()
            evaluator.count(source, [part], span=span)
            merged.merge(part.state())
        assert merged.metrics[0].result() == whole.metrics[0].result()
        assert whole.metrics[0].result()["pairs"] == 10


def test_a_cluster_that_loses_a_worker_gives_the_numbers_of_one_process(
    make_model: Make, tmp_path: Path, evaluate: Evaluate, lose_a_worker: list[int]
) -> None:
    first, labels = drive(tmp_path, 120, size=160)
    second, more = drive(tmp_path, 40, first=2 * 10**18, size=160)
    for path in more.iterdir():
        path.rename(labels / path.name)
    command = (
        "--model",
        make_model(),
        "--bag",
        first,
        "--bag",
        second,
        "--labels",
        labels,
        "--measure",
        "boundary",
        "--measure",
        "flicker",
        "--measure",
        "calibration",
    )
    status, alone, _ = evaluate(*command)
    assert status == 0
    assert [row["frames_in"] for row in alone["per_source"]] == [120, 40]
    status, together, said = evaluate(*command, "--workers", "2")
    assert status == 0, said
    assert len(lose_a_worker) == 1
    assert scores(together) == scores(alone)


def test_a_scheduler_that_is_not_there_is_named(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    pytest.importorskip("distributed")
    bag, labels = drive(tmp_path, 3)
    status, report, said = evaluate("--model", make_model(), "--bag", bag, "--labels", labels,
                                    "--scheduler", "tcp://127.0.0.1:9")  # fmt: skip
    assert status == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in said
    assert report is None


def test_workers_do_not_fail_of_the_ctrl_c_that_a_shell_sends_to_all(
    make_model: Make, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    bag, _ = drive(tmp_path, 5)
    command = ("evaluate", "--model", make_model(), "--bag", bag, "--workers", "1", "--out",
               tmp_path / "out")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "seg_perception.cli", *map(str, command)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while len(psutil.Process(process.pid).children(recursive=True)) < 2:  # a worker begins
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Nanny" not in said  # Dask itself may tell of a heartbeat that met nobody
    assert "KeyboardInterrupt" not in said


def test_workers_that_outlive_a_run_load_the_next_ones_network(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    distributed = pytest.importorskip("distributed")
    bag, labels = drive(tmp_path, 5)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        for color in ("RGB", "BGR"):
            model = make_model(input={**card()["input"], "color": color})
            command = ("--model", model, "--bag", bag, "--labels", labels)
            there = evaluate(*command, "--scheduler", cluster.scheduler_address)[1]
            assert scores(there) == scores(evaluate(*command)[1])
