"""segmentation_node: camera images in, label images, confidence and class shares out.

The walk of an image: Worker.serve -> SegmentationNode._process, which decodes the newest message,
runs the Segmenter and publishes.
"""

import time
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from seg_perception import images
from seg_perception.errors import SegPerceptionError
from seg_perception.input_sizes import Size, text_of
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes import image_encodings
from seg_perception.nodes.camera import Camera
from seg_perception.nodes.label_info import MISSING, LabelInfo
from seg_perception.nodes.lifecycle_node import WARN_PERIOD, Health, PerceptionLifecycleNode, sender
from seg_perception.nodes.model_swap import ModelSwap, SwappingParameterService, load
from seg_perception.nodes.process import run
from seg_perception.nodes.watchdog import WATCHDOG
from seg_perception.nodes.worker import Info
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmenter


class SegmentationNode(PerceptionLifecycleNode[Camera, SegmentationParameters]):
    """Segment the newest images of one camera or several: docs/segmentation_node.md."""

    def __init__(self) -> None:
        super().__init__(
            "segmentation_node", SegmentationParameters, start_parameter_services=False
        )
        self._enabled = True
        self._segmenter: Segmenter | None = None
        self._swap = ModelSwap(self)
        self._endings.append(self._swap.end)
        self._parameter_services = SwappingParameterService(
            self, self._prepare_parameters, self._swap.forget
        )
        self.add_pre_set_parameters_callback(self._load_unprepared)
        self._checks.append(self._check_model)
        self._reactions.append(self._take_model)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.bring_up()

    # Lifecycle

    def _configure(self, parameters: SegmentationParameters) -> None:
        segmenter = load(parameters)
        segmenter.check_min_confidence(parameters.min_confidence)
        if LabelInfo is None:
            self.get_logger().warning(MISSING, once=True)
        names = parameters.cameras or ("",)
        self._cameras = [Camera(self, name, self._worker) for name in names]
        for camera in self._cameras:
            camera.advertise(with_confidence=segmenter.gives_confidence)
        self._segmenter = segmenter

    def _release(self) -> None:
        self._segmenter = None

    def _subscribe(self, camera: Camera) -> None:
        if self._segmenter is not None:
            header = Header(stamp=self.get_clock().now().to_msg())
            threshold = self._settings.min_confidence
            camera.outputs.publish_label_info(self._segmenter.space, header, threshold=threshold)
        camera.subscribe(self._settings)

    # One image

    def _process(self, camera: Camera, message: Any, info: Info) -> None:
        """Segment one image and publish the mask, unless ~/enable says no."""
        segmenter, parameters, monitor = self._segmenter, self._settings, camera.monitor
        if not self._enabled or segmenter is None:
            monitor.on_ignored(*sender(info))
            return
        with self._reporting(monitor, info):
            # 1. Only an image that is young enough.
            self._compare_clocks(camera, message.header)
            if 0 < parameters.max_age < self._age(message.header):
                monitor.on_too_old()
                return
            # 2. The message becomes an image, which may show a fault of its camera.
            started = time.perf_counter()
            image = image_encodings.decode(message)
            decoded = time.perf_counter()
            if not camera.judge(image, message.header, parameters):
                self.get_logger().warning(camera.fault, throttle_duration_sec=WARN_PERIOD)
                return
            # 3. The image becomes labels, at the input size of its shape.
            self._set_up(segmenter, camera, images.size_of(*image))
            result = segmenter(
                image.image,
                image.encoding,
                confidence=camera.outputs.is_wanted("confidence"),
                min_confidence=parameters.min_confidence,
            )
            # 4. Labels go out with the image's header.
            if not camera.publish(image, result, message.header, parameters, segmenter.space):
                monitor.on_held()
                return
            total = time.perf_counter() - started
            stages = {"decode_message": (decoded - started) * 1000, **result.timing,
                      "total": total * 1000}  # fmt: skip
            monitor.on_published(time.monotonic(), self._age(message.header), stages)

    def _set_up(self, segmenter: Segmenter, camera: Camera, size: Size) -> None:
        """Wait until images of `size` can be segmented; the other cameras go on meanwhile."""
        camera.input_size = text_of(segmenter.input_size(size))
        ready = segmenter.prepare(size)
        if ready is not None:
            text = f"setting the network up for {camera.input_size}"
            self.get_logger().info(text, throttle_duration_sec=WARN_PERIOD)
            with WATCHDOG.paused():
                self._worker.serve_until(ready, camera)

    # Parameters and services

    async def _prepare_parameters(self, changes: list[Any]) -> None:
        """Load the model that a call will set, where one is loaded."""
        for change in changes:
            if change.name == "model" and self._segmenter is not None:
                await self._swap.prepare(replace(self._settings, model=change.value))

    def _load_unprepared(self, changes: list[Any]) -> list[Any]:
        """Load the model that is set in this process, not by a service, before it is checked."""
        for change in changes:
            if change.name == "model" and self._segmenter is not None:
                self._swap.ensure(replace(self._settings, model=change.value))
        return changes

    def _check_model(self, changes: list[Any]) -> str:
        """Say what the running model, or the one that is set, cannot do."""
        values = {change.name: change.value for change in changes}
        if self._state == "configuring" and "model" in values:
            return "a model is being loaded: set model again when the node is inactive or active"
        if self._segmenter is None:
            return ""
        try:
            segmenter = self._segmenter
            if "model" in values:
                segmenter = self._swap.loaded(replace(self._settings, model=values["model"]))
                self._check_swap(self._segmenter, segmenter)
            threshold = values.get("min_confidence", self._settings.min_confidence)
            segmenter.check_min_confidence(threshold)
        except SegPerceptionError as error:
            return str(error)
        return ""

    def _check_swap(self, old: Segmenter, new: Segmenter) -> None:
        """Raise SegPerceptionError when subscribers would have to learn of the swap."""
        same = old.space.class_map() == new.space.class_map()
        if self._state == "active" and (not same or old.gives_confidence != new.gives_confidence):
            what = "label_info" if not same else "whether ~/confidence exists"
            raise SegPerceptionError(
                f"the model {new.manifest.name!r} would change {what} while the node is active: "
                "deactivate it, set model, and activate it again"
            )

    def _take_model(self, changes: list[Any]) -> None:
        """Segment with the model that was set; the image under way keeps the one before."""
        if self._segmenter is None or all(change.name != "model" for change in changes):
            return
        segmenter = self._segmenter = self._swap.loaded(self._settings)
        self._swap.forget()
        for camera in self._cameras:
            camera.advertise(with_confidence=segmenter.gives_confidence)
        self.get_logger().info(f"the model is now {segmenter.manifest.name!r}")

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "segmenting" if request.data else "images are ignored"
        return response

    # What the node tells of itself

    def _values(self, camera: Camera | None) -> dict[str, str]:
        parameters, segmenter = self._settings, self._segmenter
        now = time.monotonic()
        return {
            "enabled": str(self._enabled),
            "model": parameters.model,
            "provider": segmenter.provider if segmenter else "",
            "threads": str(parameters.threads),
            "input_size": camera.input_size if camera is not None else "",
            **(camera.values(now) if camera is not None else StreamMonitor().values(now)),
        }

    def _condition(self, camera: Camera) -> Health:
        if not self._enabled:
            return DiagnosticStatus.WARN, "disabled by ~/enable"
        problem = camera.problem()
        if problem:
            return DiagnosticStatus.WARN, problem
        return DiagnosticStatus.OK, "segmenting"


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run(SegmentationNode, args=args)


if __name__ == "__main__":
    main()
