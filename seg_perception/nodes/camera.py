"""One camera of a node: what comes in, what goes out, and how that fares."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from seg_perception import images
from seg_perception.drawing import draw_overlay
from seg_perception.labels import LabelSpace, class_shares
from seg_perception.messages import Picture, fill_image
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes.label_info import LabelInfo, label_info
from seg_perception.nodes.subscription import NewestSubscription
from seg_perception.nodes.worker import Taken, Worker
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmentation

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
QUIET = 2.0  # seconds without a picture before diagnostics warn
ERROR_SHOWN = 5.0  # seconds that a bad picture keeps the status at a warning

Handler = Callable[["Camera", Any, dict[str, Any]], None]


class Camera:
    """Inputs `image`, `camera_info` and outputs `~/label_mask` ..., under the camera's name.

    An empty name is the only camera of its node. `handler` does the work of one picture.
    """

    def __init__(self, node: LifecycleNode, name: str, handler: Handler) -> None:
        self.name = name
        self.monitor = StreamMonitor()
        self._node, self._handler = node, handler
        self._prefix = f"{name}/" if name else ""
        self._outputs: dict[str, LifecyclePublisher[Any]] = {}
        self._image: NewestSubscription | None = None
        self._info: NewestSubscription | None = None
        self._camera_info: CameraInfo | None = None

    # Lifecycle

    def advertise(self, *, with_confidence: bool) -> None:
        """Create the publishers that are missing, and take back what the model does not give."""
        kinds: dict[str, tuple[type, QoSProfile]] = {
            "label_mask": (Image, RELIABLE),
            "class_grid": (Image, RELIABLE),
            "overlay": (Image, RELIABLE),
            "camera_info": (CameraInfo, RELIABLE),
        }
        if with_confidence:
            kinds["confidence"] = (Image, RELIABLE)
        if LabelInfo is not None:
            kinds["label_info"] = (LabelInfo, LATCHED)
        for name in set(self._outputs) - set(kinds):
            self._node.destroy_lifecycle_publisher(self._outputs.pop(name))
        for name, (kind, qos) in kinds.items():
            if name not in self._outputs:
                topic = f"~/{self._prefix}{name}"
                self._outputs[name] = self._node.create_lifecycle_publisher(kind, topic, qos)

    def withdraw(self) -> None:
        """Destroy the publishers."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._outputs = {}

    def listen(self, parameters: SegmentationParameters, worker: Worker) -> None:
        """Subscribe to pictures, which wake the worker, and to camera_info."""
        image, kind = self._node.resolve_topic_name(f"{self._prefix}image"), Image
        if parameters.image_transport == "compressed":
            image, kind = f"{image}/compressed", CompressedImage
        policy = parameters.qos_reliability

        def wake(message: Any, info: dict[str, Any]) -> None:
            worker.serve(self, message, info)

        self._image = NewestSubscription(
            self._node, kind, image, wake, reliability=policy, group=worker
        )
        self._info = NewestSubscription(
            self._node,
            CameraInfo,
            self._node.resolve_topic_name(f"{self._prefix}camera_info"),
            self._on_camera_info,
            reliability=policy,
            group=self._node.default_callback_group,
        )

    def deafen(self) -> None:
        """End the subscriptions; the worker is closed by then."""
        for subscription in (self._image, self._info):
            if subscription is not None:
                subscription.destroy()
        self._image = self._info = None

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        for subscription in (self._image, self._info):
            if subscription is not None:
                subscription.refresh()

    def unheard(self) -> list[str]:
        """Return why publishers of the inputs are not heard."""
        heard = (s for s in (self._image, self._info) if s is not None)
        return [text for text in (s.mismatch() for s in heard) if text]

    # As a source of the worker

    def take(self) -> Taken | None:
        """Return the waiting picture, if one waits."""
        return self._image.take() if self._image is not None else None

    def handle(self, message: Any, info: dict[str, Any]) -> None:
        """Do the work of one picture."""
        self._handler(self, message, info)

    # Outputs

    def is_wanted(self, output: str) -> bool:
        """Return whether somebody listens to an output."""
        publisher = self._outputs.get(output)
        return publisher is not None and publisher.get_subscription_count() > 0

    def publish_label_info(self, space: LabelSpace, header: Header, *, threshold: float) -> None:
        """Tell the names of the ids, where vision_msgs is installed."""
        if "label_info" in self._outputs:
            self._outputs["label_info"].publish(label_info(space, header, threshold=threshold))

    def publish(
        self,
        picture: Picture,
        result: Segmentation,
        header: Header,
        parameters: SegmentationParameters,
        space: LabelSpace,
    ) -> None:
        """Publish the mask first, then what somebody listens to."""
        self._send("label_mask", result.labels, "mono8", header)
        if result.confidence is not None:
            self._send("confidence", result.confidence, "mono8", header)
        camera_info = self._camera_info  # the executor may replace it meanwhile
        if camera_info is not None:
            camera_info.header.stamp = header.stamp
            self._outputs["camera_info"].publish(camera_info)
        if self.is_wanted("class_grid"):
            count = len(space.names)
            shares = class_shares(
                result.labels,
                classes=count,
                rows=parameters.grid_rows,
                columns=parameters.grid_cols,
            )
            self._send("class_grid", shares, f"32FC{count}", header)
        if self.is_wanted("overlay"):
            overlay = draw_overlay(
                images.to_bgr(picture.image, picture.encoding),
                result.labels,
                space,
                alpha=parameters.overlay_alpha,
            )
            self._send("overlay", overlay, "bgr8", header)

    def complaint(self) -> str:
        """Return what is wrong with the pictures that come in, or an empty string."""
        unheard = self.unheard()
        if unheard:
            return unheard[0]
        if self._image is not None and time.monotonic() - self.monitor.last_received > QUIET:
            if self._image.publishers() == 0:
                return f"nobody publishes {self._image.topic}"
            return f"no picture on {self._image.topic} for {QUIET:g} s"
        if time.monotonic() - self.monitor.last_error_time < ERROR_SHOWN:
            return self.monitor.last_error
        return ""

    def _send(self, output: str, image: Any, encoding: str, header: Header) -> None:
        self._outputs[output].publish(fill_image(Image(), image, encoding, header))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
