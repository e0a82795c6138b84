"""segmentation_node: camera pictures in, label images, confidence and class shares out.

The walk of a picture: newest message -> pictures.decode -> Segmenter -> Camera.publish.
"""

import time
from dataclasses import replace
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from seg_perception.errors import ImageError, SegPerceptionError
from seg_perception.messages import stamp_ns
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes import params, pictures
from seg_perception.nodes.camera import Camera
from seg_perception.nodes.diagnostics import diagnostics, status
from seg_perception.nodes.label_info import MISSING, LabelInfo
from seg_perception.nodes.model_swap import ModelSwap, SwappingParameterService, load
from seg_perception.nodes.worker import Worker
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmenter

GRAPH_PERIOD = 0.5  # seconds between looks at the publishers' offers
WARN_PERIOD = 5.0  # seconds between warnings about bad pictures


class SegmentationNode(LifecycleNode):
    """Segment the newest pictures of one camera or several; interface in README."""

    def __init__(self) -> None:
        # Callbacks run one at a time; one that waits (for a model to load) holds up no other.
        self._group = ReentrantCallbackGroup()
        super().__init__("segmentation_node", start_parameter_services=False)
        self._state = "unconfigured"
        self._enabled = True
        self._segmenter: Segmenter | None = None
        self._cameras: list[Camera] = []
        self._start_complaints = params.declare(self, SegmentationParameters)
        self._config_error = ""
        self._settings = params.read(self, SegmentationParameters)
        self._refuse_bad_values = params.refuse_bad_values(
            SegmentationParameters, lambda: self._state != "unconfigured"
        )
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._worker = Worker(self)
        self._swap = ModelSwap(self)
        self._next_segmenter: Segmenter | None = None
        self._parameter_services = SwappingParameterService(self, self._prepare_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = self._settings.diagnostics_period
        self.create_timer(period, self._publish_diagnostics, clock=steady)
        self.create_timer(GRAPH_PERIOD, self._follow_publishers, clock=steady)
        if self._settings.autostart:
            # Beside the executor, so that diagnostics speak while the model loads.
            self._worker.submit(self._start)

    @property
    def default_callback_group(self) -> ReentrantCallbackGroup:
        """Group of everything that names no other."""
        return self._group

    def end(self) -> None:
        """Finish the picture and the loading under way."""
        self._worker.end()
        self._swap.end()

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm the model, create the publishers."""
        self._state = "configuring"
        try:
            if self._start_complaints:
                raise SegPerceptionError("; ".join(self._start_complaints.values()))
            self._configure(params.read(self, SegmentationParameters))
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
        """Tell the classes, then listen to the cameras."""
        result = super().on_activate(state)
        self._publish_label_info()
        self._worker.open(self._cameras)
        for camera in self._cameras:
            camera.listen(self._settings, self._worker)
        self._state = "active"
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the model stays loaded."""
        self._stop_listening()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the model and the publishers back."""
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

    def _configure(self, parameters: SegmentationParameters) -> None:
        segmenter = load(parameters)
        segmenter.check_min_confidence(parameters.min_confidence)
        if LabelInfo is None:
            self.get_logger().warning(MISSING, once=True)
        names = parameters.cameras or ("",)
        self._cameras = [Camera(self, name, self._process) for name in names]
        for camera in self._cameras:
            camera.advertise(with_confidence=segmenter.gives_confidence)
        self._segmenter = segmenter

    def _withdraw(self) -> None:
        for camera in self._cameras:
            camera.withdraw()
        self._cameras = []
        self._segmenter = None
        self._state = "unconfigured"

    def _stop_listening(self) -> None:
        self._worker.close()
        for camera in self._cameras:
            camera.deafen()

    # One picture

    def _process(self, camera: Camera, message: Any, info: dict[str, Any]) -> None:
        """Segment one message; whatever is wrong with it, the node lives and says so."""
        monitor = camera.monitor
        publisher, sequence = (
            str(info.get("publisher_gid")),
            info.get("publication_sequence_number"),
        )
        if not self._enabled:
            monitor.on_ignored(publisher, sequence)
            return
        monitor.on_received(time.monotonic(), publisher, sequence)
        try:
            self._segment(camera, message)
        except ImageError as error:
            monitor.on_unreadable(time.monotonic(), str(error))
            self.get_logger().warning(f"skipped: {error}", throttle_duration_sec=WARN_PERIOD)
        except Exception as error:
            if self.context.ok():  # publishing fails once the node is told to stop
                monitor.on_failed(time.monotonic(), repr(error))
                self.get_logger().error(f"failed: {error!r}", throttle_duration_sec=WARN_PERIOD)

    def _segment(self, camera: Camera, message: Any) -> None:
        segmenter, parameters = self._segmenter, self._settings
        if segmenter is None:
            return
        if 0 < parameters.max_age < self._age(message.header):
            camera.monitor.on_too_old()
            return
        started = time.perf_counter()
        picture = pictures.decode(message)
        decoded = time.perf_counter()
        result = segmenter(
            picture.image,
            picture.encoding,
            confidence=camera.is_wanted("confidence"),
            min_confidence=parameters.min_confidence,
        )
        camera.publish(picture, result, message.header, parameters, segmenter.space)
        stages = {
            "decode_message": (decoded - started) * 1000,
            **result.timing,
            "total": (time.perf_counter() - started) * 1000,
        }
        camera.monitor.on_published(time.monotonic(), self._age(message.header), stages)

    def _age(self, header: Header) -> float:
        """Seconds from the picture's stamp to now, on the node's clock."""
        return (int(self.get_clock().now().nanoseconds) - stamp_ns(header)) / 1e9

    # Parameters and services

    async def _prepare_parameters(self, changes: list[Any]) -> None:
        """Load the model that a call will set, where one is loaded."""
        for change in changes:
            if change.name == "model" and self._segmenter is not None:
                await self._swap.prepare(replace(self._settings, model=change.value))

    def _check_parameters(self, changes: list[Any]) -> SetParametersResult:
        """Refuse bad values, and what the running model, or the one that is set, cannot do."""
        self._next_segmenter = None
        result = self._refuse_bad_values(changes)
        values = {change.name: change.value for change in changes}
        if self._state == "configuring" and "model" in values and result.successful:
            reason = "a model is being loaded: set model again when the node is inactive or active"
            return SetParametersResult(successful=False, reason=reason)
        if self._segmenter is None or not result.successful:
            self._swap.forget()
            return result
        try:
            segmenter = self._segmenter
            if "model" in values:
                segmenter = self._swap.take(replace(self._settings, model=values["model"]))
                self._check_swap(self._segmenter, segmenter)
            threshold = values.get("min_confidence", self._settings.min_confidence)
            segmenter.check_min_confidence(threshold)
        except SegPerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if "model" in values:
            self._next_segmenter = segmenter
        return result

    def _check_swap(self, old: Segmenter, new: Segmenter) -> None:
        """Raise SegPerceptionError when listeners would have to learn of the swap."""
        same = old.space.class_map() == new.space.class_map()
        if self._state == "active" and (not same or old.gives_confidence != new.gives_confidence):
            what = "label_info" if not same else "whether ~/confidence exists"
            raise SegPerceptionError(
                f"the model {new.manifest.name!r} would change {what} while the node is active: "
                "deactivate it, set model, and activate it again"
            )

    def _on_parameters_set(self, changes: list[Any]) -> None:
        for change in changes:
            self._start_complaints.pop(change.name, None)
        self._settings = params.read(self, SegmentationParameters)
        segmenter, self._next_segmenter = self._next_segmenter, None
        if segmenter is not None:
            self._segmenter = segmenter  # the picture under way keeps the one before
            for camera in self._cameras:
                camera.advertise(with_confidence=segmenter.gives_confidence)
            self.get_logger().info(f"the model is now {segmenter.manifest.name!r}")

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "segmenting" if request.data else "pictures are ignored"
        return response

    # What the node tells of itself

    def _publish_label_info(self) -> None:
        header = Header(stamp=self.get_clock().now().to_msg())
        for camera in self._cameras:
            if self._segmenter is not None:
                camera.publish_label_info(
                    self._segmenter.space, header, threshold=self._settings.min_confidence
                )

    def _follow_publishers(self) -> None:
        for camera in self._cameras:
            camera.refresh()

    def _publish_diagnostics(self) -> None:
        """Publish one status a camera; one for the node while it has none."""
        states = [self._status(camera) for camera in self._cameras] or [self._status(None)]
        self._diagnostics.publish(diagnostics(self.get_clock().now().to_msg(), states))

    def _status(self, camera: Camera | None) -> DiagnosticStatus:
        level, message = self._health(camera)
        parameters, segmenter = self._settings, self._segmenter
        values = {
            "state": self._state,
            "enabled": str(self._enabled),
            "model": parameters.model,
            "provider": segmenter.provider if segmenter else "",
            "threads": str(parameters.threads),
        }
        monitor = camera.monitor if camera is not None else StreamMonitor()
        values |= monitor.values(time.monotonic())
        if self._config_error:
            values["last_error"] = self._config_error
        topic = camera.name if camera is not None and camera.name else "segmentation"
        return status(f"{self.get_name()}: {topic}", level, message, values)

    def _health(self, camera: Camera | None) -> tuple[bytes, str]:
        """Return level and message: the first thing that is wrong, in the order of causes."""
        if self._config_error:
            return DiagnosticStatus.ERROR, self._config_error
        if self._state != "active" or camera is None:
            return DiagnosticStatus.OK, self._state
        if not self._enabled:
            return DiagnosticStatus.WARN, "disabled by ~/enable"
        complaint = camera.complaint()
        if complaint:
            return DiagnosticStatus.WARN, complaint
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
