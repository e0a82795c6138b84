"""Models with a closed-form answer, images with known labels, and tests that run alone."""

import fcntl
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.brightest import card, write_model

import seg_perception  # noqa: F401  before any test imports onnxruntime: it switches telemetry off

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and torch's threads spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests marked `alone` last: they wait for all others that run."""
    items.sort(key=is_alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no other worker of pytest-xdist run a test while one marked `alone` runs.

    All share a lock on this file, and `alone` holds it alone. The wait is not part of the timeout.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_alone(item) else fcntl.LOCK_SH)
        return (yield)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of brightest-channel models; keyword arguments change the manifest."""

    def make(
        name: str = "model.onnx", *, manifest: bool = True, wide: int = 0, **changes: Any
    ) -> Path:
        content = card(**changes)
        size = tuple(content["input"]["size"])
        return write_model(tmp_path / name, content if manifest else None, size=size, wide=wide)

    return make


@pytest.fixture
def halves() -> np.ndarray:
    """Return an RGB image (32,48,3): its left half red, its right half blue."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24, 0] = 250
    image[:, 24:, 2] = 250
    return image


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[Any]:
    """Return a ROS graph of its own for one test."""
    from support.graph import Graph

    with Graph(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """Return the folder of all reference goldens, named by SEG_PERCEPTION_REFERENCE."""
    folder = os.environ.get("SEG_PERCEPTION_REFERENCE")
    if not folder:
        pytest.skip("SEG_PERCEPTION_REFERENCE does not name the folder with all goldens")
    return Path(folder)


@pytest.fixture
def bag(tmp_path: Path, halves: np.ndarray) -> Path:
    """Return a bag of 8 images at 10 Hz: red left, blue right."""
    from support.png_bag import write_png_bag

    return write_png_bag(tmp_path / "images.mcap", halves[..., ::-1])
