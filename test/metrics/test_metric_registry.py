"""Metrics by name; counts of parts add up to those of the whole, bit for bit."""

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest
from support import optics

from seg_perception.errors import UsageError
from seg_perception.manifest import Manifest
from seg_perception.metrics.metric import Context, LabelledFrame, Metric, MountedCamera
from seg_perception.metrics.registry import METRICS, create
from seg_perception.occupancy.camera import Pose

MANIFEST = Manifest.from_dict(
    {
        "classes": ["road", "walker", "wall"],
        "groups": {"road": "drivable", "walker": "person", "wall": "obstacle"},
        "input": {"size": [48, 64]},
        "output": {},
    }
)
VOID = (9, 255)
SIZE = (48, 64)


def mounted() -> MountedCamera:
    k = np.array([50.0, 0, 31.5, 0, 50.0, 23.5, 0, 0, 1])
    info = optics.info(width=SIZE[1], height=SIZE[0], k=k)
    return MountedCamera(info, Pose.from_rpy(0.0, 0.0, 1.0, 0.0, 0.5, 0.0))


def one(name: str) -> Metric:
    (metric,) = create([name], Context(MANIFEST, VOID, mounted()))
    return metric


def recording(count: int = 12) -> list[LabelledFrame]:
    """Return images of a moving scene with noisy labels."""
    random = np.random.default_rng(0)

    def field(sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(random.random((SIZE[0], SIZE[1] + count)), (0, 0), sigma)

    scene = cv2.normalize(field(2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    regions = np.argmax([field(6) for _ in range(4)], axis=0)
    ids = np.array([0, 1, 2, 9], np.uint8)[regions]
    views = []
    for i in range(count):
        here = np.s_[:, i : i + SIZE[1]]
        truth = ids[here].copy()
        wrong = random.random(SIZE) < 0.1
        labels = np.where(wrong | (truth == 9), random.integers(0, 3, SIZE), truth)
        image = cv2.cvtColor(scene[here], cv2.COLOR_GRAY2BGR)
        confidence = random.integers(0, 256, SIZE, np.uint8)
        views.append(
            LabelledFrame(i * 66_666_667, image, labels.astype(np.uint8), truth, confidence)
        )
    return views


def count(
    metric: Metric, views: Sequence[LabelledFrame], before: LabelledFrame | None = None
) -> Metric:
    if before is not None and metric.needs_previous:
        metric.observe_previous(before)
    for view in views:
        metric.add(view)
    return metric


@pytest.mark.parametrize("name", METRICS)
def test_parts_add_up_to_the_whole(name: str) -> None:
    views = recording()
    whole = count(one(name), views)
    result = whole.result()
    assert result is not None
    random = np.random.default_rng(1)
    for parts in (2, 3, 5):
        cuts = [0, *sorted(random.choice(np.arange(1, len(views)), parts - 1, False)), len(views)]
        merged = one(name)
        for start, end in pairwise(cuts):
            before = views[start - 1] if start else None
            merged.merge(count(one(name), views[start:end], before).state())
        assert merged.result() == result
        np.testing.assert_equal(merged.state(), whole.state())


@pytest.mark.parametrize("name", METRICS)
def test_an_interrupted_run_goes_on_from_its_state(name: str) -> None:
    views = recording()
    first = count(one(name), views[:5]).state()
    resumed = one(name)
    resumed.merge(first)
    assert count(resumed, views[5:], views[4]).result() == count(one(name), views).result()


@pytest.mark.parametrize("name", METRICS)
def test_a_state_is_plain_and_does_not_change_afterwards(name: str) -> None:
    metric = count(one(name), recording(3))
    state = metric.state()
    kept = {key: np.array(value) for key, value in state.items()}
    count(metric, recording(3))
    for key, value in state.items():
        assert isinstance(value, (int, np.ndarray))
        np.testing.assert_array_equal(value, kept[key])
        assert kept[key].dtype == np.int64


@pytest.mark.parametrize("name", METRICS)
def test_results_can_be_written_as_json(name: str) -> None:
    metric = one(name)
    assert metric.name == name
    assert metric.result() is None
    result = count(metric, recording(4)).result()
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_each_metric_is_made_once_in_the_order_of_its_name() -> None:
    made = create(["flicker", "boundary", "flicker"], Context(MANIFEST, VOID))
    assert [m.name for m in made] == ["flicker", "boundary"]
    needs = {
        m.name: (m.needs_truth, m.needs_confidence, m.needs_previous, m.needs_camera)
        for m in create(METRICS, Context(MANIFEST, VOID, mounted()))
    }
    assert needs == {
        "boundary": (True, False, False, False),
        "calibration": (True, True, False, False),
        "flicker": (False, False, True, False),
        "occupancy": (True, False, False, True),
    }


def test_unknown_metrics_are_refused_with_the_choices() -> None:
    choices = "boundary, calibration, flicker, occupancy"
    with pytest.raises(UsageError, match=f"'speed' is no metric; choose from {choices}"):
        create(["boundary", "speed"], Context(MANIFEST, VOID))


def test_occupancy_without_a_camera_is_refused() -> None:
    with pytest.raises(UsageError, match="occupancy needs CameraInfo and .* give --bag"):
        create(["occupancy"], Context(MANIFEST, VOID))


def test_their_names_cost_nothing_to_import() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'cv2', 'numba'): sys.modules[name] = None\n"
        "import seg_perception.metrics.registry"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
