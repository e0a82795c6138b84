"""One camera of a node: what comes in, what goes out, and how that fares."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from seg_perception import images
from seg_perception.drawing import draw_overlay
from seg_perception.labels import LabelSpace, class_shares
from seg_perception.messages import Picture
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes.inputs import Inputs
from seg_perception.nodes.outputs import Outputs
from seg_perception.nodes.worker import Taken, Worker
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmentation

Handler = Callable[["Camera", Any, dict[str, Any]], None]


class Camera:
    """Inputs `image`, `camera_info` and outputs `~/label_mask` ..., under the camera's name.

    An empty name is the only camera of its node. `handler` does the work of one picture.
    """

    def __init__(self, node: LifecycleNode, name: str, handler: Handler) -> None:
        self.name = name
        self.monitor = StreamMonitor()
        prefix = f"{name}/" if name else ""
        self.inputs = Inputs(node, prefix)
        self.outputs = Outputs(node, prefix, label_info="label_info")
        self._handler = handler
        self._camera_info: CameraInfo | None = None

    # Lifecycle

    def advertise(self, *, with_confidence: bool) -> None:
        """Create the publishers that are missing, and take back what the model does not give."""
        kinds = {
            "label_mask": Image,
            "class_grid": Image,
            "overlay": Image,
            "camera_info": CameraInfo,
        }
        if with_confidence:
            kinds["confidence"] = Image
        self.outputs.advertise(kinds)

    def listen(self, parameters: SegmentationParameters, worker: Worker) -> None:
        """Subscribe to pictures, which wake the worker, and to camera_info."""

        def wake(message: Any, info: dict[str, Any]) -> None:
            worker.serve(self, message, info)

        is_raw = parameters.image_transport == "raw"
        self.inputs.listen(
            "image",
            Image if is_raw else CompressedImage,
            wake,
            reliability=parameters.qos_reliability,
            group=worker,
            suffix="" if is_raw else "/compressed",
        )
        self.inputs.listen(
            "camera_info",
            CameraInfo,
            self._on_camera_info,
            reliability=parameters.qos_reliability,
        )

    def deafen(self) -> None:
        """End the subscriptions; the worker is closed by then."""
        self.inputs.destroy()

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        self.inputs.refresh()

    # As a source of the worker

    def take(self) -> Taken | None:
        """Return the waiting picture, if one waits."""
        pictures = self.inputs.get("image")
        return pictures.take() if pictures is not None else None

    def handle(self, message: Any, info: dict[str, Any]) -> None:
        """Do the work of one picture."""
        self._handler(self, message, info)

    # Outputs

    def publish(
        self,
        picture: Picture,
        result: Segmentation,
        header: Header,
        parameters: SegmentationParameters,
        space: LabelSpace,
    ) -> None:
        """Publish the mask first, then what somebody listens to."""
        self.outputs.publish_image("label_mask", result.labels, "mono8", header)
        if result.confidence is not None:
            self.outputs.publish_image("confidence", result.confidence, "mono8", header)
        camera_info = self._camera_info  # the executor may replace it meanwhile
        if camera_info is not None:
            camera_info.header.stamp = header.stamp
            self.outputs.publish("camera_info", camera_info)
        if self.outputs.is_wanted("class_grid"):
            count = len(space.names)
            shares = class_shares(
                result.labels,
                classes=count,
                rows=parameters.grid_rows,
                columns=parameters.grid_cols,
            )
            self.outputs.publish_image("class_grid", shares, f"32FC{count}", header)
        if self.outputs.is_wanted("overlay"):
            overlay = draw_overlay(
                images.to_bgr(picture.image, picture.encoding),
                result.labels,
                space,
                alpha=parameters.overlay_alpha,
            )
            self.outputs.publish_image("overlay", overlay, "bgr8", header)

    def complaint(self) -> str:
        """Return what is wrong with the pictures that come in, or an empty string."""
        silence = self.inputs.complaint("image", "picture", last=self.monitor.last_received)
        return silence or self.monitor.recent_error(time.monotonic())

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
