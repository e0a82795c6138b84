"""occupancy_node: label images in, per-class grids and points for planners out.

The walk of a look: matched messages -> OccupancyCamera.read -> Mapper -> OccupancyCamera.publish
and Grids.publish. What cannot be placed in the world is told, and nothing is published.
"""

import time
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from seg_perception import runtimes, weights
from seg_perception.errors import GeometryError, ImageError, SegPerceptionError
from seg_perception.messages import stamp_ns
from seg_perception.monitor import LookMonitor
from seg_perception.nodes import label_info, params, poses
from seg_perception.nodes.camera import ERROR_SHOWN
from seg_perception.nodes.diagnostics import diagnostics, status
from seg_perception.nodes.grids import Grids
from seg_perception.nodes.occupancy_camera import OccupancyCamera
from seg_perception.nodes.worker import Worker
from seg_perception.occupancy.looks import MaskIds
from seg_perception.occupancy.mapper import Mapper, raised
from seg_perception.occupancy.pairing import Match
from seg_perception.parameters import MountParameters, OccupancyParameters, specs

GRAPH_PERIOD = 0.5  # seconds between looks at the publishers' offers
WARN_PERIOD = 5.0  # seconds between warnings about bad looks


class OccupancyNode(LifecycleNode):
    """Map the label images of one camera or several; interface in README."""

    def __init__(self) -> None:
        self._group = ReentrantCallbackGroup()
        super().__init__("occupancy_node")
        self._state = "unconfigured"
        self._config_error = ""
        self._mapper: Mapper | None = None
        self._poses: poses.Poses | None = None
        self._ids: MaskIds | None = None
        self._grids: Grids | None = None
        self._cameras: list[OccupancyCamera] = []
        self._restarted = float("-inf")  # when time jumped back, steady seconds
        self._checks = [params.refuse_bad_values(OccupancyParameters, self._is_configured)]
        self._mounted: set[str] = set()  # prefixes of the mounts that are declared
        self._start_complaints = params.declare(self, OccupancyParameters)
        self._settings = params.read(self, OccupancyParameters)
        self._declare_mounts()
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._worker = Worker(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = self._settings.diagnostics_period
        self.create_timer(period, self._publish_diagnostics, clock=steady)
        self.create_timer(GRAPH_PERIOD, self._follow_publishers, clock=steady)
        if self._settings.autostart:
            # Beside the executor, so that diagnostics speak meanwhile.
            self._worker.submit(self._start)

    @property
    def default_callback_group(self) -> ReentrantCallbackGroup:
        """Group of everything that names no other."""
        return self._group

    def end(self) -> None:
        """Finish the look under way."""
        self._worker.end()

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the model's manifest, lay out the grid, find the source of poses."""
        self._state = "configuring"
        try:
            if self._start_complaints:
                raise SegPerceptionError("; ".join(self._start_complaints.values()))
            self._configure(params.read(self, OccupancyParameters))
        except Exception as error:  # rclpy would swallow any other without a word
            known = isinstance(error, SegPerceptionError)
            self._config_error = str(error) if known else repr(error)
            self._withdraw()
            self.get_logger().fatal(f"cannot configure: {self._config_error}")
            return TransitionCallbackReturn.FAILURE
        self._config_error = ""
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tell the groups, then listen to the masks."""
        result = super().on_activate(state)
        header = Header(stamp=self.get_clock().now().to_msg())
        self._worker.open(self._cameras)
        for camera in self._cameras:
            if self._ids is not None:
                camera.publish_label_info(self._ids.groups, header)
                camera.listen(self._settings, self._ids, self._worker)
        self._state = "active"
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the map stays, and ages with the pictures that come."""
        self._stop_listening()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the map and the publishers back."""
        self._stop_listening()
        self._withdraw()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End in any state."""
        self._stop_listening()
        self._state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def _start(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _configure(self, parameters: OccupancyParameters) -> None:
        p = parameters
        if not p.base_frame or not p.odom_frame or p.base_frame == p.odom_frame:
            raise SegPerceptionError(
                f"base_frame is {p.base_frame!r} and odom_frame {p.odom_frame!r}: name two frames"
            )
        # Refuses heights that make no sense before a look needs them.
        raised(
            np.empty((0, 2), np.float32), low=p.column_low, high=p.column_high, step=p.column_step
        )
        self._ids = MaskIds(runtimes.load(weights.resolve(p.model)).manifest, p.label_space)
        mounts = self._mounts(p)
        self._poses = poses.open_poses(self, p, mounts)
        if p.pose_source == "auto" and self._poses.name == "parameters":
            self.get_logger().warning(poses.MISSING, once=True)
        if label_info.LabelInfo is None:
            self.get_logger().warning(label_info.MISSING, once=True)
        self._mapper = Mapper(p.settings(), self._poses)
        self._grids = Grids(self)
        self._cameras = [
            OccupancyCamera(self, name, mount.camera_frame, self._process)
            for name, mount in mounts.items()
        ]
        for camera in self._cameras:
            camera.advertise()

    def _withdraw(self) -> None:
        for camera in self._cameras:
            camera.withdraw()
        if self._grids is not None:
            self._grids.withdraw()
        if self._poses is not None:
            self._poses.close()
        self._cameras = []
        self._mapper = self._grids = self._poses = self._ids = None
        self._state = "unconfigured"

    def _stop_listening(self) -> None:
        self._worker.close()
        for camera in self._cameras:
            camera.deafen()

    # One look

    def _process(self, camera: OccupancyCamera, match: Match, info: dict[str, Any]) -> None:
        """Map one match; whatever is wrong with it, the node lives and says so."""
        monitor = camera.monitor
        publisher = str(info.get("publisher_gid"))
        monitor.on_received(time.monotonic(), publisher, info.get("publication_sequence_number"))
        try:
            self._map(camera, match)
        except (ImageError, GeometryError) as error:
            is_image = isinstance(error, ImageError)
            (monitor.on_unreadable if is_image else monitor.on_unplaced)(
                time.monotonic(), str(error)
            )
            self.get_logger().warning(f"skipped: {error}", throttle_duration_sec=WARN_PERIOD)
        except Exception as error:
            if self.context.ok():  # publishing fails once the node is told to stop
                monitor.on_failed(time.monotonic(), repr(error))
                self.get_logger().error(f"failed: {error!r}", throttle_duration_sec=WARN_PERIOD)

    def _map(self, camera: OccupancyCamera, match: Match) -> None:
        mapper, grids, ids, p = self._mapper, self._grids, self._ids, self._settings
        if mapper is None or grids is None or ids is None:
            return
        if camera.disagreement:
            mapper.grid.clear()  # what came before the names meant something else
            return
        header, restarts = match.mask.header, mapper.restarts
        if self._is_stale(camera.monitor, header):
            return
        started = time.perf_counter()
        look = camera.read(match, ids, rectified=p.rectified)
        read = time.perf_counter()
        result = mapper.update(look)
        mapped = time.perf_counter()
        camera.publish(result, header, p)
        frame = p.odom_frame if mapper.in_odom else p.base_frame
        grids.publish(mapper, Header(stamp=header.stamp, frame_id=frame))
        published = time.perf_counter()
        if mapper.restarts > restarts:
            self._restarted = time.monotonic()
        stages = {"read": read - started, "map": mapped - read, "publish": published - mapped,
                  "total": published - started}  # fmt: skip
        camera.monitor.on_published(
            time.monotonic(), self._age(header), {k: 1000 * v for k, v in stages.items()}
        )

    def _is_stale(self, monitor: LookMonitor, header: Header) -> bool:
        age, limit = self._age(header), self._settings.max_age
        if not 0 < limit < age:
            return False
        monitor.on_stale(
            time.monotonic(),
            f"the mask is {age:.3f} s old, max_age is {limit:g} s: is the segmentation too slow, "
            "or does a bag play without --clock and use_sim_time?",
        )
        return True

    def _age(self, header: Header) -> float:
        """Seconds from the picture's stamp to now, on the node's clock."""
        return (int(self.get_clock().now().nanoseconds) - stamp_ns(header)) / 1e9

    # Parameters

    def _is_configured(self) -> bool:
        return self._state != "unconfigured"

    def _mounts(self, parameters: OccupancyParameters) -> dict[str, MountParameters]:
        """Return the parameters of each camera's place, by its name."""
        return {
            name: params.read(self, MountParameters, prefix=_prefix(name))
            for name in parameters.cameras or ("",)
        }

    def _declare_mounts(self) -> None:
        """Declare the places of the cameras that are named."""
        names = self._settings.cameras
        if specs(OccupancyParameters)["cameras"].complaint("cameras", names):
            return
        for prefix in map(_prefix, names):
            if prefix in self._mounted:
                continue
            self._mounted.add(prefix)
            self._checks.append(
                params.refuse_bad_values(MountParameters, self._is_configured, prefix=prefix)
            )
            self._start_complaints |= params.declare(self, MountParameters, prefix=prefix)

    def _check_parameters(self, changes: list[Any]) -> SetParametersResult:
        results = [check(changes) for check in self._checks]
        return next((r for r in results if not r.successful), results[0])

    def _on_parameters_set(self, changes: list[Any]) -> None:
        for change in changes:
            self._start_complaints.pop(change.name, None)
        self._settings = params.read(self, OccupancyParameters)
        self._declare_mounts()

    # What the node tells of itself

    def _follow_publishers(self) -> None:
        for camera in self._cameras:
            camera.refresh()

    def _publish_diagnostics(self) -> None:
        """Publish one status a camera; one for the node while it has none."""
        states = [self._status(camera) for camera in self._cameras] or [self._status(None)]
        self._diagnostics.publish(diagnostics(self.get_clock().now().to_msg(), states))

    def _status(self, camera: OccupancyCamera | None) -> DiagnosticStatus:
        level, message = self._health(camera)
        p, mapper = self._settings, self._mapper
        in_odom = mapper is not None and mapper.in_odom
        values = {
            "state": self._state,
            "model": p.model,
            "label_space": p.label_space,
            "pose_source": self._poses.name if self._poses is not None else "",
            "base_frame": p.base_frame,
            "grid_frame": p.odom_frame if in_odom else p.base_frame,
            "restarts": str(mapper.restarts if mapper is not None else 0),
        }
        now = time.monotonic()
        values |= camera.values(now) if camera is not None else LookMonitor().values(now)
        if self._config_error:
            values["last_error"] = self._config_error
        topic = camera.name if camera is not None and camera.name else "occupancy"
        return status(f"{self.get_name()}: {topic}", level, message, values)

    def _health(self, camera: OccupancyCamera | None) -> tuple[bytes, str]:
        """Return level and message: the first thing that is wrong, in the order of causes."""
        if self._config_error:
            return DiagnosticStatus.ERROR, self._config_error
        if self._state != "active" or camera is None:
            return DiagnosticStatus.OK, self._state
        if camera.disagreement:
            return DiagnosticStatus.ERROR, camera.disagreement
        complaint = camera.complaint()
        if complaint:
            return DiagnosticStatus.WARN, complaint
        if time.monotonic() - self._restarted < ERROR_SHOWN:
            return DiagnosticStatus.WARN, (
                "time jumped back: the map began anew; does a bag loop, or do clocks differ?"
            )
        return DiagnosticStatus.OK, "mapping"


def _prefix(camera: str) -> str:
    return f"{camera}." if camera else ""


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    rclpy.init(args=args)
    node = OccupancyNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # after a signal, whatever is under way fails: its context is gone
            raise
    finally:
        executor.shutdown()
        node.end()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
