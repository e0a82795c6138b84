"""The errors of a map are those counted by hand from two maps."""

from typing import Any

import numpy as np
import pytest
from support import optics
from support.world import DRIVABLE, OBSTACLE, PERSON, Box, Pose2D, Poses, World, mounted, pinhole

from seg_perception.errors import GeometryError
from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.metrics.metric import LabelledFrame, MountedCamera
from seg_perception.metrics.occupancy import OccupancyError
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.mapper import LabelFrame, Mapper
from seg_perception.occupancy.settings import Settings

VOID = 99
CAMERA, MOUNT = pinhole(320, 240, 250.0), mounted()
GROUPS_ALONE = np.full(256, UNKNOWN, np.uint8)
GROUPS_ALONE[: len(GROUPS)] = np.arange(len(GROUPS))
STANDING = (3, 4, 5)


def info() -> Any:
    k = np.array([CAMERA.fx, 0, CAMERA.cx, 0, CAMERA.fy, CAMERA.cy, 0, 0, 1])
    return optics.info(width=CAMERA.width, height=CAMERA.height, k=k)


def measure() -> OccupancyError:
    body = Pose.from_rpy(0.0, 0.0, 1.2, 0.0, 0.3, 0.0)
    return OccupancyError(GROUPS_ALONE, (VOID, UNKNOWN), MountedCamera(info(), body))


def seen(*boxes: Box) -> np.ndarray:
    return World(boxes).image(CAMERA, MOUNT, Pose2D(0, 0, 0))


def view(truth: np.ndarray, labels: np.ndarray) -> LabelledFrame:
    return LabelledFrame(0, np.zeros((*truth.shape, 3), np.uint8), labels, truth)


def errors(truth: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    counted = measure()
    counted.add(view(truth, labels))
    result = counted.result()
    assert result is not None
    return result


def deciding(groups: np.ndarray) -> np.ndarray:
    """Return the group of each cell of a map of its own, -1 where it is unknown."""
    mapper = Mapper(Settings(), Poses(MOUNT))
    mapper.update(LabelFrame(groups, None, CAMERA, "", "", 0))
    return mapper.grid.deciding()


def has_near(cells: np.ndarray, y: int, x: int) -> bool:
    return bool(cells[y - 1 : y + 2, x - 1 : x + 2].any())


def test_equal_labels_have_no_errors() -> None:
    truth = seen(Box(3.0, -0.6, 3.8, 0.6, 1.0), Box(4.0, 1.0, 4.5, 1.5, 1.7, PERSON))
    result = errors(truth, truth)
    assert [result[k] for k in ("error", "missed", "phantom", "unseen")] == [0, 0, 0, 0]
    assert result["cells"] == (deciding(truth) >= 0).sum() > 500
    shares = result["per_group_iou"]
    assert {g for g, iou in shares.items() if iou == 1} >= {"drivable", "obstacle", "person"}
    assert shares["vehicle"] is None


def test_a_missing_box_is_missed_where_the_two_maps_say() -> None:
    truth, labels = seen(Box(3.0, -0.6, 3.8, 0.6, 1.0)), seen()
    result = errors(truth, labels)
    wanted, given = deciding(truth), deciding(labels)
    lethal = np.isin(wanted, STANDING)
    both = (wanted >= 0) & (given >= 0)
    assert lethal.sum() > 5
    assert not np.isin(given, STANDING).any()
    assert result["missed"] == (lethal & (given >= 0)).sum() / lethal.sum() > 0.9
    assert result["phantom"] is None
    assert result["cells"] == both.sum()
    assert result["error"] == ((wanted != given) & both).sum() / both.sum()
    assert result["per_group_iou"]["obstacle"] == 0
    road = (wanted == DRIVABLE) & (given == DRIVABLE)
    either = both & ((wanted == DRIVABLE) | (given == DRIVABLE))
    assert result["per_group_iou"]["drivable"] == road.sum() / either.sum()


def test_a_box_that_is_not_there_is_a_phantom_and_hides_what_is_behind() -> None:
    truth, labels = seen(), seen(Box(3.0, -0.6, 3.8, 0.6, 1.0))
    result = errors(truth, labels)
    wanted, given = deciding(truth), deciding(labels)
    lethal = np.isin(given, STANDING)
    assert result["phantom"] == (lethal & (wanted >= 0)).sum() / lethal.sum() > 0.9
    assert result["missed"] is None
    assert result["unseen"] == ((wanted >= 0) & (given < 0)).sum() / (wanted >= 0).sum() > 0.02


@pytest.mark.parametrize("shift", [0.1, 0.5])
def test_a_lethal_cell_with_one_around_it_is_neither_missed_nor_phantom(shift: float) -> None:
    truth, labels = (seen(Box(x, -0.6, x + 0.8, 0.6, 1.0)) for x in (3.05, 3.05 - shift))
    result = errors(truth, labels)
    wanted, given = deciding(truth), deciding(labels)
    lethal, said = np.isin(wanted, STANDING), np.isin(given, STANDING)
    missed = [c for c in np.argwhere(lethal & (given >= 0)) if not has_near(said, *c)]
    phantom = [c for c in np.argwhere(said & (wanted >= 0)) if not has_near(lethal, *c)]
    assert result["missed"] == len(missed) / lethal.sum()
    assert result["phantom"] == len(phantom) / said.sum()
    assert (result["phantom"] > 0.5) == (shift > 0.2)
    assert result["error"] > 0


def test_a_person_for_an_obstacle_is_an_error_but_lethal_all_the_same() -> None:
    truth = seen(Box(3.0, -0.6, 3.8, 0.6, 1.0))
    labels = np.where(truth == OBSTACLE, PERSON, truth).astype(np.uint8)
    result = errors(truth, labels)
    assert result["error"] > 0
    assert (result["missed"], result["phantom"]) == (0, 0)


def test_void_is_unknown_in_both_maps() -> None:
    truth, labels = seen(), seen()
    truth[200:] = VOID  # the robot's own bonnet, say
    labels[200:] = OBSTACLE  # would hide all that is behind it
    result = errors(truth, labels)
    assert (result["error"], result["unseen"], result["phantom"]) == (0, 0, None)
    assert 0 < result["cells"] < (deciding(seen()) >= 0).sum()


def test_nothing_known_of_the_ground_has_no_result() -> None:
    counted = measure()
    assert counted.result() is None
    void = np.full((240, 320), VOID, np.uint8)
    counted.add(view(void, seen()))
    assert counted.result() is None


def test_image_encodings_of_another_size_than_camera_infos_are_refused() -> None:
    small = np.zeros((120, 160), np.uint8)
    with pytest.raises(GeometryError, match="CameraInfo is of an image of 320x240, the mask is"):
        measure().add(view(small, small))
