"""seg-perception evaluate: scores that a direct count confirms, and refusals that say why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from support.recordings import (
    CLIP,
    IMAGES,
    first_of_clip,
    image_message,
    many_chunks,
    thirds,
    write_bag,
    write_images,
)

from seg_perception import messages
from seg_perception.bags.bag import (
    BagReader,
)
from seg_perception.bags.video import write_video
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.segmenter import Segmenter

Make = Callable[..., Path]


def test_a_closed_form_case_comes_out_exactly(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    images = write_images(tmp_path / "images", halves, halves)
    labels = write_images(tmp_path / "labels", thirds())
    status, report, said = evaluate("--model", make_model(), "--images", images,
                                    "--labels", labels)  # fmt: skip
    assert status == 0
    # The network says red up to column 24. 31 rows count: 16 columns of red, 8 of red for blue.
    assert report["per_class_iou"] == {"red": 16 / 24, "green": None, "blue": 24 / 32}
    assert report["miou"] == pytest.approx((16 / 24 + 24 / 32) / 2)
    assert report["pixel_accuracy"] == pytest.approx(40 / 48)
    void = [31 * 16 / (31 * 24 + 24), 31 * 24 / (31 * 32 + 24)]
    assert report["miou_void_counted"] == pytest.approx(np.mean(void))
    assert report["confusion_matrix"] == [
        [31 * 16, 0, 0, 0], [0, 0, 0, 0], [31 * 8, 0, 31 * 24, 0], [24, 0, 24, 0]
    ]  # fmt: skip
    assert (report["frames_in"], report["frames_out"], report["dropped"]) == (2, 1, 1)
    assert report["skipped"] == {"no truth of its key": 1}
    assert report["frames_scored"] == 1
    assert set(report["stage_ms"]) == set(report["stage_p95_ms"]) >= {"network", "decode"}
    assert report["peak_memory_mb"] > 10
    assert not {"age_ms", "agreement_with", "teacher", "damage", "interrupted"} & set(report)
    assert "1 images have no score: no truth of its key" in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 + 3  # a sample, and the worst of one
    assert page.count("<svg") == 2
    assert "Age of each mask" not in page


def test_scores_equal_scikit_learns(
    make_model: Make, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (3, 32, 48, 3)).astype(np.uint8)
    truths = random.choice([0, 1, 2, 9], (3, 32, 48)).astype(np.uint8)
    model = make_model()
    status, report, _ = evaluate(
        "--model", model, "--images", write_images(tmp_path / "p", *images), "--labels",
        write_images(tmp_path / "l", *truths), "--void", "9",
    )  # fmt: skip
    assert status == 0
    guesses = np.stack([Segmenter.load(model)(p, "rgb8").labels for p in images])
    known = truths != 9
    y, guess = truths[known], guesses[known]
    np.testing.assert_allclose(
        list(report["per_class_iou"].values()), metrics.jaccard_score(y, guess, average=None)
    )
    assert report["miou"] == pytest.approx(metrics.jaccard_score(y, guess, average="macro"))
    assert report["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(y, guess))
    counted = np.array(report["confusion_matrix"])
    assert (counted[:3, :3] == metrics.confusion_matrix(y, guess)).all()
    assert counted[3].sum() == (~known).sum()
    assert report["void_ids"] == [9]


def test_the_clip_is_scored_as_by_hand_and_stamps_choose_its_images(
    tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    bag, stamps = first_of_clip(tmp_path / "b.mcap", 6)
    answered = [stamps[1], stamps[4]]
    masks = [
        image_message("/segmentation_node/label_mask", s, np.zeros((4, 4), np.uint8), "mono8")
        for s in answered
    ]
    result = write_bag(tmp_path / "result.mcap", *masks)
    reports = []
    for more in ((), ("--stamps", result)):
        for _ in range(2):
            status, report, _ = evaluate(
                "--model", "tiny", "--bag", bag, "--labels", CLIP / "truth", *more
            )
            assert status == 0
            reports.append(report)
    compared = ("miou", "miou_void_counted", "pixel_accuracy", "per_class_iou", "confusion_matrix")
    segmenter = Segmenter.load("tiny")
    with BagReader(bag) as reader:
        images = {messages.stamp_ns(m.header): m for m in reader.messages([IMAGES])}
    for report, again, chosen in ((*reports[:2], stamps), (*reports[2:], answered)):
        matrix = ConfusionMatrix(11, (11, 255))
        for stamp in chosen:
            truth = cv2.imread(str(CLIP / "truth" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
            matrix.add(truth, segmenter(messages.decode(images[stamp]).image, "bgr8").labels)
        assert report["confusion_matrix"] == matrix.counts.tolist()
        assert report["miou"] == matrix.miou()
        assert report["frames_in"] == report["frames_out"] == len(chosen)
        assert report["void_ids"] == [11, 255]
        assert {k: report[k] for k in compared} == {k: again[k] for k in compared}


def test_a_label_topic_is_paired_by_stamp_whatever_comes_first(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    right = np.where(np.arange(48) < 24, 0, 2).astype(np.uint8) * np.ones((32, 1), np.uint8)
    images = [image_message("/rgb", s, halves, "rgb8") for s in (5, 10, 15, 20)]
    masks = [
        image_message("/truth", s, right if s != 15 else thirds(), "mono8") for s in (5, 10, 15)
    ]
    order = [masks[0], images[0], images[1], images[2], masks[1], masks[2], images[3]]
    records = [r._replace(time_ns=i) for i, r in enumerate(order)]
    bag = write_bag(tmp_path / "b.mcap", *records)
    status, report, _ = evaluate("--model", make_model(), "--bag", bag, "--labels", "/truth")
    assert status == 0
    assert report["frames_scored"] == 3
    assert report["skipped"] == {"no truth of its key": 1}
    assert report["confusion_matrix"][2] == [31 * 8, 0, 2 * 32 * 24 + 31 * 24, 0]
    status, _, said = evaluate("--model", make_model(), "--bag", bag, "--labels", "/absent")
    assert status == 1
    assert "/absent is neither a folder nor an image topic of" in said


def test_a_teacher_is_agreed_with_and_never_right(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    images = write_images(tmp_path / "p", halves)
    teacher = make_model("teacher.onnx")
    together = ("--model", make_model(), "--images", images, "--teacher", teacher)
    status, report, said = evaluate(*together, "--require", "agreement_with.miou>=1")
    assert status == 0
    assert report["teacher"] == "brightest_channel"
    assert report["agreement_with"]["miou"] == report["agreement_with"]["pixel_agreement"] == 1
    assert not {"miou", "pixel_accuracy", "per_class_iou", "miou_void_counted"} & set(report)
    assert "accuracy" not in (said + (tmp_path / "out" / "report.html").read_text()).lower()
    status, _, said = evaluate(*together, "--require", "miou>=0.5")
    assert status == 2
    assert "miou is not measured in this run" in said
    other = make_model("other.onnx", classes=["red", "green", "sky"], groups={})
    status, _, said = evaluate("--model", make_model(), "--images", images, "--teacher", other)
    assert status == 1
    assert "they differ from 'sky' on" in said


def test_a_video_and_no_truth_give_times_alone(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    model = make_model()
    write_video(tmp_path / "v.mp4", [halves[..., ::-1]] * 4, rate=5)
    status, report, _ = evaluate("--model", model, "--video", tmp_path / "v.mp4")
    assert status == 0
    assert (report["frames_in"], report["frames_out"]) == (4, 4)
    assert "miou" not in report
    truth = tmp_path / "t"
    truth.mkdir()
    right = np.where(np.arange(48) < 24, 0, 2).astype(np.uint8) * np.ones((32, 1), np.uint8)
    cv2.imwrite(str(truth / "000002.png"), right)
    status, report, _ = evaluate("--model", model, "--video", tmp_path / "v.mp4", "--labels", truth)
    assert status == 0
    assert report["frames_scored"] == 1
    with av.open(str(tmp_path / "v.mp4")) as video:  # the codec blurs the border
        shown = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)][2]
    labels = Segmenter.load(model)(shown, "bgr8").labels
    assert report["pixel_accuracy"] == (labels == right).mean() > 0.5
    (tmp_path / "no.mp4").write_bytes(b"no video")
    status, _, said = evaluate("--model", make_model(), "--video", tmp_path / "no.mp4")
    assert status == 1
    assert "no.mp4 cannot be read as a video" in said


def test_requirements_decide_the_exit_status(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    images = write_images(tmp_path / "p", halves)
    base = ("--model", make_model(), "--images", images, "--labels",
            write_images(tmp_path / "l", thirds()))  # fmt: skip
    status, report, said = evaluate(
        *base, "--require", "miou>=0.6", "--require", "per_class_iou.red<=0.7"
    )
    assert status == 0
    assert "per_class_iou.red<=0.7: 0.666667, holds" in said
    assert [v["holds"] for v in report["verdicts"]] == [True, True]
    status, report, said = evaluate(*base, "--require", "miou >= 0.9", "--require", "miou<=1")
    assert status == 1
    assert "miou >= 0.9: 0.708333, FAILS" in said
    assert [v["holds"] for v in report["verdicts"]] == [False, True]
    status, report, said = evaluate(*base, "--require", "per_class_iou.green>=0.1")
    assert status == 2
    assert "per_class_iou.green>=0.1" in said
    assert "was not measured" in said
    assert report is not None, "what was measured is kept"


@pytest.mark.parametrize(
    ("more", "status", "expected"),
    [
        (("--require", "age_ms.p95<=80"), 2, "age_ms.p95 is not measured in this run"),
        (("--require", "miou>=0.5"), 2, "miou is not measured in this run"),
        (("--require", "frames_in"), 2, "'frames_in' is no requirement; write KEY>=NUMBER"),
        (("--require", "frames_in>=many"), 2, "is no requirement"),
        (("--model", "tiny", "--model", "tiny,threads=1"), 2, "--model tiny is given twice"),
        (("--model", "tiny,speed=2"), 2, "'speed' is no setting of a model; write MODEL,key=value"),
        (("--model", "tiny,threads=two"), 2, "threads takes no 'two'; give a number"),
        (("--model", "tiny,threads=0"), 2, "threads is 0; give at least 1"),
        (("--model", "tiny,input_size=wide"), 2, "'wide' is no size: write auto or HEIGHTxWIDTH"),
        (("--model", "tiny,min_confidence=2"), 2, "min_confidence is 2.0; give 0 to 1"),
        (("--measure", "boundary"), 2, "--measure boundary needs truth"),
        (("--measure", "occupancy"), 2, "needs a --bag with CameraInfo and tf, or"),
        (("--require", "boundary.iou>=0.5"), 2, "boundary.iou is not measured in this run"),
        (("--live",), 2, "--live plays one bag"),
        (("--rate", "2"), 2, "--rate is of playing"),
        (("--stamps", "x.mcap"), 2, "go with --bag"),
        (("--void", "3"), 2, "--void is of the truth"),
        (("--labels", "absent"), 1, "absent is no folder"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    more: tuple[str, ...], status: int, expected: str, make_model: Make, halves: np.ndarray,
    tmp_path: Path, evaluate: Callable[..., Any],
) -> None:  # fmt: skip
    images = write_images(tmp_path / "p", halves)
    ended, report, said = evaluate("--model", make_model(), "--images", images, *more)
    assert ended == status
    assert expected in said
    assert report is None


def test_truth_that_does_not_fit_is_named(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    images = write_images(tmp_path / "p", halves)
    base = ("--model", make_model(), "--images", images, "--labels")
    strange = write_images(tmp_path / "strange", np.full((32, 48), 7, np.uint8))
    status, report, said = evaluate(*base, strange)
    assert status == 1
    assert "strange, of a: truth holds ids [7], neither one of 3 classes nor void [255]" in said
    assert report is None
    small = write_images(tmp_path / "small", np.zeros((16, 48), np.uint8))
    assert "truth is (16, 48) and prediction (32, 48)" in evaluate(*base, small)[2]
    (tmp_path / "elsewhere").mkdir()
    (small / "a.png").rename(tmp_path / "elsewhere" / "z.png")
    status, _, said = evaluate(*base, tmp_path / "elsewhere")
    assert status == 1
    assert "images are named a, the truth is named z" in said
    colours = write_images(tmp_path / "colours", np.where(halves > 0, 255, 0).astype(np.uint8))
    status, report, _ = evaluate(*base, colours)
    assert status == 0
    assert report["miou"] == 1, "colours of the palette are its ids"
    halves[0, 0] = (1, 2, 3)
    unknown = write_images(tmp_path / "unknown", halves)
    assert "colours that are not in the model's palette, such as" in evaluate(*base, unknown)[2]


def test_bags_that_cannot_be_evaluated_are_named(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "b.mcap", image_message("/rgb", 5, halves, "rgb8"))
    base = ("--model", make_model(), "--bag")
    status, _, said = evaluate(*base, bag, "--image-topic", "/absent")
    assert status == 1
    assert "/absent is no image topic; there are /rgb" in said
    empty = write_bag(tmp_path / "empty.mcap")
    assert "no image topic" in evaluate(*base, empty)[2]
    assert "no bag at" in evaluate(*base, tmp_path / "no")[2]
    other = write_bag(
        tmp_path / "other.mcap",
        image_message("/n/label_mask", 6, np.zeros((4, 4), np.uint8), "mono8"),
    )
    status, _, said = evaluate(*base, bag, "--stamps", other)
    assert status == 1
    assert "none of the 1 stamps is among the images of" in said
    assert "0 topics named label_mask" in evaluate(*base, bag, "--stamps", bag)[2]
    torn = image_message("/rgb", 7, halves, "rgb8")
    torn = torn._replace(data=torn.data[:20])
    bad = image_message("/rgb", 6, halves[:, :10], "bayer_what")
    mixed = write_bag(tmp_path / "mixed.mcap", image_message("/rgb", 5, halves, "rgb8"), bad, torn)
    status, report, said = evaluate(*base, mixed)
    assert status == 0
    assert (report["frames_in"], report["frames_out"], report["dropped"]) == (3, 1, 2)
    assert any("bayer_what" in reason for reason in report["skipped"])
    assert any("20 bytes on /rgb are no" in reason for reason in report["skipped"])


def test_a_cut_bag_is_evaluated_up_to_its_damage(
    make_model: Make, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    path = many_chunks(tmp_path / "bag")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    status, report, said = evaluate("--model", make_model(), "--bag", path.parent)
    assert status == 1, "an input that failed"
    assert 5 < report["frames_out"] < 25
    assert f"; {report['frames_in']} of 40 images were read" in report["damage"]
    assert "bytes lost" in said
    path.write_bytes(content[:2000])
    status, report, said = evaluate("--model", make_model(), "--bag", path.parent)
    assert (status, report) == (1, None)
    assert f"no image of {path.parent} could be read: {path.name} is damaged" in said
    (path.parent / "metadata.yaml").unlink()
    said = evaluate("--model", make_model(), "--bag", path.parent)[2]
    assert f"{path.parent}: the bag has no image topic" in said
    assert f"({path.name} is damaged: read up to byte" in said


def test_an_output_that_cannot_be_written_is_told_before_the_work(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Callable[..., Any]
) -> None:
    (tmp_path / "out").write_text("a file in the way")
    images = write_images(tmp_path / "p", halves)
    status, _, said = evaluate("--model", make_model(), "--images", images)
    assert status == 1
    assert "out is no folder" in said
    assert "evaluating" not in said
    assert (tmp_path / "out").read_text() == "a file in the way"
