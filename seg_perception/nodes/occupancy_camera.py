"""One camera of occupancy_node: label images in, points for planners out."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.guard_condition import GuardCondition
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from seg_perception.labels import LabelSpace
from seg_perception.messages import fill_cloud, fill_image
from seg_perception.monitor import LookMonitor
from seg_perception.nodes.camera import ERROR_SHOWN, LATCHED, QUIET, RELIABLE
from seg_perception.nodes.label_info import LabelInfo, label_info
from seg_perception.nodes.subscription import NewestSubscription, unheard
from seg_perception.nodes.worker import Taken, Worker
from seg_perception.occupancy.looks import MaskIds, read_look
from seg_perception.occupancy.mapper import Look, Result, raised
from seg_perception.occupancy.pairing import COMPANIONS, Match, Pairing
from seg_perception.parameters import OccupancyParameters

Handler = Callable[["OccupancyCamera", Match, dict[str, Any]], None]


class OccupancyCamera:
    """Inputs `label_mask`, its companions, `camera_info`, `label_info`; outputs of each look.

    An empty name is the only camera of its node. `handler` does the work of one match.
    """

    def __init__(self, node: LifecycleNode, name: str, frame: str, handler: Handler) -> None:
        self.name = name
        self.monitor = LookMonitor()
        self.disagreement = ""  # of label_info with the model
        self._node, self._frame, self._handler = node, frame, handler
        self._prefix = f"{name}/" if name else ""
        self._outputs: dict[str, LifecyclePublisher[Any]] = {}
        self._inputs: dict[str, NewestSubscription] = {}
        self._names: Any = None  # subscription to label_info
        self._pairing = Pairing()
        self._guard: GuardCondition | None = None
        self._last_mask = float("-inf")

    # Lifecycle

    def advertise(self) -> None:
        """Create the publishers."""
        kinds: dict[str, tuple[type, QoSProfile]] = {
            "costmap/label_mask": (Image, RELIABLE),
            "costmap/confidence": (Image, RELIABLE),
            "costmap/points": (PointCloud2, RELIABLE),
            "obstacles": (PointCloud2, RELIABLE),
            "clearing": (PointCloud2, RELIABLE),
        }
        if LabelInfo is not None:
            kinds["costmap/label_info"] = (LabelInfo, LATCHED)
        for name, (kind, qos) in kinds.items():
            topic = f"~/{self._prefix}{name}"
            self._outputs[name] = self._node.create_lifecycle_publisher(kind, topic, qos)

    def withdraw(self) -> None:
        """Destroy the publishers."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._outputs = {}

    def listen(self, parameters: OccupancyParameters, ids: MaskIds, worker: Worker) -> None:
        """Subscribe; a complete match wakes the worker when it is idle."""
        self._pairing = Pairing()
        pairing = self._pairing

        def wake() -> None:
            taken = self.take()
            if taken is not None:
                worker.serve(self, *taken)

        def compare(message: Any) -> None:
            listed = [(c.class_id, c.class_name) for c in message.class_map]
            self.disagreement = ids.disagreement(listed)

        self._guard = self._node.create_guard_condition(wake, callback_group=worker)
        callbacks: Mapping[str, tuple[type, Callable[..., None]]] = {
            "label_mask": (Image, self._on_mask),
            "camera_info": (CameraInfo, pairing.on_info),
            **{name: (Image, partial(self._on_companion, name)) for name in COMPANIONS},
        }
        # Set at once: timers of the executor's thread look at them meanwhile.
        self._inputs = {
            name: NewestSubscription(
                self._node,
                kind,
                self._topic(name),
                callback,
                reliability=parameters.qos_reliability,
                group=self._node.default_callback_group,
            )
            for name, (kind, callback) in callbacks.items()
        }
        if LabelInfo is not None:
            self._names = self._node.create_subscription(
                LabelInfo, self._topic("label_info"), compare, LATCHED
            )

    def deafen(self) -> None:
        """End the subscriptions; the worker is closed by then."""
        for subscription in self._inputs.values():
            subscription.destroy()
        self._inputs = {}
        if self._names is not None:
            self._node.destroy_subscription(self._names)
        if self._guard is not None:
            self._node.destroy_guard_condition(self._guard)
        self._names = self._guard = None
        self.disagreement = ""

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        for subscription in self._inputs.values():
            subscription.refresh()
        self._expect_companions()

    def unheard(self) -> list[str]:
        """Return why publishers of the inputs are not heard."""
        texts = [s.mismatch() for s in self._inputs.values()]
        if self._names is not None:
            texts.append(unheard(self._node, self._names))
        return [text for text in texts if text]

    # As a source of the worker

    def take(self) -> Taken | None:
        """Return the waiting match, if one waits."""
        match = self._pairing.take()
        return (match, match.tag) if match is not None else None

    def handle(self, message: Any, info: dict[str, Any]) -> None:
        """Do the work of one match."""
        self._handler(self, message, info)

    def read(self, match: Match, ids: MaskIds, *, rectified: bool) -> Look:
        """Return what the mapper adds."""
        frame = self.frame_of(match.mask.header)
        return read_look(match, ids, name=self.name, frame=frame, rectified=rectified)

    def frame_of(self, header: Header) -> str:
        """Return the camera's optical frame."""
        return self._frame or str(header.frame_id)

    # Outputs

    def publish_label_info(self, space: LabelSpace, header: Header) -> None:
        """Tell the names of the groups, where vision_msgs is installed."""
        if "costmap/label_info" in self._outputs:
            self._outputs["costmap/label_info"].publish(label_info(space, header, threshold=0.0))

    def publish(self, result: Result, header: Header, parameters: OccupancyParameters) -> None:
        """Publish the set for the semantic layer, then what stands and what is free."""
        p = parameters
        here = Header(stamp=header.stamp, frame_id=self.frame_of(header))
        reduced = result.reduced
        self._send("costmap/label_mask", fill_image(Image(), reduced.mask, "mono8", here))
        self._send("costmap/confidence", fill_image(Image(), reduced.confidence, "mono8", here))
        self._send("costmap/points", self._cloud(reduced.points, here))
        base = Header(stamp=header.stamp, frame_id=p.base_frame)
        lethal = result.lethal(p.settings().costs)
        for output, points in (("obstacles", lethal), ("clearing", result.free)):
            columns = raised(points, low=p.column_low, high=p.column_high, step=p.column_step)
            self._send(output, self._cloud(columns, base))

    def complaint(self) -> str:
        """Return what is wrong with what comes in, or an empty string."""
        unheard = self.unheard()
        if unheard:
            return unheard[0]
        masks = self._inputs.get("label_mask")
        if masks is not None and time.monotonic() - self._last_mask > QUIET:
            if masks.publishers() == 0:
                return f"nobody publishes {masks.topic}"
            return f"no mask on {masks.topic} for {QUIET:g} s"
        if time.monotonic() - self.monitor.last_error_time < ERROR_SHOWN:
            return self.monitor.last_error
        return ""

    def values(self, now: float) -> dict[str, str]:
        """Return what diagnostics tell of this camera."""
        return {
            "camera_info_frames": ", ".join(self._pairing.info_frames()),
            **{f"without_{name}": str(n) for name, n in self._pairing.missed().items()},
            **self.monitor.values(now),
        }

    def _topic(self, name: str) -> str:
        return str(self._node.resolve_topic_name(f"{self._prefix}{name}"))

    def _send(self, output: str, message: Any) -> None:
        self._outputs[output].publish(message)

    def _cloud(self, points: Any, header: Header) -> PointCloud2:
        return fill_cloud(PointCloud2(), points, header, field=PointField)

    # Inputs

    def _on_mask(self, message: Image, info: dict[str, Any]) -> None:
        self._last_mask = time.monotonic()
        self._expect_companions()
        self._pairing.on_mask(message, info)
        self._wake()

    def _on_companion(self, name: str, message: Image) -> None:
        self._pairing.on_companion(name, message)
        self._wake()

    def _expect_companions(self) -> None:
        heard = {n: self._inputs.get(n) for n in COMPANIONS}
        self._pairing.expect(n for n, s in heard.items() if s is not None and s.publishers() > 0)
        self._wake()

    def _wake(self) -> None:
        if self._guard is not None and self._pairing.has_match:
            self._guard.trigger()
