"""A live node is sent what no camera should send; the long version is `make soak`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graph import NODE, Graph
from sensor_msgs.msg import Image
from soak import TRANSPORTS, fuzz_node, soak_node


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_malformed_messages_are_counted_and_good_pictures_answered(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray, transport: str
) -> None:
    result = fuzz_node(ros, transport, 150, model=str(make_model()), picture=halves)
    assert result["failures"] == []
    assert result["processed"] >= 150
    assert result["counts"]["unreadable"] > 50


def test_the_soak_answers_every_frame(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    model = str(make_model())
    result = soak_node(ros, "compressed", 150, model=model, pictures=[halves, halves[:, ::-1]])
    assert result["failures"] == []
    assert result["sent"] == result["answered"] == 150


def test_a_picture_of_an_impossible_time_is_answered_with_its_stamp(
    ros: Graph, make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    masks = ros.collect(Image, f"{NODE}/label_mask")
    camera = ros.camera()
    ros.start_node(model=make_model())
    for seconds in (-(2**31), -1, 2**31 - 1):
        message = ros.picture(halves)
        message.header.stamp.sec, message.header.stamp.nanosec = seconds, 2**32 - 1
        assert ros.ask(camera, message, masks).header == message.header
    assert ros.values()["failed"] == "0"
