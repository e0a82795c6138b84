"""A teacher labels frames of bags and folders, and a light network learns from it."""

import csv
import errno
import json
import shutil
from collections.abc import Callable
from importlib import resources
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rich.console import Console
from support.lost_workers import lose_a_worker
from support.recordings import image_message, write_bag

from seg_perception.bags.sources import BagSource
from seg_perception.cli import main as command
from seg_perception.errors import DataError, ManifestError, ModelError, UsageError
from seg_perception.evaluation.cluster import Cluster
from seg_perception.evaluation.model_setting import ModelSetting
from seg_perception.metrics.paired import Interval
from seg_perception.segmenter import Segmenter
from seg_perception.training import distill as module
from seg_perception.training import labelling
from seg_perception.training.card import card_of
from seg_perception.training.config import read_config
from seg_perception.training.distill import Task, distill, verdict_line
from seg_perception.training.heldout import write_held_out
from seg_perception.training.soft_labels import read_soft
from seg_perception.training.teacher import Teacher, load

__all__ = ["lose_a_worker"]  # a fixture
RGB = np.array([[220, 30, 20], [30, 200, 40], [20, 30, 230]], np.uint8)
SMALL = {"epochs": 1, "batch": 4, "crop": [32, 64], "threads": 1, "workers": 0, "eval_every": 1,
         "export_size": [32, 64], "warmup": 1}  # fmt: skip
COLOURS = card_of({"classes": ["red", "green", "blue"]})


def scene(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return RGB blocks of 8x8 pixels (32,48,3) and which channel is the brightest (32,48)."""
    ids = np.kron(random.integers(0, 3, (4, 6)), np.ones((8, 8))).astype(np.uint8)
    noise = random.integers(0, 20, (32, 48, 3))
    return np.clip(RGB[ids] + noise, 0, 255).astype(np.uint8), ids


def write_folder(folder: Path, count: int, *, labels: int = 0) -> Path:
    random = np.random.default_rng(sum(map(ord, folder.name)))
    (folder / "labels").mkdir(parents=True)
    for i in range(count):
        image, ids = scene(random)
        cv2.imwrite(str(folder / f"{folder.name}_{i:03d}.png"), image[..., ::-1])
        if i % max(1, count // max(labels, 1)) == 0 and labels:
            cv2.imwrite(str(folder / "labels" / f"{folder.name}_{i:03d}.png"), ids)
    return folder


def write_recording(path: Path, count: int, *, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    start = (1_700_000_000 + 1000 * seed) * 10**9
    images = [scene(random)[0] for _ in range(count)]
    records = [image_message("/rgb", start + i * 10**8, im, "rgb8") for i, im in enumerate(images)]
    return write_bag(path, *records)


def write_recordings(folder: Path, count: int) -> tuple[str, ...]:
    """Write four bags of so many images each."""
    return tuple(
        str(write_recording(folder / f"{name}.mcap", count, seed=seed))
        for seed, name in enumerate("abcd")
    )


def config_file(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return str(path)


def test_a_student_of_bags_is_trained_scored_and_judged_by_the_command_line(
    tmp_path: Path, make_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = make_model()
    bags = write_recordings(tmp_path, 12)
    out = tmp_path / "own.onnx"
    arguments = ["distill", "--teacher", str(teacher), "--student", "topformer_tiny"]
    for bag in bags:
        arguments += ["--bag", bag]
    arguments += ["--config", config_file(tmp_path), "--frames", "40", "--int8", "-o", str(out)]
    assert command(arguments) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert "held-out the teacher's labels; topformer_tiny before cannot be compared" in line
    assert Segmenter.load(out).manifest.classes == ("red", "green", "blue")
    folder = tmp_path / "own.train"
    for page in ("data.html", "training.html", "distill.html", "evaluation/report.html"):
        assert "green" in (folder / page).read_text()
    report = json.loads((folder / "evaluation" / "report.json").read_text())
    assert report["flicker"]["pairs"] > 0
    labelled = list((folder / "teacher").rglob("*.npz"))
    assert 0 < len(labelled) <= 40
    assert max(path.stat().st_size for path in labelled) < 4000


def test_the_bundled_clip_and_a_bundled_teacher(tmp_path: Path) -> None:
    """One bag is cut into blocks of time; a few frames have labels of people."""
    with resources.as_file(resources.files("seg_perception") / "clip") as clip:
        (tmp_path / "truth").mkdir()
        for path in sorted((clip / "truth").iterdir())[::5]:
            shutil.copy(path, tmp_path / "truth")
        task = Task(
            ("tiny",), "topformer_tiny", (f"{clip / 'bag'},topic=/camera/image/compressed",),
            labels=str(tmp_path / "truth"), count=40,
        )  # fmt: skip
        small = {**SMALL, "crop": [96, 128], "export_size": [96, 128]}
        out = str(tmp_path / "run")
        config = read_config(None, small, out=out, model=str(tmp_path / "clip.onnx"))
        line = distill(task, config)
    assert "on held-out labels of people" in line
    with (tmp_path / "run" / "split.csv").open() as file:
        rows = [(int(Path(row["image"]).stem), row["part"]) for row in csv.DictReader(file)]
    assert 21 < len(rows) <= 61
    assert {part for _, part in rows} == {"train", "val", "gap"}
    for (_, before), (_, after) in pairwise(sorted(rows)):
        assert {before, after} != {"train", "val"}
    report = json.loads((tmp_path / "run" / "evaluation" / "report.json").read_text())
    assert report["frames_scored"] == len(list((tmp_path / "run/heldout/labels").iterdir()))
    assert report["flicker"]["pairs"] > report["frames_scored"]
    manifest = Segmenter.load(tmp_path / "clip.onnx").manifest
    assert "CamVid" in manifest.attribution  # of the teacher


def test_a_student_that_was_there_is_compared_with_an_interval(
    tmp_path: Path, make_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write_folder(tmp_path / f"drive{n}", 14, labels=14) for n in "abcd"]
    first, out = tmp_path / "first.onnx", tmp_path / "second.onnx"
    teacher = ["distill", "--teacher", str(make_model())]
    images = [part for f in folders for part in ("--images", f"{f},labels={f / 'labels'}")]
    config = ["--config", config_file(tmp_path)]
    assert (
        command([*teacher, "--student", "topformer_tiny", *images, *config, "-o", str(first)]) == 0
    )
    assert command([*teacher, "--student", str(first), *images, *config, "-o", str(out)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert "on held-out labels of people" in lines[0]
    assert lines[-1].startswith("the new network is ")
    assert f"against {first}" in lines[-1]
    assert " to " in lines[-1]
    page = (tmp_path / "second.train" / "distill.html").read_text()
    assert "mean IoU, before" in page


def test_a_second_run_labels_nothing_again(
    tmp_path: Path, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = write_recordings(tmp_path, 6)
    task = Task((str(make_model()),), "topformer_tiny", bags)
    config = read_config(None, SMALL, out=str(tmp_path / "run"), model=str(tmp_path / "o.onnx"))
    assert distill(task, config, dry_run=True) == ""
    monkeypatch.setattr(labelling, "mean", lambda *_: pytest.fail("labelled again"))
    assert distill(task, config, dry_run=True) == ""
    assert not (tmp_path / "o.onnx").exists()


def test_a_teacher_answers_in_the_classes_of_the_card(make_model: Callable[..., Path]) -> None:
    card = card_of({"classes": ["plant", "lamp"], "map": {"green": "plant", "red": "lamp",
                                                          "blue": "ignore"}})  # fmt: skip
    (teacher,) = load([str(make_model())], card, flip=False, threads=1)
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24, 1], image[:, 24:, 0] = 250, 250  # BGR: green, and blue
    found = teacher.probabilities(image)
    assert found.shape == (2, 8, 12)
    assert (found[0, :, :6] > 0.99).all()
    assert (found[:, :, 6:].sum(0) < 0.01).all()  # of an ignored class


def test_flipping_averages_both_and_official_refuses_what_has_no_rules(
    make_model: Callable[..., Path],
) -> None:
    setting = ModelSetting(str(make_model()))
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    plain, flipped = (Teacher(setting, COLOURS, flip=f).probabilities(image) for f in (False, True))
    np.testing.assert_allclose(plain, flipped, atol=1e-6)  # this network is symmetric
    with pytest.raises(Exception, match="does not say how its official code tests it"):
        load([f"{setting.model},mode=official"], COLOURS, flip=False, threads=1)


@pytest.mark.parametrize("kind", ["labels", "logits"])
def test_teachers_of_every_kind_label_alike(kind: str, make_model: Callable[..., Path]) -> None:
    name = "argmax.onnx" if kind == "labels" else "m.onnx"
    path = make_model(name, output={"kind": kind})
    random = np.random.default_rng(0)
    image, ids = scene(random)
    planes = Teacher(ModelSetting(str(path)), COLOURS, flip=False).probabilities(
        np.ascontiguousarray(image[..., ::-1])
    )
    assert (planes.argmax(0) == ids[2::4, 2::4]).all()
    assert (planes.max(0) > 0.99).all()


def test_two_teachers_say_the_mean(make_model: Callable[..., Path]) -> None:
    swapped = make_model("other.onnx", classes=["green", "red", "blue"], groups={}, palette=None)
    teachers = load([str(make_model()), str(swapped)], COLOURS, flip=False, threads=1)
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 2] = 250  # BGR: red
    soft = labelling.mean(teachers, image)
    assert abs(int(soft.shares[0, 0, 0]) - 127) <= 1
    assert set(soft.ids[:2, 0, 0].tolist()) == {0, 1}


def test_classes_that_cannot_be_mapped_are_named(make_model: Callable[..., Path]) -> None:
    card = card_of({"classes": ["red", "grass"]})
    with pytest.raises(DataError, match="the teacher .*model.onnx: .* these are: green, blue; add"):
        load([str(make_model())], card, flip=False, threads=1)


def test_what_is_missing_is_named_before_anything_is_labelled(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    teacher, config = str(make_model()), module.Config(model="o.onnx", out=str(tmp_path / "run"))
    bag = str(write_recording(tmp_path / "a.mcap", 3))
    with pytest.raises(UsageError, match="nothing to label; give --bag"):
        distill(Task((teacher,), "topformer_tiny"), config)
    with pytest.raises(UsageError, match="'topformer_huge' is neither a file nor one of"):
        distill(Task((teacher,), "topformer_huge", (bag,)), config)
    with pytest.raises(UsageError, match="which classes are learned; give --card"):
        distill(Task((teacher, teacher), "topformer_tiny", (bag,)), config)
    empty = write_bag(
        tmp_path / "empty.mcap", image_message("/rgb", 1, np.zeros((4, 4, 3), np.uint8), "nv99")
    )
    with pytest.raises(DataError, match="no frame of .*empty.mcap can be read"):
        distill(Task((teacher,), "topformer_tiny", (str(empty),)), config)


def test_a_cluster_that_loses_a_worker_labels_as_one_process(
    tmp_path: Path, make_model: Callable[..., Path], lose_a_worker: list[int]
) -> None:
    model = str(make_model(wide=64))
    folder = write_folder(tmp_path / "drive", 60)
    task = Task((model,), "topformer_tiny", images=(str(folder),))
    config = module.Config(out=str(tmp_path / "run"), threads=1)
    recordings = module._open(task, COLOURS)
    console = Console(quiet=True)
    _, items = module._collect(task, config, COLOURS, recordings, console)
    teachers = load(task.teachers, COLOURS, flip=True, threads=1)
    asked = labelling.question(task.teachers, COLOURS, flip=True)
    found = [
        labelling.label(items, teachers, asked, tmp_path / name, cluster=cluster, console=console)
        for name, cluster in (("alone", None), ("together", Cluster(2)))
    ]
    assert len(lose_a_worker) == 1
    for one, other in zip(*found, strict=True):
        assert bool(one.soft) == (one.part != "gap")
        if one.soft:
            labels = [read_soft(Path(item.soft)) for item in (one, other)]
            assert all((a == b).all() for a, b in zip(*labels, strict=True))


def test_a_student_that_cannot_be_exported_is_refused_before_labelling(
    tmp_path: Path, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "mean", lambda *_: pytest.fail("it was labelled"))
    task = Task((str(make_model()),), "topformer_tiny", write_recordings(tmp_path, 3))
    model = str(tmp_path / "o.onnx")
    config = read_config(None, SMALL, out=str(tmp_path / "run"), model=model, export_size=[0, 64])
    with pytest.raises(ManifestError, match="input size"):
        distill(task, config)


def test_a_disk_that_fills_up_while_labelling_leaves_nothing_half_written(
    tmp_path: Path, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task((str(make_model()),), "topformer_tiny", write_recordings(tmp_path, 3))
    config = read_config(None, SMALL, out=str(tmp_path / "run"), model=str(tmp_path / "o.onnx"))
    whole = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        if ".npz" in path.name and len(list(path.parent.glob("*.npz"))) == 2:
            whole(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(ModelError, match="npz cannot be written: No space left"):
        distill(task, config)
    names = [path.name for path in (tmp_path / "run" / "teacher").rglob("*.*")]
    assert len(names) == 2
    assert not [name for name in names if not name.endswith(".npz")]


def test_held_out_bags_hold_all_frames_of_their_time_and_labels_by_stamp(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    bags = write_recordings(tmp_path, 10)
    task = Task((str(make_model()),), "topformer_tiny", bags, count=16)
    config = module.Config(out=str(tmp_path / "run"), threads=1)
    recordings = module._open(task, COLOURS)
    data, items = module._collect(task, config, COLOURS, recordings, Console(quiet=True))
    teachers = load(task.teachers, COLOURS, flip=False, threads=1)
    asked, console = labelling.question(task.teachers, COLOURS, flip=False), Console(quiet=True)
    items = labelling.label(items, teachers, asked, tmp_path, cluster=None, console=console)
    held = write_held_out(tmp_path / "heldout", data, items, recordings)
    val = [item for item in items if item.part == "val"]
    (images,) = held.images
    frames = list(BagSource(Path(images.path)).frames())
    first, last = min(i.place for i in val), max(i.place for i in val)
    assert [f.key for f in frames] == list(range(first, last + 1, 10**8))
    assert sorted(int(p.stem) for p in held.labels.iterdir()) == sorted(i.place for i in val)
    truth = cv2.imread(str(held.labels / f"{val[0].place}.png"), -1)
    assert truth.shape == (32, 48)
    best = read_soft(Path(val[0].soft)).best((32, 48))
    assert (truth[truth < 255] == best[truth < 255]).all()
    assert not held.by_people


@pytest.mark.parametrize(
    ("interval", "text"),
    [(Interval(0.1, 0.05, 0.2), "the new network is better: mean IoU +0.100 (+0.050 to +0.200)"),
     (Interval(-0.1, -0.2, -0.05), "the new network is worse"),
     (Interval(0.1, -0.05, 0.2), "not shown to be better"),
     (Interval(0.1), "too few held-out images say"), (None, "s.onnx before cannot be compared")],
)  # fmt: skip
def test_the_line_says_better_only_where_the_interval_does(
    interval: Interval | None, text: str
) -> None:
    assert text in verdict_line(0.7, interval, "labels of people", "s.onnx")
