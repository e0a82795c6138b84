"""Setting `model` swaps it between two images; whatever goes wrong, the old one goes on."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from support.graph import NODE, Graph

from seg_perception.checkpoints.zoo import describe
from seg_perception.messages import to_array
from seg_perception.models import create_model
from seg_perception.runtimes.pt_file import write_model

Make = Callable[..., Path]
INPUT = {"size": [32, 48], "layout": "NHWC", "dtype": "uint8"}


def red() -> np.ndarray:
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 0] = 250
    return image


def model_of(ros: Graph) -> str:
    request = GetParameters.Request(names=["model"])
    return str(ros.call(GetParameters, f"{NODE}/get_parameters", request).values[0].string_value)


def test_a_running_node_takes_another_model(ros: Graph, make_model: Make) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    camera = ros.camera()
    ros.start_node(model=make_model())
    assert (to_array(ros.ask(camera, ros.image_message(red()), masks)) == 0).all()
    swapped = make_model("bgr.onnx", input={**INPUT, "color": "BGR"})  # takes red for blue
    result = ros.set("model", str(swapped))
    assert result.successful, result.reason
    masks.clear()
    assert (to_array(ros.ask(camera, ros.image_message(red()), masks)) == 2).all()
    ros.wait(lambda: ros.values()["model"] == str(swapped))


def test_a_bad_model_leaves_the_old_one_running(
    ros: Graph, make_model: Make, tmp_path: Path
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    camera = ros.camera()
    ros.start_node(model=make_model())
    ros.ask(camera, ros.image_message(red()), masks)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for value, reason in (
        (str(tmp_path / "bad.onnx"), "not an ONNX"),
        (str(tmp_path / "missing.onnx"), "no model file"),
        (str(make_model("bare.onnx", manifest=False)), "holds no manifest"),
    ):
        result = ros.set("model", value)
        assert not result.successful
        assert reason in result.reason
        assert (to_array(ros.ask(camera, ros.image_message(red()), masks)) == 0).all()
    assert model_of(ros).endswith("/model.onnx")
    assert ros.state() == "active"


@pytest.mark.alone
def test_image_encodings_and_services_go_on_while_models_load(ros: Graph, make_model: Make) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    camera = ros.camera()
    paths = [make_model("a.onnx"), make_model("b.onnx", input={**INPUT, "color": "BGR"})]
    ros.start_node(model=paths[0])
    ros.ask(camera, ros.image_message(red()), masks)
    client = ros.node.create_client(SetParametersAtomically, f"{NODE}/set_parameters_atomically")
    delays = []
    labels = set()
    for i in range(8):
        request = SetParametersAtomically.Request()
        value = Parameter("model", value=str(paths[(i + 1) % 2]))
        request.parameters = [value.to_parameter_msg()]
        future = client.call_async(request)
        masks.clear()
        while not future.done():
            camera.publish(ros.image_message(red()))
            started = time.monotonic()
            ros.call(GetState, f"{NODE}/get_state", GetState.Request())
            delays.append(time.monotonic() - started)
        assert future.result().result.successful
        labels |= {int(to_array(m).max()) for m in masks}
    assert np.median(delays) < 0.1
    assert labels == {0, 2}, "every mask is of one model or the other"


def test_calls_that_set_the_model_queue(ros: Graph, make_model: Make) -> None:
    ros.start_node(model=make_model("first.onnx"))
    ros.wait_for_status("nobody publishes")
    client = ros.node.create_client(SetParametersAtomically, f"{NODE}/set_parameters_atomically")
    ros.wait(client.service_is_ready)
    answers = []
    for name in ("second.onnx", "missing.onnx", "third.onnx"):
        path = make_model(name)
        if name == "missing.onnx":
            path.unlink()
        value = Parameter("model", value=str(path)).to_parameter_msg()
        answers.append(client.call_async(SetParametersAtomically.Request(parameters=[value])))
    ros.wait(lambda: all(answer.done() for answer in answers))
    assert [a.result().result.successful for a in answers] == [True, False, True]
    assert "missing.onnx" in answers[1].result().result.reason
    assert model_of(ros).endswith("/third.onnx")


def test_a_model_is_not_set_under_one_that_is_being_loaded(
    ros: Graph, make_model: Make, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.pt"  # torch alone takes seconds to import
    described = describe("segformer_b0", "cityscapes", classes=19, size=(768, 1024))
    write_model(create_model("segformer_b0", dataset="cityscapes"), described, slow)
    ros.start_node(model=slow, diagnostics_period=0.05)
    ros.wait_for_status("configuring")
    refused = ros.set("model", str(make_model()))
    assert not refused.successful
    assert "set model again when the node is inactive or active" in refused.reason
    ros.wait(lambda: ros.state() == "active", 60)


def test_a_swap_that_changes_the_labels_needs_an_inactive_node(
    ros: Graph, make_model: Make
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    ros.ask(camera, ros.image_message(red()), masks)
    renamed = str(make_model("renamed.onnx", classes=["a", "b", "c"], groups={}))
    silent = str(make_model("argmax.onnx", output={"kind": "labels"}))
    for path, what in ((renamed, "label_info"), (silent, "~/confidence")):
        refused = ros.set("model", path)
        assert not refused.successful
        assert what in refused.reason
        assert "deactivate it, set model, and activate it again" in refused.reason
    assert ros.change_state(Transition.TRANSITION_DEACTIVATE)
    assert ros.set("model", silent).successful
    ros.wait(lambda: not ros.node.count_publishers(f"{NODE}/confidence"))
    refused = ros.set("min_confidence", 0.5)
    assert "labels without confidence" in refused.reason
    assert ros.set("model", renamed).successful
    assert ros.change_state(Transition.TRANSITION_ACTIVATE)
    masks.clear()
    ros.ask(camera, ros.image_message(red()), masks)
    assert ros.node.count_publishers(f"{NODE}/confidence")
