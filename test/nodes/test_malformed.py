"""A live node is sent what no camera should send; the long version is `make soak`."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from sensor_msgs.msg import Image
from soak import TRANSPORTS, fuzz_node, soak_drive, soak_node
from support.graph import NODE, Graph


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_malformed_messages_are_counted_and_good_images_answered(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray, transport: str
) -> None:
    result = fuzz_node(ros, transport, 150, model=str(make_model()), image=halves)
    assert result["failures"] == []
    assert result["processed"] >= 150
    assert result["counts"]["unreadable"] > 50


def test_the_soak_answers_every_frame(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    model = str(make_model())
    result = soak_node(ros, "compressed", 150, model=model, images=[halves, halves[:, ::-1]])
    assert result["failures"] == []
    assert result["sent"] == result["answered"] == 150


def test_a_drive_through_both_nodes_maps_every_frame(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    images = [halves.repeat(4, 0).repeat(4, 1), np.zeros((128, 192, 3), np.uint8)]
    result = soak_drive(ros, 150, model=str(make_model()), images=images)
    for name in ("segmentation_node", "occupancy_node"):
        assert result[name]["failures"] == []
        assert result[name]["counts"]["published"] >= 149
        assert len(result[name]["memory_by_steps_mb"]) >= 27


def test_a_image_of_an_impossible_time_is_answered_with_its_stamp(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    for seconds in (-(2**31), -1, 2**31 - 1):
        message = ros.image_message(halves)
        message.header.stamp.sec, message.header.stamp.nanosec = seconds, 2**32 - 1
        assert ros.ask(camera, message, masks).header == message.header
    assert ros.values()["failed"] == "0"


def test_a_parameter_of_no_known_type_is_refused_by_a_node_that_lives(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    ros.start_node(model=make_model())
    bad = Parameter(name="model", value=ParameterValue(type=77))
    good = Parameter(name="max_age", value=ParameterValue(type=3, double_value=2.0))
    request = SetParameters.Request(parameters=[bad, good])
    results = ros.call(SetParameters, f"{NODE}/set_parameters", request).results
    assert [r.successful for r in results] == [False, True]
    assert "model has the type 77" in results[0].reason
    whole = SetParametersAtomically.Request(parameters=[good, bad])
    answer = ros.call(SetParametersAtomically, f"{NODE}/set_parameters_atomically", whole)
    assert "model has the type 77" in answer.result.reason


@pytest.mark.alone
def test_services_go_on_while_one_call_sets_several_models(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    slow = {"wide": 96, "input": {"size": [768, 1024], "layout": "NHWC", "dtype": "uint8"}}
    ros.start_node(model=make_model())
    ros.wait(lambda: ros.state() == "active")
    paths = [str(make_model(name, **slow)) for name in ("a.onnx", "b.onnx")]
    client = ros.node.create_client(SetParameters, f"{NODE}/set_parameters")
    ros.wait(client.service_is_ready)
    values = [ParameterValue(type=4, string_value=path) for path in paths]
    request = SetParameters.Request(parameters=[Parameter(name="model", value=v) for v in values])
    answer = client.call_async(request)
    delays = []
    while not answer.done():
        started = time.monotonic()
        ros.state()
        delays.append(time.monotonic() - started)
    assert [r.successful for r in answer.result().results] == [True, True]
    assert max(delays) < 0.3 * sum(delays), "a load held up a service"
    assert ros.values()["model"] == paths[1]
