"""What may happen to a node in service: cameras die, signals come at bad moments."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from support import graph
from support.graph import NODE, Graph
from support.paths import SUPPORT

SLOW = {"wide": 96, "input": {"size": [768, 1024], "layout": "NHWC", "dtype": "uint8"}}
Make = Callable[..., Path]


def test_a_killed_camera_is_told_and_a_new_one_is_heard(
    clean_memory: None, ros: Graph, make_model: Make
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    ros.start_node(model=make_model())
    ros.wait_for_status("nobody publishes")
    script = str(SUPPORT / "camera_process.py")
    for _ in range(2):
        masks.clear()
        camera = ros.start(script, "10000", "best_effort", "1")
        ros.wait(lambda: len(masks) >= 10)
        camera.send_signal(signal.SIGKILL)
        camera.wait()
        ros.wait_for_status("no image on /image for 2 s")
    values = ros.values()
    assert values["state"] == "active"
    # Each camera counts its images from one; that is no drop of the other's. How many a busy
    # machine drops is its own affair, but no more than were sent.
    sent = ros.logs(last=100_000).count("publishes\n")
    assert int(values["received"]) + int(values["dropped"]) <= sent
    assert values["last_error"] == ""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_node_that_is_inferring(
    ros: Graph, make_model: Make, halves: np.ndarray, kind: signal.Signals
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask", depth=100)
    camera = ros.camera()
    node = ros.start_node(model=make_model(**SLOW))
    ros.ask(camera, ros.image_message(halves), masks)
    for _ in range(5):
        camera.publish(ros.image_message(halves))
        ros.spin(0.02)
    assert graph.stop(node, kind) == 0
    assert "Traceback" not in ros.logs()


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_node_that_is_loading(
    ros: Graph, make_model: Make, kind: signal.Signals, delay: float
) -> None:
    node = ros.start_node(model=make_model(**SLOW), diagnostics_period=0.05)
    ros.wait(lambda: ros.diagnostics)  # it is up, and its model is on its way
    time.sleep(delay)
    assert graph.stop(node, kind) == 0
    assert "Traceback" not in ros.logs()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_node_that_is_swapping(
    ros: Graph, make_model: Make, kind: signal.Signals
) -> None:
    node = ros.start_node(model=make_model())
    ros.wait(lambda: ros.node.count_subscribers("/image"))
    client = ros.node.create_client(SetParameters, f"{NODE}/set_parameters")
    ros.wait(client.service_is_ready)
    value = Parameter("model", value=str(make_model("slow.onnx", **SLOW)))
    answer = client.call_async(SetParameters.Request(parameters=[value.to_parameter_msg()]))
    ros.spin(0.2)
    assert not answer.done()
    assert graph.stop(node, kind) == 0
    assert "Traceback" not in ros.logs()
