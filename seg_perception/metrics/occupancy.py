"""What a planner would get wrong: the ground as the prediction maps it and as the truth does."""

from collections.abc import Collection, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import UsageError
from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.metrics.description import Compared, Description, Table, percent, share
from seg_perception.metrics.metric import Context, LabelledFrame, Metric, MountedCamera, State
from seg_perception.occupancy.camera import Camera
from seg_perception.occupancy.grid_kernels import SKY
from seg_perception.occupancy.mapper import LabelFrame, Mapper, StillCamera
from seg_perception.occupancy.settings import LETHAL, Settings

Cells = NDArray[np.int64]

NOT_KNOWN = SKY  # sky is never on the ground: its place counts the cells that are unknown


class OccupancyError:
    """Cells by the group that decides them (see EvidenceGrid.deciding), in truth and prediction.

    Each image gives two fresh maps of the ground around the robot, through one camera and
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
    needs_previous = False
    needs_camera = True

    def __init__(
        self,
        groups: NDArray[np.uint8],
        void_ids: Collection[int],
        mounted: MountedCamera,
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

    @classmethod
    def create(cls, context: Context) -> "OccupancyError":
        """Return one for the groups of a network; UsageError without a camera."""
        if context.camera is None:
            raise UsageError(
                "occupancy needs CameraInfo and the camera's place on the robot; give --bag with "
                "camera_info and tf in it, or --camera-z, or leave this measure out"
            )
        groups = context.manifest.label_space("groups").lut
        return cls(groups, context.void_ids, context.camera)

    def observe_previous(self, view: LabelledFrame) -> None:
        """Do nothing: images are counted each by itself."""

    def add(self, view: LabelledFrame) -> None:
        """Count an image with its truth; GeometryError where the camera cannot have taken it."""
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
        """Add the counts of other images."""
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

    @staticmethod
    def describe(result: Mapping[str, Any]) -> Description:
        """Return a table of the shares, and the three that matter most in one line."""
        lines = (
            ("of them, of another group", "error"),
            ("of what stops a robot, missed", "missed"),
            ("of what would stop it, not there", "phantom"),
            ("of what the truth sees, unknown", "unseen"),
        )
        table = [
            ("cells that truth and labels both see", str(result["cells"])),
            *((title, percent(result[key])) for title, key in lines),
            *((f"IoU {name}", share(iou)) for name, iou in result["per_group_iou"].items()),
        ]
        main = " / ".join(share(result[key]) for key in ("error", "missed", "phantom"))
        return Description(
            rows=[("map cells wrong / missed / phantom", main)],
            compared=Compared("map cells that differ", result["error"]),
            table=Table("The map that follows from the labels", table),
        )

    def _lone(self, groups: Cells, others: Cells) -> int:
        """Return how many lethal cells the other map knows, without a lethal one around."""
        near = cv2.dilate(self._lethal[others].view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return int((self._lethal[groups] & (others != NOT_KNOWN) & ~near).sum())

    def _map(self, groups: NDArray[np.uint8], camera: Camera) -> Cells:
        """Return the group that decides each cell, NOT_KNOWN where none does."""
        self._mapper.grid.clear()
        self._mapper.update(LabelFrame(groups, None, camera, "", "", 0))
        deciding = self._mapper.grid.deciding().astype(np.int64)
        deciding[deciding < 0] = NOT_KNOWN
        return deciding


METRIC: type[Metric] = OccupancyError


def _share(part: Any, whole: Any) -> float | None:
    return int(part) / int(whole) if whole else None
