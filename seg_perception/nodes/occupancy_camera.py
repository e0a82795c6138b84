"""One camera of occupancy_node: label images in, points for planners out."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from seg_perception.messages import fill_cloud
from seg_perception.monitor import LabelFrameMonitor
from seg_perception.nodes.inputs import Inputs
from seg_perception.nodes.label_info import LabelInfo
from seg_perception.nodes.publishers import Outputs, image_message
from seg_perception.nodes.worker import Info, Taken, Worker
from seg_perception.occupancy.costmap_set import CostmapSet
from seg_perception.occupancy.looks import MaskIds, read_label_frame
from seg_perception.occupancy.mapper import LabelFrame, Result, raised
from seg_perception.occupancy.parameters import OccupancyParameters
from seg_perception.occupancy.synchronizer import COMPANIONS, Match, Pairing


class OccupancyCamera:
    """Inputs `label_mask`, its companions, `camera_info`, `label_info`; outputs of each look.

    An empty name is the only camera of its node.
    """

    def __init__(
        self, node: LifecycleNode, name: str, frame: str, worker: "Worker[OccupancyCamera]"
    ) -> None:
        self.name = name
        self.monitor = LabelFrameMonitor()
        prefix = f"{name}/" if name else ""
        self.inputs = Inputs(node, prefix)
        self.outputs = Outputs(node, prefix, label_info="costmap/label_info")
        self.disagreement = ""  # of label_info with the model
        self._frame, self._worker = frame, worker
        self._pairing = Pairing()
        self._last_mask = float("-inf")

    # Lifecycle

    def advertise(self) -> None:
        """Create the publishers."""
        self.outputs.advertise(
            {
                "costmap/label_mask": Image,
                "costmap/confidence": Image,
                "costmap/points": PointCloud2,
                "obstacles": PointCloud2,
                "clearing": PointCloud2,
            }
        )

    def subscribe(self, parameters: OccupancyParameters, ids: MaskIds) -> None:
        """Subscribe; a complete match wakes the worker when it is idle."""
        self._pairing = Pairing()

        def compare(message: Any) -> None:
            listed = [(c.class_id, c.class_name) for c in message.class_map]
            self.disagreement = ids.disagreement(listed)

        subscribe = partial(self.inputs.subscribe, reliability=parameters.qos_reliability)
        subscribe("label_mask", Image, self._on_mask)
        subscribe("camera_info", CameraInfo, self._pairing.on_info)
        for name in COMPANIONS:
            subscribe(name, Image, partial(self._on_companion, name))
        if LabelInfo is not None:
            self.inputs.subscribe(
                "label_info",
                LabelInfo,
                compare,
                reliability="reliable",
                durability=DurabilityPolicy.TRANSIENT_LOCAL,
            )

    def unsubscribe(self) -> None:
        """End the subscriptions; the worker is closed by then."""
        self.inputs.destroy()
        self.disagreement = ""

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        self.inputs.refresh()
        self._expect_companions()
        self._worker.notify(self)

    # One label image

    def take(self) -> Taken | None:
        """Return the waiting match, if one waits."""
        match = self._pairing.take()
        return (match, match.tag) if match is not None else None

    def read(self, match: Match, ids: MaskIds, *, rectified: bool) -> LabelFrame:
        """Return what the mapper adds."""
        frame = self.frame_of(match.mask.header)
        return read_label_frame(match, ids, name=self.name, frame=frame, rectified=rectified)

    def frame_of(self, header: Header) -> str:
        """Return the camera's optical frame."""
        return self._frame or str(header.frame_id)

    # Outputs

    def publish(
        self,
        result: Result,
        header: Header,
        parameters: OccupancyParameters,
        *,
        costs: Mapping[str, int],
    ) -> None:
        """Publish the set for the semantic layer, then what stands and what is free."""
        p = parameters
        here = Header(stamp=header.stamp, frame_id=self.frame_of(header))
        if not self.outputs.publish_set(_set(result.reduced, here)):
            self.monitor.on_held()
        base = Header(stamp=header.stamp, frame_id=p.base_frame)
        lethal = result.lethal(costs)
        for output, points in (("obstacles", lethal), ("clearing", result.free)):
            columns = raised(points, low=p.column_low, high=p.column_high, step=p.column_step)
            self.outputs.publish(output, _cloud(columns, base))

    def problem(self) -> str:
        """Return what is wrong with what comes in, or an empty string."""
        silence = self.inputs.problem("label_mask", "mask", last=self._last_mask)
        return silence or self.monitor.recent_error(time.monotonic())

    def values(self, now: float) -> dict[str, str]:
        """Return what diagnostics tell of this camera."""
        return {
            "camera_info_frames": ", ".join(self._pairing.info_frames()),
            **{f"without_{name}": str(n) for name, n in self._pairing.missed().items()},
            **self.monitor.values(now),
        }

    # Inputs

    def _on_mask(self, message: Image, info: Info) -> None:
        self._last_mask = time.monotonic()
        self._expect_companions()
        self._pairing.on_mask(message, info)
        self._worker.notify(self)

    def _on_companion(self, name: str, message: Image) -> None:
        self._pairing.on_companion(name, message)
        self._worker.notify(self)

    def _expect_companions(self) -> None:
        subscriptions = {n: self.inputs.get(n) for n in COMPANIONS}
        self._pairing.expect(
            n for n, s in subscriptions.items() if s is not None and s.publishers() > 0
        )


def _set(reduced: CostmapSet, header: Header) -> Iterator[tuple[str, Any]]:
    yield "costmap/label_mask", image_message(reduced.mask, "mono8", header)
    yield "costmap/confidence", image_message(reduced.confidence, "mono8", header)
    yield "costmap/points", _cloud(reduced.points, header)


def _cloud(points: Any, header: Header) -> Any:
    return fill_cloud(PointCloud2(), points, header, field=PointField)
