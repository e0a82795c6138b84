"""A process whose interpreter hangs ends by itself; one that is busy does not."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from std_msgs.msg import Empty
from support.graph import Graph, stop
from support.paths import SUPPORT

HANGING = str(SUPPORT / "hanging_node.py")
Make = Callable[..., Path]
VARIABLE = "SEG_PERCEPTION_HANG_TIMEOUT"


def hang(ros: Graph, model: Path) -> Any:
    """Start a node and make it hang; return its process."""
    process = ros.start(HANGING, "run", "--ros-args", "-p", f"model:={model}")
    ros.wait_for_status("nobody publishes")
    trigger = ros.node.create_publisher(Empty, "/hang", 10)
    ros.wait(trigger.get_subscription_count)
    ros.spin(0.5)  # this side knows its listener before it is known
    trigger.publish(Empty())
    return process


def test_a_hanging_process_ends_and_tells_where_it_hung(
    ros: Graph, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    process = hang(ros, make_model())
    ros.wait(lambda: process.poll() is not None)
    assert process.returncode == 1
    log = ros.logs(last=100_000)  # stacks of all threads, as many as the machine has cores
    assert "Timeout" in log
    assert "hanging_node.py" in log


def test_the_watchdog_can_be_switched_off(
    ros: Graph, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    process = hang(ros, make_model())
    ros.spin(2)
    ros.diagnostics.clear()
    ros.spin(3)
    assert ros.diagnostics == [], "it hangs"
    assert process.poll() is None
    process.kill()


def test_a_model_may_take_its_time(
    ros: Graph, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    model = make_model()
    process = ros.start(HANGING, "load", "--ros-args", "-p", f"model:={model}")
    ros.wait_for_status("nobody publishes")
    ros.spin(4)
    assert process.poll() is None
    assert stop(process, signal.SIGTERM) == 0


def test_a_timeout_that_is_no_number_is_refused(
    ros: Graph, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "soon")
    process = ros.start_node(model=make_model())
    ros.wait(lambda: process.poll() is not None)
    assert process.returncode == 1
    assert "SEG_PERCEPTION_HANG_TIMEOUT is 'soon'; give seconds" in ros.logs()
