"""What a planner would get wrong: the ground as the prediction maps it and as the truth does."""

from collections.abc import Collection
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.evaluation.birdseye import StillCamera
from seg_perception.evaluation.measure import State, View
from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.occupancy.camera import Camera, Pose
from seg_perception.occupancy.mapper import LETHAL, Look, Mapper, Settings
from seg_perception.occupancy.tally import SKY

Cells = NDArray[np.int64]

NOT_KNOWN = SKY  # sky is never on the ground: its place counts the cells that are unknown


class Mounted(NamedTuple):
    """A camera on its robot: its CameraInfo, and `mount`, which takes its body's axes into base.

    `rectified` says that the pictures are rectified already.
    """

    info: Any
    mount: Pose
    rectified: bool = False


class OccupancyError:
    """Cells by the group that decides them (see EvidenceGrid.deciding), in truth and prediction.

    Each picture gives two fresh maps of the ground around the robot, through one camera and
    without confidence; nothing is kept for the next. Void pixels of the truth are unknown in both.
    Of the cells that both maps know, `error` is the share whose group differs, and IoU is counted
    there alone. `missed`: of the cells that are lethal in the truth, the share that the prediction
    knows as something harmless, with nothing lethal in the eight cells around. `phantom`: of the
    cells that are lethal in the prediction, the share of which the truth says that. `unseen`: of
    the cells that the truth knows, the share that the prediction does not. Lethal are the groups of
    cost 100. The neighbours count because things are seen as lines of single cells, and planners
    inflate them by more than a cell.
    """

    name = "occupancy"
    needs_truth = True
    needs_confidence = False
    looks_back = False

    def __init__(
        self,
        groups: NDArray[np.uint8],
        void_ids: Collection[int],
        mounted: Mounted,
        settings: Settings | None = None,
    ) -> None:
        """Take the group of each id, uint8 (256,) with 255 for those that have none."""
        self._groups, self._truth_groups = groups, groups.copy()
        self._truth_groups[list(void_ids)] = UNKNOWN
        self._mounted = mounted
        self._mapper = Mapper(settings or Settings(), StillCamera(mounted.mount))
        costs = self._mapper.settings.costs
        self._lethal = np.array(
            [g != NOT_KNOWN and costs[n] >= LETHAL for g, n in enumerate(GROUPS)]
        )
        self._cells = np.zeros((SKY + 1, SKY + 1), np.int64)  # truth, prediction
        self._wrong = np.zeros(2, np.int64)  # missed, phantom

    def look(self, view: View) -> None:
        """Take no note: pictures are counted each by itself."""

    def add(self, view: View) -> None:
        """Count a picture with its truth; GeometryError where the camera cannot have taken it."""
        assert view.truth is not None
        camera = Camera.from_info(
            self._mounted.info, view.labels.shape, rectified=self._mounted.rectified
        )
        truth, predicted = self._truth_groups[view.truth], self._groups[view.labels]
        predicted[truth == UNKNOWN] = UNKNOWN
        wanted, given = self._map(truth, camera), self._map(predicted, camera)
        pairs = np.bincount((wanted * (SKY + 1) + given).ravel(), minlength=self._cells.size)
        self._cells += pairs.reshape(self._cells.shape)
        self._wrong += [self._lone(wanted, given), self._lone(given, wanted)]

    def state(self) -> State:
        """Return the counts: `cells` int64 (8, 8), by group in truth and prediction, the last none.

        `wrong` int64 (2,): missed and phantom cells.
        """
        return {"cells": self._cells.copy(), "wrong": self._wrong.copy()}

    def merge(self, later: State) -> None:
        """Add the counts of other pictures."""
        self._cells += later["cells"]
        self._wrong += later["wrong"]

    def result(self) -> dict[str, Any] | None:
        """Return the shares; None stands for a share of nothing."""
        known = self._cells[:SKY, :SKY]
        in_truth, in_prediction = self._cells[:SKY].sum(1), self._cells[:, :SKY].sum(0)
        if not in_truth.any():
            return None
        lethal, hits = self._lethal[:SKY], np.diag(known)
        union = known.sum(0) + known.sum(1) - hits
        missed, phantom = self._wrong
        return {
            "cells": int(known.sum()),
            "error": _share(known.sum() - hits.sum(), known.sum()),
            "missed": _share(missed, in_truth[lethal].sum()),
            "phantom": _share(phantom, in_prediction[lethal].sum()),
            "unseen": _share(self._cells[:SKY, NOT_KNOWN].sum(), in_truth.sum()),
            "per_group_iou": {g: _share(hits[i], union[i]) for i, g in enumerate(GROUPS[:SKY])},
        }

    def _lone(self, groups: Cells, others: Cells) -> int:
        """Return how many lethal cells the other map knows, without a lethal one around."""
        near = cv2.dilate(self._lethal[others].view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return int((self._lethal[groups] & (others != NOT_KNOWN) & ~near).sum())

    def _map(self, groups: NDArray[np.uint8], camera: Camera) -> Cells:
        """Return the group that decides each cell, NOT_KNOWN where none does."""
        self._mapper.grid.clear()
        self._mapper.update(Look(groups, None, camera, "", "", 0))
        deciding = self._mapper.grid.deciding().astype(np.int64)
        deciding[deciding < 0] = NOT_KNOWN
        return deciding


def _share(part: Any, whole: Any) -> float | None:
    return int(part) / int(whole) if whole else None
