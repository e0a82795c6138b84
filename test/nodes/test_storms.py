"""Thousands of calls that set parameters, while every image is answered."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as Message
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from support.drive import OCCUPANCY, SEGMENTATION, Drive, memory_mb
from support.graph import Graph

from seg_perception.messages import stamp_ns

Make = Callable[..., Path]
Change = tuple[str, object, bool]  # name, value, whether a node may take it
IMAGE = np.full((128, 192, 3), 20, np.uint8)
GROWTH_MB = 5.0  # in the second half


class Storm:
    """A client that sets parameters, one call after the other, as fast as answers come."""

    def __init__(self, ros: Graph, node: str, changes: Iterator[Change]) -> None:
        """Send the first; the others follow while somebody spins."""
        self._client = ros.node.create_client(SetParameters, f"/{node}/set_parameters")
        self._changes, self.node = changes, node
        self.answered = 0
        self.surprises: list[str] = []
        self.values: dict[str, object] = {}  # last taken
        ros.wait(self._client.service_is_ready)
        self.is_over = False
        self._send()

    def _send(self) -> None:
        change = next(self._changes, None)
        if change is None:
            self.is_over = True
            return
        name, value, _ = change
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        answer = self._client.call_async(request)
        answer.add_done_callback(lambda done: self._on_answer(done.result().results[0], *change))

    def _on_answer(self, result: Any, name: str, value: object, is_good: bool) -> None:
        self.answered += 1
        if result.successful != is_good:
            self.surprises.append(f"{name} = {value!r}: {result.successful}, {result.reason}")
        if is_good:
            self.values[name] = value
        self._send()


def numbers(
    count: int, name: str, low: float, high: float, bad: tuple[object, ...]
) -> Iterator[Change]:
    """Yield values between `low` and `high`, and bad ones among them."""
    random = np.random.default_rng(0)
    for i in range(count):
        if i % 3 == 1:
            yield name, bad[i // 3 % len(bad)], False
        else:
            value = random.uniform(low, high)
            yield name, int(value) if isinstance(low, int) else float(value), True


def models(good: list[Path], bad: list[Path], is_over: Callable[[], bool]) -> Iterator[Change]:
    """Yield models until the others are done."""
    kinds = itertools.cycle([(p, True) for p in good] + [(p, False) for p in bad])
    for path, is_good in kinds:
        if is_over():
            return
        yield "model", str(path), is_good


def values_of(ros: Graph, storm: Storm) -> dict[str, object]:
    """Return what the node has of the values that a client set."""
    request = GetParameters.Request(names=list(storm.values))
    answer = ros.call(GetParameters, f"/{storm.node}/get_parameters", request)
    pairs = zip(storm.values, answer.values, strict=True)
    return {n: Parameter.from_parameter_msg(Message(name=n, value=v)).value for n, v in pairs}


@pytest.mark.parametrize("calls", [200, pytest.param(2000, marks=pytest.mark.heavy)])
def test_every_image_is_mapped_while_clients_set_parameters(
    ros: Graph, make_model: Make, tmp_path: Path, calls: int
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    drive = Drive(ros, make_model())
    drive.start()
    drive.until_mapped(IMAGE)
    storms = [
        Storm(ros, SEGMENTATION, numbers(calls, "max_age", 20.0, 1e3, (-1.0, "old", float("nan")))),
        Storm(ros, SEGMENTATION, numbers(calls, "overlay_alpha", 0.0, 1.0, (1.5, True, [1.0]))),
        Storm(ros, SEGMENTATION, numbers(calls, "grid_rows", 1, 9, (0, 10**9, 2.5))),
        Storm(ros, OCCUPANCY, numbers(calls, "max_age", 20.0, 1e3, (-1.0, "old", float("nan")))),
        Storm(ros, OCCUPANCY, itertools.repeat(("resolution", 0.2, False), calls)),
    ]

    def is_over() -> bool:
        return all(storm.is_over for storm in storms)

    good = [make_model("a.onnx"), make_model("b.onnx")]
    swaps = Storm(ros, SEGMENTATION, models(good, [tmp_path / "bad.onnx"], is_over))
    drive.forget()
    memory: list[dict[str, float]] = []
    while not swaps.is_over:
        assert drive.is_mapped(drive.send(IMAGE)), ros.logs()
        assert [stamp_ns(m.header) for m in drive.masks] == drive.sent[-1:]
        drive.forget()
        memory.append({name: memory_mb(process) for name, process in drive.nodes.items()})
    assert [s for storm in (*storms, swaps) for s in storm.surprises] == []
    assert sum(storm.answered for storm in storms) == len(storms) * calls
    assert swaps.answered >= 6
    for storm in (*storms, swaps):
        assert values_of(ros, storm) == storm.values
    for node in (SEGMENTATION, OCCUPANCY):
        assert ros.values(node)["failed"] == "0"
        assert memory[-1][node] - memory[len(memory) // 2][node] < GROWTH_MB
