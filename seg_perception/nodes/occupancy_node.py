"""occupancy_node: label images in, per-class grids and points for planners out.

The walk of a label image: OccupancyCamera matches messages -> Worker.notify ->
OccupancyNode._process, which reads the match, updates the Mapper and publishes. What cannot be
placed in the world is reported, and nothing is published.
"""

import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header

from seg_perception import runtimes, weights
from seg_perception.errors import GeometryError, SegPerceptionError
from seg_perception.monitor import ERROR_SHOWN, LabelFrameMonitor
from seg_perception.nodes import label_info, params, poses
from seg_perception.nodes.grids import Grids
from seg_perception.nodes.lifecycle_node import Health, PerceptionLifecycleNode
from seg_perception.nodes.occupancy_camera import OccupancyCamera
from seg_perception.nodes.process import run
from seg_perception.nodes.worker import Info
from seg_perception.occupancy.looks import MaskIds
from seg_perception.occupancy.mapper import Mapper, check_columns
from seg_perception.occupancy.parameters import ExtrinsicsParameters, OccupancyParameters
from seg_perception.occupancy.synchronizer import Match
from seg_perception.parameters import specs


class OccupancyNode(PerceptionLifecycleNode[OccupancyCamera, OccupancyParameters]):
    """Map the label images of one camera or several: docs/occupancy_node.md."""

    def __init__(self) -> None:
        super().__init__("occupancy_node", OccupancyParameters)
        self._mapper: Mapper | None = None
        self._poses: poses.Poses | None = None
        self._ids: MaskIds | None = None
        self._grids: Grids | None = None
        self._restarted = float("-inf")  # when time jumped back, steady seconds
        self._mounted: set[str] = set()  # prefixes of the mounts that are declared
        self._declare_mounts()
        self._reactions.append(self._declare_mounts)
        self.bring_up()

    # Lifecycle

    def _configure(self, parameters: OccupancyParameters) -> None:
        p = parameters
        if not p.base_frame or not p.odom_frame or p.base_frame == p.odom_frame:
            raise SegPerceptionError(
                f"base_frame is {p.base_frame!r} and odom_frame {p.odom_frame!r}: name two frames"
            )
        check_columns(low=p.column_low, high=p.column_high, step=p.column_step)
        self._ids = MaskIds(runtimes.read_manifest(weights.resolve(p.model)), p.label_space)
        mounts = self._mounts(p)
        self._poses = poses.open_poses(self, p, mounts)
        if p.pose_source == "auto" and self._poses.name == "parameters":
            self.get_logger().warning(poses.MISSING, once=True)
        if label_info.LabelInfo is None:
            self.get_logger().warning(label_info.MISSING, once=True)
        self._mapper = Mapper(p.settings(), self._poses)
        self._grids = Grids(self)
        self._cameras = [
            OccupancyCamera(self, name, mount.camera_frame, self._worker)
            for name, mount in mounts.items()
        ]
        for camera in self._cameras:
            camera.advertise()

    def _release(self) -> None:
        if self._grids is not None:
            self._grids.withdraw()
        if self._poses is not None:
            self._poses.close()
        self._mapper = self._grids = self._poses = self._ids = None

    def _subscribe(self, camera: OccupancyCamera) -> None:
        if self._ids is not None:
            header = Header(stamp=self.get_clock().now().to_msg())
            camera.outputs.publish_label_info(self._ids.groups, header)
            camera.subscribe(self._settings, self._ids)

    # One label image

    def _process(self, camera: OccupancyCamera, match: Match, info: Info) -> None:
        """Map one label image with its companions, and publish what it shows."""
        mapper, grids, ids, p = self._mapper, self._grids, self._ids, self._settings
        header, monitor = match.mask.header, camera.monitor
        if mapper is None or grids is None or ids is None:
            return
        with self._reporting(monitor, info), self._skipping(GeometryError, monitor.on_unplaced):
            # 1. Only a mask whose ids are known, and that is young enough.
            self._compare_clocks(camera, header)
            if camera.disagreement:
                mapper.grid.clear()  # what came before the names meant something else
                return
            if self._is_stale(monitor, header):
                return
            # 2. The messages become a label frame.
            started = time.perf_counter()
            frame = camera.read(match, ids, rectified=p.rectified)
            read = time.perf_counter()
            # 3. The frame becomes evidence.
            restarts = mapper.restarts
            result = mapper.update(frame)
            if mapper.restarts > restarts:
                self._restarted = time.monotonic()
            mapped = time.perf_counter()
            # 4. What this frame shows goes out, then the map.
            camera.publish(result, header, p, costs=mapper.settings.costs)
            map_frame = p.odom_frame if mapper.in_odom else p.base_frame
            grids.publish(mapper, Header(stamp=header.stamp, frame_id=map_frame))
            published = time.perf_counter()
            stages = {"read": read - started, "map": mapped - read, "publish": published - mapped,
                      "total": published - started}  # fmt: skip
            milliseconds = {name: 1000 * seconds for name, seconds in stages.items()}
            monitor.on_published(time.monotonic(), self._age(header), milliseconds)

    def _is_stale(self, monitor: LabelFrameMonitor, header: Header) -> bool:
        age, limit = self._age(header), self._settings.max_age
        if not 0 < limit < age:
            return False
        monitor.on_stale(
            time.monotonic(),
            f"the mask is {age:.3f} s old, max_age is {limit:g} s: is the segmentation too slow, "
            "or does a bag play without --clock and use_sim_time?",
        )
        return True

    # Parameters

    def _mounts(self, parameters: OccupancyParameters) -> dict[str, ExtrinsicsParameters]:
        """Return the parameters of each camera's place, by its name."""
        return {
            name: params.read(self, ExtrinsicsParameters, prefix=_prefix(name))
            for name in parameters.cameras or ("",)
        }

    def _declare_mounts(self, changes: Sequence[Any] = ()) -> None:
        """Declare the places of the cameras that are named now."""
        names = self._settings.cameras
        if specs(OccupancyParameters)["cameras"].problem("cameras", names):
            return
        for prefix in map(_prefix, names):
            if prefix in self._mounted:
                continue
            self._mounted.add(prefix)
            self._checks.append(
                params.refuse_bad_values(ExtrinsicsParameters, self._is_configured, prefix=prefix)
            )
            self._start_problems |= params.declare(self, ExtrinsicsParameters, prefix=prefix)

    # What the node tells of itself

    def _values(self, camera: OccupancyCamera | None) -> dict[str, str]:
        p, mapper = self._settings, self._mapper
        in_odom = mapper is not None and mapper.in_odom
        now = time.monotonic()
        return {
            "model": p.model,
            "label_space": p.label_space,
            "pose_source": self._poses.name if self._poses is not None else "",
            "base_frame": p.base_frame,
            "grid_frame": p.odom_frame if in_odom else p.base_frame,
            "restarts": str(mapper.restarts if mapper is not None else 0),
            **(camera.values(now) if camera is not None else LabelFrameMonitor().values(now)),
        }

    def _condition(self, camera: OccupancyCamera) -> Health:
        if camera.disagreement:
            return DiagnosticStatus.ERROR, camera.disagreement
        problem = camera.problem()
        if problem:
            return DiagnosticStatus.WARN, problem
        if time.monotonic() - self._restarted < ERROR_SHOWN:
            return DiagnosticStatus.WARN, (
                "time jumped back: the map began again; does a bag loop, or do clocks differ?"
            )
        return DiagnosticStatus.OK, "mapping"


def _prefix(camera: str) -> str:
    return f"{camera}." if camera else ""


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run(OccupancyNode, args=args)


if __name__ == "__main__":
    main()
