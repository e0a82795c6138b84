"""segmentation_node as a process over DDS: what it answers, and that it lives through bad input."""

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool
from support import graph
from support.graph import NODE, Graph
from support.paths import SUPPORT

from seg_perception.labels import class_shares
from seg_perception.messages import stamp_ns, to_array
from seg_perception.segmenter import Segmenter


def test_every_output_answers_the_image(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    model = make_model()
    outputs = {n: ros.collect(Image, f"{NODE}/{n}") for n in
               ("label_mask", "confidence", "class_grid", "overlay")}  # fmt: skip
    infos = ros.collect(CameraInfo, f"{NODE}/camera_info")
    camera, info = ros.camera(), ros.camera(CameraInfo, "/camera_info")
    ros.start_node(model=model, grid_cols=2, overlay_alpha=1.0)
    ros.wait(info.get_subscription_count)
    info.publish(CameraInfo(width=48, height=32))
    ros.spin(0.3)
    large = cv2.resize(halves, (96, 64), interpolation=cv2.INTER_NEAREST)
    sent = ros.image_message(large, stamp=12_345_678_901)
    ros.ask(camera, sent, outputs["label_mask"])
    ros.wait(lambda: all(outputs.values()) and infos)

    expected = Segmenter.load(model)(large)
    mask = outputs["label_mask"][-1]
    assert (mask.encoding, mask.step, mask.width, mask.height) == ("mono8", 96, 96, 64)
    assert (to_array(mask) == expected.labels).all()
    assert (to_array(outputs["confidence"][-1]) == expected.confidence).all()
    for messages in outputs.values():
        assert messages[-1].header == sent.header
    assert infos[-1].header.stamp == sent.header.stamp
    grid = outputs["class_grid"][-1]
    assert (grid.encoding, grid.height, grid.width) == ("32FC3", 1, 2)
    shares = np.frombuffer(grid.data, np.float32).reshape(1, 2, 3)
    assert (shares == class_shares(expected.labels, classes=3, columns=2)).all()
    assert shares[0, 0, 0] > shares[0, 1, 0]
    overlay = outputs["overlay"][-1]
    assert (overlay.encoding, overlay.step) == ("bgr8", 96 * 3)
    assert (np.frombuffer(overlay.data, np.uint8)[-3:] == (255, 0, 0)).all()
    if importlib.util.find_spec("vision_msgs") is None:
        assert ros.logs().count("vision_msgs is not installed") == 1


def test_compressed_images_and_groups(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera(CompressedImage, "/front/compressed")
    ros.start_node(
        {"image": "/front"},
        model=make_model(),
        image_transport="compressed",
        label_space="groups",
    )
    data = cv2.imencode(".png", halves[..., ::-1])[1].tobytes()
    message = CompressedImage(format="png", data=data)
    mask = to_array(ros.ask(camera, message, masks))
    assert (mask[:, :16] == 4).all()
    assert (mask[:, -16:] == 0).all()


def test_bad_images_are_counted_and_the_next_good_one_is_answered(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    node = ros.start_node(model=make_model())
    good = ros.image_message(halves)
    ros.ask(camera, good, masks)
    bad = []
    for field, value in {"step": 3, "height": 0, "encoding": "nonsense", "data": [1, 2, 3]}.items():
        message = ros.image_message(halves)
        setattr(message, field, value)
        bad.append(message)
    bad.append(Image(encoding="rgb8"))
    for count, message in enumerate(bad, start=1):
        camera.publish(message)
        ros.wait(lambda count=count: ros.values()["unreadable"] == str(count))
    assert "0x0: empty" in ros.values()["last_error"]
    ros.ask(camera, good, masks)
    assert ros.wait_for_status("empty").level == b"\x01"

    def has_recovered() -> bool:
        camera.publish(ros.image_message(halves))
        return ros.status() == "segmenting"

    ros.wait(has_recovered)
    assert node.poll() is None


def test_the_camera_may_change_its_size_and_encoding(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    for width, height in ((48, 32), (160, 90), (31, 17)):
        image = cv2.resize(halves, (width, height), interpolation=cv2.INTER_NEAREST)
        ros.ask(camera, ros.image_message(image), masks)
        ros.wait(lambda w=width: masks[-1].width == w)
        assert masks[-1].height == height
    ros.ask(camera, ros.image_message(halves[..., 0], "mono8"), masks)


def test_without_a_camera_the_diagnostic_says_so(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node({"image": "/front/image"}, model=make_model())
    status = ros.wait_for_status("nobody publishes /front/image")
    assert status.level == b"\x01"


def test_a_best_effort_camera_that_comes_later_is_heard(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    ros.start_node(model=make_model())
    ros.wait_for_status("nobody publishes")
    camera = ros.camera(reliable=False)
    ros.ask(camera, ros.image_message(halves), masks)


def test_a_quality_of_service_that_cannot_match_is_told(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.camera(reliable=False)
    ros.start_node(model=make_model(), qos_reliability="reliable")
    status = ros.wait_for_status("offers /image best effort")
    assert "set qos_reliability to auto" in status.message


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "no manifest"])
def test_a_bad_model_is_told_and_a_good_one_can_follow(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray, tmp_path: Path, kind: str
) -> None:
    good = make_model()
    bad = tmp_path / "bad.onnx"
    if kind == "truncated":
        bad.write_bytes(good.read_bytes()[:200])
    elif kind == "text":
        bad.write_text("hello")
    elif kind == "no manifest":
        make_model("bad.onnx", manifest=False)
    node = ros.start_node(model=bad)
    status = ros.wait_for_status("bad.onnx")
    assert status.level == b"\x02"
    ros.wait(lambda: ros.state() == "unconfigured")
    assert ros.set("model", str(good)).successful
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    masks = ros.collect(Image, f"{NODE}/label_mask")
    ros.ask(ros.camera(), ros.image_message(halves), masks)
    assert node.poll() is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("threads", 0, "threads"),
        ("min_confidence", 2.5, "min_confidence"),
        ("provider", "tpu", "provider is 'tpu'; choose one of cpu"),
        ("label_space", "colours", "label_space is 'colours'"),
    ],
)
def test_parameters_out_of_range_are_told_and_can_be_mended(
    ros: Graph, make_model: Callable[..., Path], name: str, value: object, reason: str
) -> None:
    node = ros.start_node(model=make_model(), **{name: value})
    status = ros.wait_for_status(reason)
    assert status.level == b"\x02"
    ros.wait(lambda: ros.state() == "unconfigured")
    mended = {"threads": 1, "min_confidence": 0.5, "provider": "cpu", "label_space": "model"}
    assert ros.set(name, mended[name]).successful
    assert ros.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.poll() is None


def test_parameters_are_checked_while_running(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    grey = ros.image_message(np.full((32, 48, 3), 90, np.uint8))
    assert to_array(ros.ask(camera, grey, masks)).max() < 3
    assert not ros.set("overlay_alpha", 1.5).successful
    late = ros.set("threads", 2)
    assert not late.successful
    assert "deactivate and clean up first" in late.reason
    assert not ros.set("diagnostics_period", 3.0).successful, "read only"
    assert ros.set("min_confidence", 0.5).successful
    ros.wait(lambda: (to_array(ros.ask(camera, grey, masks)) == 255).all())


def test_a_model_without_confidence_refuses_a_minimum(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    ros.start_node(model=make_model("argmax.onnx", output={"kind": "labels"}))
    ros.ask(ros.camera(), ros.image_message(halves), masks)
    assert not ros.node.count_publishers(f"{NODE}/confidence")
    refused = ros.set("min_confidence", 0.5)
    assert not refused.successful
    assert "labels without confidence" in refused.reason


def test_old_images_are_skipped_and_counted(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model(), max_age=30.0)
    ros.wait(camera.get_subscription_count)  # or the image grows old while the node starts
    now = ros.node.get_clock().now().nanoseconds
    ros.ask(camera, ros.image_message(halves), masks)
    old = now - 60 * 10**9
    camera.publish(ros.image_message(halves, stamp=old))
    ros.wait(lambda: ros.values()["too_old"] == "1")
    assert old not in {stamp_ns(mask.header) for mask in masks}


def test_enable_stops_and_starts(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    ros.ask(camera, ros.image_message(halves), masks)
    assert ros.call(SetBool, f"{NODE}/enable", SetBool.Request(data=False)).success
    before = ros.settle(lambda: len(masks))
    camera.publish(ros.image_message(halves))
    ros.wait_for_status("disabled")
    assert len(masks) == before
    ros.call(SetBool, f"{NODE}/enable", SetBool.Request(data=True))
    ros.ask(camera, ros.image_message(halves), masks)


def test_the_newest_image_wins_and_drops_are_counted(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    camera = ros.camera()
    # A large input keeps the network busy for longer than small images take to come.
    size = {"size": [1600, 2400], "layout": "NHWC", "dtype": "uint8"}
    ros.start_node(model=make_model(input=size))
    first = ros.ask(camera, ros.image_message(halves, stamp=1_000_000_000), masks)
    assert first.header.stamp.sec == 1
    asked = ros.settle(lambda: int(ros.values()["received"]), 1.0)
    for i in range(40):
        camera.publish(ros.image_message(halves, stamp=(i + 2) * 10**9))
    ros.wait(lambda: masks[-1].header.stamp.sec == 41)
    stamps = [m.header.stamp.sec for m in masks]
    assert stamps == sorted(stamps)
    values = ros.values()
    received = int(values["received"]) - asked
    assert received < 40
    assert int(values["dropped"]) == 40 - received


@pytest.mark.alone
@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_every_image_of_1280x720_at_15_hz_arrives(
    ros: Graph, make_model: Callable[..., Path], reliability: str
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    heard = ros.collect(Image, "/image", depth=100, reliable=reliability == "reliable")
    ros.start_node(model=make_model())
    ros.wait_for_status("nobody publishes")
    camera = SUPPORT / "camera_process.py"
    process = ros.start(str(camera), "45", reliability, "2")
    ros.wait(lambda: process.poll() is not None, 60)
    assert [m.header.stamp.sec for m in heard] == list(range(1, 46))
    # The node takes the newest alone; an image that a busy machine made it skip is counted.
    assert masks
    assert len(masks) + int(ros.values()["dropped"]) == 45


def test_autostart_off_waits_for_a_manager(ros: Graph, make_model: Callable[..., Path]) -> None:
    ros.start_node(model=make_model(), autostart=False)
    assert ros.wait_for_status("unconfigured").level == b"\x00"
    steps = {
        Transition.TRANSITION_CONFIGURE: "inactive",
        Transition.TRANSITION_ACTIVATE: "active",
        Transition.TRANSITION_DEACTIVATE: "inactive",
        Transition.TRANSITION_CLEANUP: "unconfigured",
    }
    for _ in range(2):
        for transition, state in steps.items():
            assert ros.change_state(transition)
            assert ros.state() == state


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray, kind: signal.Signals
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    node = ros.start_node(model=make_model())
    ros.ask(ros.camera(), ros.image_message(halves), masks)
    assert graph.stop(node, kind) == 0
    assert "Traceback" not in ros.logs()
