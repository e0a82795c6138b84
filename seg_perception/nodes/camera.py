"""One camera of a node: what comes in, what goes out, and how that fares."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from seg_perception import images
from seg_perception.camera_faults import CameraWatch, find_fault
from seg_perception.drawing import draw_overlay
from seg_perception.images import DecodedImage
from seg_perception.labels import LabelSpace, class_shares
from seg_perception.messages import stamp_ns
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes.inputs import Inputs
from seg_perception.nodes.publishers import Outputs, image_message
from seg_perception.nodes.worker import Taken, Worker
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmentation


class Camera:
    """Inputs `image`, `camera_info` and outputs `~/label_mask` ..., under the camera's name.

    An empty name is the only camera of its node.
    """

    def __init__(self, node: LifecycleNode, name: str, worker: "Worker[Camera]") -> None:
        self.name = name
        self.monitor = StreamMonitor()
        prefix = f"{name}/" if name else ""
        self.inputs = Inputs(node, prefix)
        self.outputs = Outputs(node, prefix, label_info="label_info")
        self._worker = worker
        self._camera_info: CameraInfo | None = None
        self._watch = CameraWatch()
        self.fault = ""  # of the newest image
        self.input_size = ""  # that the network runs at for the newest image

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

    def subscribe(self, parameters: SegmentationParameters) -> None:
        """Subscribe to images, which wake the worker, and to camera_info."""
        is_raw = parameters.image_transport == "raw"
        self.inputs.subscribe(
            "image",
            Image if is_raw else CompressedImage,
            partial(self._worker.serve, self),
            reliability=parameters.qos_reliability,
            group=self._worker,
            suffix="" if is_raw else "/compressed",
        )
        self.inputs.subscribe(
            "camera_info",
            CameraInfo,
            self._on_camera_info,
            reliability=parameters.qos_reliability,
        )

    def unsubscribe(self) -> None:
        """End the subscriptions; the worker is closed by then."""
        self.inputs.destroy()

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        self.inputs.refresh()

    # One image

    def take(self) -> Taken | None:
        """Return the waiting image, if one waits."""
        subscription = self.inputs.get("image")
        return subscription.take() if subscription is not None else None

    def judge(
        self, image: DecodedImage, header: Header, parameters: SegmentationParameters
    ) -> bool:
        """Look for faults of the camera in an image; return whether it may be segmented."""
        figures = self._watch.observe(image, stamp_ns(header))
        self.fault = find_fault(figures, parameters)
        if not self.fault:
            return True
        self.monitor.on_faulty()
        if parameters.on_bad_image == "drop":
            self.fault += "; the image is dropped (on_bad_image)"
            return False
        return True

    # Outputs

    def publish(
        self,
        image: DecodedImage,
        result: Segmentation,
        header: Header,
        parameters: SegmentationParameters,
        space: LabelSpace,
    ) -> bool:
        """Publish the mask first, then what is subscribed; return False where the mask waits."""
        is_published = self.outputs.publish_set(_set(result, header))
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
                images.to_bgr(image.image, image.encoding),
                result.labels,
                space,
                alpha=parameters.overlay_alpha,
            )
            self.outputs.publish_image("overlay", overlay, "bgr8", header)
        return is_published

    def problem(self) -> str:
        """Return what is wrong with the images that come in, or an empty string."""
        silence = self.inputs.problem("image", "image", last=self.monitor.last_received)
        return silence or self.monitor.recent_error(time.monotonic()) or self.fault

    def values(self, now: float) -> dict[str, str]:
        """Return what diagnostics tell of this camera."""
        figures = self._watch.figures
        return {**self.monitor.values(now), **(figures.values() if figures else {})}

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message


def _set(result: Segmentation, header: Header) -> Iterator[tuple[str, Any]]:
    yield "label_mask", image_message(result.labels, "mono8", header)
    if result.confidence is not None:
        yield "confidence", image_message(result.confidence, "mono8", header)
