"""segmentation_node: camera images in, label images, confidence and class shares out.

The walk of an image: newest message -> image_encodings.decode -> Segmenter -> Camera.publish.
"""

import time
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from seg_perception.errors import SegPerceptionError
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes import image_encodings
from seg_perception.nodes.camera import Camera
from seg_perception.nodes.label_info import MISSING, LabelInfo
from seg_perception.nodes.lifecycle_node import (
    WARN_PERIOD,
    Health,
    PerceptionLifecycleNode,
    run,
    sender,
)
from seg_perception.nodes.model_swap import ModelSwap, SwappingParameterService, load
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
        self._next_segmenter: Segmenter | None = None
        self._swap = ModelSwap(self)
        self._parameter_services = SwappingParameterService(self, self._prepare_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.bring_up()

    def end(self) -> None:
        """Finish the image and the loading under way."""
        super().end()
        self._swap.end()

    # Lifecycle

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
        self._segmenter = None
        super()._withdraw()

    def _listen(self, camera: Camera) -> None:
        if self._segmenter is not None:
            header = Header(stamp=self.get_clock().now().to_msg())
            threshold = self._settings.min_confidence
            camera.outputs.publish_label_info(self._segmenter.space, header, threshold=threshold)
        camera.listen(self._settings, self._worker)

    # One image

    def _process(self, camera: Camera, message: Any, info: dict[str, Any]) -> None:
        """Segment one message, unless ~/enable says no."""
        if self._enabled:
            super()._process(camera, message, info)
        else:
            camera.monitor.on_ignored(*sender(info))

    def _work(self, camera: Camera, message: Any) -> None:
        segmenter, parameters = self._segmenter, self._settings
        if segmenter is None:
            return
        self._compare_clocks(camera, message.header)
        if 0 < parameters.max_age < self._age(message.header):
            camera.monitor.on_too_old()
            return
        started = time.perf_counter()
        image = image_encodings.decode(message)
        decoded = time.perf_counter()
        if not camera.judge(image, message.header, parameters):
            self.get_logger().warning(camera.fault, throttle_duration_sec=WARN_PERIOD)
            return
        result = segmenter(
            image.image,
            image.encoding,
            confidence=camera.outputs.is_wanted("confidence"),
            min_confidence=parameters.min_confidence,
        )
        if not camera.publish(image, result, message.header, parameters, segmenter.space):
            camera.monitor.on_held()
            return
        stages = {
            "decode_message": (decoded - started) * 1000,
            **result.timing,
            "total": (time.perf_counter() - started) * 1000,
        }
        camera.monitor.on_published(time.monotonic(), self._age(message.header), stages)

    # Parameters and services

    async def _prepare_parameters(self, changes: list[Any]) -> None:
        """Load the model that a call will set, where one is loaded."""
        for change in changes:
            if change.name == "model" and self._segmenter is not None:
                await self._swap.prepare(replace(self._settings, model=change.value))

    def _check_parameters(self, changes: list[Any]) -> SetParametersResult:
        """Refuse bad values, and what the running model, or the one that is set, cannot do."""
        self._next_segmenter = None
        result = super()._check_parameters(changes)
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
        super()._on_parameters_set(changes)
        segmenter, self._next_segmenter = self._next_segmenter, None
        if segmenter is not None:
            self._segmenter = segmenter  # the image under way keeps the one before
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
