"""segmentation_node: camera pictures in, label images, confidence and class shares out.

The walk of a picture: newest message -> pictures.decode -> Segmenter -> fill_image -> publish.
"""

import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import (
    LifecycleNode,
    LifecyclePublisher,
    LifecycleState,
    TransitionCallbackReturn,
)
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from seg_perception import images, messages
from seg_perception.drawing import draw_overlay
from seg_perception.errors import ImageError, SegPerceptionError
from seg_perception.labels import LabelSpace, class_shares
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes import params, pictures
from seg_perception.nodes.diagnostics import diagnostic
from seg_perception.nodes.label_info import MISSING, LabelInfo, label_info
from seg_perception.nodes.subscription import NewestSubscription
from seg_perception.nodes.worker import Worker
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmentation, Segmenter

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
GRAPH_PERIOD = 0.5  # seconds between looks at the publishers' offers
QUIET = 2.0  # seconds without a picture before diagnostics warn
ERROR_SHOWN = 5.0  # seconds that a bad picture keeps the status at a warning
WARN_PERIOD = 5.0  # seconds between warnings about bad pictures


class SegmentationNode(LifecycleNode):
    """Segment the newest picture of one camera; interface in README."""

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self._state = "unconfigured"
        self._enabled = True
        self._segmenter: Segmenter | None = None
        self._camera_info: CameraInfo | None = None
        self._inputs: list[NewestSubscription] = []
        self._outputs: dict[str, LifecyclePublisher[Any]] = {}
        self._monitor = StreamMonitor()
        self._start_complaints = params.declare(self, SegmentationParameters)
        self._config_error = ""
        self._settings = params.read(self, SegmentationParameters)
        self.add_on_set_parameters_callback(
            params.refuse_bad_values(SegmentationParameters, lambda: self._segmenter is not None)
        )
        self.add_on_set_parameters_callback(self._check_min_confidence)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._worker = Worker(self)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = self._settings.diagnostics_period
        self.create_timer(period, self._publish_diagnostics, clock=steady)
        self.create_timer(GRAPH_PERIOD, self._follow_publishers, clock=steady)
        if self._settings.autostart:
            # Beside the executor, so that diagnostics speak while the model loads.
            self._worker.submit(self._start)

    def end(self) -> None:
        """Finish the picture under way."""
        self._worker.end()

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm the model, create the publishers."""
        try:
            if self._start_complaints:
                raise SegPerceptionError("; ".join(self._start_complaints.values()))
            self._configure(params.read(self, SegmentationParameters))
        except SegPerceptionError as error:
            self._config_error = str(error)
            self.get_logger().fatal(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self._config_error = ""
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tell the classes, then listen to the camera."""
        result = super().on_activate(state)
        self._publish_label_info()
        self._subscribe(self._settings)
        self._state = "active"
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the model stays loaded."""
        self._unsubscribe()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the model and the publishers back."""
        self._unsubscribe()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        self._segmenter = None
        self._state = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End in any state."""
        self._unsubscribe()
        self._state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def _start(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _configure(self, parameters: SegmentationParameters) -> None:
        segmenter = Segmenter.load(
            parameters.model,
            provider=parameters.provider,
            threads=parameters.threads,
            label_space=parameters.label_space,
        )
        segmenter.check_min_confidence(parameters.min_confidence)
        outputs: dict[str, tuple[type, QoSProfile]] = {
            "label_mask": (Image, RELIABLE),
            "class_grid": (Image, RELIABLE),
            "overlay": (Image, RELIABLE),
            "camera_info": (CameraInfo, RELIABLE),
        }
        if segmenter.gives_confidence:
            outputs["confidence"] = (Image, RELIABLE)
        if LabelInfo is None:
            self.get_logger().warning(MISSING, once=True)
        else:
            outputs["label_info"] = (LabelInfo, LATCHED)
        self._outputs = {
            name: self.create_lifecycle_publisher(kind, f"~/{name}", qos)
            for name, (kind, qos) in outputs.items()
        }
        self._segmenter = segmenter

    def _subscribe(self, parameters: SegmentationParameters) -> None:
        image, kind = self.resolve_topic_name("image"), Image
        if parameters.image_transport == "compressed":
            image, kind = f"{image}/compressed", CompressedImage
        info = self.resolve_topic_name("camera_info")
        policy = parameters.qos_reliability
        self._inputs = [
            NewestSubscription(
                self, kind, image, self._on_image, reliability=policy, group=self._worker
            ),
            NewestSubscription(
                self, CameraInfo, info, self._on_camera_info, reliability=policy,
                group=self.default_callback_group,
            ),
        ]  # fmt: skip
        self._follow_publishers()

    def _unsubscribe(self) -> None:
        self._worker.wait()
        for subscription in self._inputs:
            subscription.destroy()
        self._inputs = []

    # One picture

    def _on_image(self, message: Any, info: dict[str, Any]) -> None:
        if self._enabled:
            self._worker.submit(self._process, message, info)

    def _process(self, message: Any, info: dict[str, Any]) -> None:
        """Segment one message; whatever is wrong with it, the node lives and says so."""
        publisher = str(info.get("publisher_gid"))
        self._monitor.on_received(
            time.monotonic(), publisher, info.get("publication_sequence_number")
        )
        try:
            self._segment(message)
        except ImageError as error:
            self._monitor.on_unreadable(time.monotonic(), str(error))
            self.get_logger().warning(f"skipped: {error}", throttle_duration_sec=WARN_PERIOD)
        except Exception as error:
            if self.context.ok():  # publishing fails once the node is told to stop
                self._monitor.on_failed(time.monotonic(), repr(error))
                self.get_logger().error(f"failed: {error!r}", throttle_duration_sec=WARN_PERIOD)

    def _segment(self, message: Any) -> None:
        segmenter, parameters = self._segmenter, self._settings
        if segmenter is None:
            return
        if 0 < parameters.max_age < self._age(message.header):
            self._monitor.on_too_old()
            return
        started = time.perf_counter()
        picture = pictures.decode(message)
        decoded = time.perf_counter()
        result = segmenter(
            picture.image,
            picture.encoding,
            confidence=self._is_wanted("confidence"),
            min_confidence=parameters.min_confidence,
        )
        self._publish(picture, result, message.header, parameters, segmenter.space)
        stages = {
            "decode_message": (decoded - started) * 1000,
            **result.timing,
            "total": (time.perf_counter() - started) * 1000,
        }
        self._monitor.on_published(time.monotonic(), self._age(message.header), stages)

    def _publish(
        self,
        picture: messages.Picture,
        result: Segmentation,
        header: Header,
        parameters: SegmentationParameters,
        space: LabelSpace,
    ) -> None:
        """Publish the mask first, then what somebody listens to."""
        self._send("label_mask", result.labels, "mono8", header)
        if result.confidence is not None:
            self._send("confidence", result.confidence, "mono8", header)
        if self._camera_info is not None:
            self._camera_info.header.stamp = header.stamp
            self._outputs["camera_info"].publish(self._camera_info)
        if self._is_wanted("class_grid"):
            count = len(space.names)
            shares = class_shares(
                result.labels,
                classes=count,
                rows=parameters.grid_rows,
                columns=parameters.grid_cols,
            )
            self._send("class_grid", shares, f"32FC{count}", header)
        if self._is_wanted("overlay"):
            overlay = draw_overlay(
                images.to_bgr(picture.image, picture.encoding),
                result.labels,
                space,
                alpha=parameters.overlay_alpha,
            )
            self._send("overlay", overlay, "bgr8", header)

    def _send(self, output: str, image: Any, encoding: str, header: Header) -> None:
        self._outputs[output].publish(messages.fill_image(Image(), image, encoding, header))

    def _is_wanted(self, output: str) -> bool:
        publisher = self._outputs.get(output)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _age(self, header: Header) -> float:
        """Seconds from the picture's stamp to now, on the node's clock."""
        now = self.get_clock().now()
        return float((now - Time.from_msg(header.stamp, now.clock_type)).nanoseconds) / 1e9

    # Everything else

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "segmenting" if request.data else "pictures are ignored"
        return response

    def _check_min_confidence(self, changes: list[Any]) -> SetParametersResult:
        for change in changes:
            if change.name == "min_confidence" and self._segmenter is not None:
                try:
                    self._segmenter.check_min_confidence(change.value)
                except SegPerceptionError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_parameters_set(self, changes: list[Any]) -> None:
        for change in changes:
            self._start_complaints.pop(change.name, None)
        self._settings = params.read(self, SegmentationParameters)

    def _publish_label_info(self) -> None:
        if "label_info" in self._outputs and self._segmenter is not None:
            header = Header(stamp=self.get_clock().now().to_msg())
            threshold = self._settings.min_confidence
            self._outputs["label_info"].publish(
                label_info(self._segmenter.space, header, threshold=threshold)
            )

    def _follow_publishers(self) -> None:
        for subscription in self._inputs:
            subscription.refresh()

    def _publish_diagnostics(self) -> None:
        level, message = self._health()
        parameters, segmenter = self._settings, self._segmenter
        values = {
            "state": self._state,
            "enabled": str(self._enabled),
            "model": parameters.model,
            "provider": segmenter.provider if segmenter else "",
            "threads": str(parameters.threads),
            **self._monitor.values(time.monotonic()),
        }
        if self._config_error:
            values["last_error"] = self._config_error
        stamp = self.get_clock().now().to_msg()
        name = f"{self.get_name()}: segmentation"
        self._diagnostics.publish(diagnostic(stamp, name, level, message, values))

    def _health(self) -> tuple[bytes, str]:
        """Return level and message: the first thing that is wrong, in the order of causes."""
        if self._config_error:
            return DiagnosticStatus.ERROR, self._config_error
        if self._state != "active":
            return DiagnosticStatus.OK, self._state
        if not self._enabled:
            return DiagnosticStatus.WARN, "disabled by ~/enable"
        camera = self._inputs[0] if self._inputs else None
        quiet = time.monotonic() - self._monitor.last_received > QUIET
        if camera is not None and quiet:
            if camera.publishers() == 0:
                return DiagnosticStatus.WARN, f"nobody publishes {camera.topic}"
            reason = camera.mismatch() or f"no picture on {camera.topic} for {QUIET:g} s"
            return DiagnosticStatus.WARN, reason
        if time.monotonic() - self._monitor.last_error_time < ERROR_SHOWN:
            return DiagnosticStatus.WARN, self._monitor.last_error
        return DiagnosticStatus.OK, "segmenting"


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    rclpy.init(args=args)
    node = SegmentationNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        node.end()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
