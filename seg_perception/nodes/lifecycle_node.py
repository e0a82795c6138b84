"""What every node of this package is, whatever it does with what its cameras send."""

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Generic, Protocol, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from seg_perception.errors import ImageError, SegPerceptionError
from seg_perception.fastdds import memory_problem, profile_problem, profile_values
from seg_perception.messages import stamp_ns
from seg_perception.monitor import StreamMonitor
from seg_perception.nodes import params
from seg_perception.nodes.diagnostics import diagnostics, status
from seg_perception.nodes.inputs import Inputs
from seg_perception.nodes.publishers import Outputs
from seg_perception.nodes.worker import Info, Source, Worker
from seg_perception.parameters import NodeParameters

GRAPH_PERIOD_S = 0.5  # seconds between looks at the publishers' offers
WARN_PERIOD = 5.0  # seconds between warnings about what is skipped

Health = tuple[bytes, str]  # level and message of a diagnostic
Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def log_errors(transition: Transition) -> Transition:
    """Tell what a transition raises, and go on to on_error: rclpy swallows it without a word."""

    @wraps(transition)
    def run(
        node: "PerceptionLifecycleNode[Any, Any]", state: LifecycleState
    ) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.report_error(f"cannot {transition.__name__.removeprefix('on_')}", error)
            return TransitionCallbackReturn.ERROR

    return run


class Stream(Source, Protocol):
    """A camera of a node: its inputs, its outputs, and how they fare."""

    name: str
    inputs: Inputs
    outputs: Outputs

    @property
    def monitor(self) -> StreamMonitor:
        """What is counted of it."""

    def unsubscribe(self) -> None:
        """End the subscriptions."""

    def refresh(self) -> None:
        """Follow what the publishers offer now."""


AnyCamera = TypeVar("AnyCamera", bound=Stream)
Parameters = TypeVar("Parameters", bound=NodeParameters)


class PerceptionLifecycleNode(LifecycleNode, Generic[AnyCamera, Parameters]):
    """A lifecycle node that brings itself up and works on images next to its executor.

    Whatever is wrong with its parameters or with a message, it lives, and its diagnostics say so
    in every state. A node's own class fills in what is abstract here and overrides nothing else:
    what it configures, how it processes a message, what it reports. It adds to `_checks`,
    `_reactions` and `_endings`, and its __init__ ends with `bring_up`.
    """

    def __init__(self, name: str, parameters: type[Parameters], **options: Any) -> None:
        # Callbacks run one at a time; one that waits (for a model to load) holds up no other.
        self._group = ReentrantCallbackGroup()
        super().__init__(name, **options)
        self._kind, self._topic = parameters, name.removesuffix("_node")
        self._state = "unconfigured"
        self._error = ""  # of the transition that failed
        self._cameras: list[AnyCamera] = []
        # Of parameters that will be set: each says what is wrong, and changes nothing.
        self._checks: list[Callable[[list[Any]], str]] = [
            params.refuse_bad_values(parameters, self._is_configured)
        ]
        # To parameters that have been set, after `_settings` has them.
        self._reactions: list[Callable[[list[Any]], None]] = []
        self._start_problems = params.declare(self, parameters)
        self._settings = params.read(self, parameters)
        self._worker = Worker(self, self._process)
        self._endings: list[Callable[[], None]] = [self._worker.end]
        self._unheard: set[str] = set()  # what was told of publishers that are not heard

    def bring_up(self) -> None:
        """Speak from now on, and begin to configure where the node is its own manager."""
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = self._settings.diagnostics_period
        self.create_timer(period, self._publish_diagnostics, clock=steady)
        self.create_timer(GRAPH_PERIOD_S, self._watch_inputs, clock=steady)
        # Fast DDS has read its profile by now: what is in use does not change any more.
        self._profile_problem = profile_problem(os.environ)
        self._profile_values = profile_values(os.environ)
        if self._profile_problem:
            self.get_logger().error(self._profile_problem)
        if self._settings.autostart:
            # Next to the executor, so that diagnostics speak meanwhile.
            self._worker.submit(self._start)

    @property
    def default_callback_group(self) -> ReentrantCallbackGroup:
        """Group of everything that names no other."""
        return self._group

    def end(self) -> None:
        """Finish the work under way."""
        for end in self._endings:
            end()

    # What a node fills in

    @abstractmethod
    def _configure(self, parameters: Parameters) -> None:
        """Load what the work needs, make the cameras; SegPerceptionError says why not."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what else than cameras `_configure` made, however far it came."""

    @abstractmethod
    def _subscribe(self, camera: AnyCamera) -> None:
        """Publish what is known beforehand, and subscribe."""

    @abstractmethod
    def _process(self, camera: AnyCamera, message: Any, info: Info) -> None:
        """Walk through one message, within `_reporting`; the worker's thread calls it."""

    @abstractmethod
    def _values(self, camera: AnyCamera | None) -> dict[str, str]:
        """Return what diagnostics tell of a camera; of the node while it has none."""

    @abstractmethod
    def _condition(self, camera: AnyCamera) -> Health:
        """Return the first thing that is wrong with an active camera, in the order of causes."""

    # Lifecycle

    @log_errors
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load what the work needs, create the publishers."""
        self._state = "configuring"
        if self._start_problems:
            raise SegPerceptionError("; ".join(self._start_problems.values()))
        self._configure(params.read(self, self._kind))
        self._error = ""
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    @log_errors
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        result = super().on_activate(state)
        self._worker.open(self._cameras)
        for camera in self._cameras:
            self._subscribe(camera)
        self._state = "active"
        return result

    @log_errors
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; what was configured stays."""
        self._unsubscribe_all()
        self._state = "inactive"
        return super().on_deactivate(state)

    @log_errors
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back."""
        self._unsubscribe_all()
        self._withdraw()
        return TransitionCallbackReturn.SUCCESS

    @log_errors
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End in any state."""
        self._unsubscribe_all()
        self._state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back after a transition that failed; the node may be configured again."""
        self._unsubscribe_all()
        self._withdraw()
        return TransitionCallbackReturn.SUCCESS

    def report_error(self, what: str, error: Exception) -> None:
        """Show an error in diagnostics until the node is configured."""
        self._error = str(error) if isinstance(error, SegPerceptionError) else repr(error)
        if self.context.ok():  # whatever is under way fails once the node is told to stop
            self.get_logger().fatal(f"{what}: {self._error}")

    def _start(self) -> None:
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _unsubscribe_all(self) -> None:
        self._worker.close()
        for camera in self._cameras:
            camera.unsubscribe()

    def _withdraw(self) -> None:
        self._release()
        for camera in self._cameras:
            camera.outputs.withdraw()
        self._cameras = []
        self._state = "unconfigured"

    # What a node processes a message with

    @contextmanager
    def _reporting(self, monitor: StreamMonitor, info: Info) -> Iterator[None]:
        """Count a message; whatever goes wrong inside, the node lives and reports it."""
        monitor.on_received(time.monotonic(), *sender(info))
        try:
            with self._skipping(ImageError, monitor.on_unreadable):
                yield
        except Exception as error:
            if self.context.ok():  # publishing fails once the node is told to stop
                monitor.on_failed(time.monotonic(), repr(error))
                self.get_logger().error(f"failed: {error!r}", throttle_duration_sec=WARN_PERIOD)

    @contextmanager
    def _skipping(
        self, kind: type[SegPerceptionError], count: Callable[[float, str], None]
    ) -> Iterator[None]:
        """Count and report a message that cannot be used, which errors of a `kind` say."""
        try:
            yield
        except kind as error:
            count(time.monotonic(), str(error))
            self.get_logger().warning(f"skipped: {error}", throttle_duration_sec=WARN_PERIOD)

    def _compare_clocks(self, camera: AnyCamera, header: Header) -> None:
        """Remember an image's stamp next to the clock; `_watch_inputs` tells of what it sees."""
        camera.monitor.stamps.on_image(stamp_ns(header), self._now())

    def _age(self, header: Header) -> float:
        """Seconds from the image's stamp to now, on the node's clock."""
        return (self._now() - stamp_ns(header)) / 1e9

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _is_simulated(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)

    # Parameters

    def _is_configured(self) -> bool:
        return self._state != "unconfigured"

    def _check_parameters(self, changes: list[Any]) -> SetParametersResult:
        """Refuse what a check finds wrong, the first of them."""
        reason = next(filter(None, (check(changes) for check in self._checks)), "")
        return SetParametersResult(successful=not reason, reason=reason)

    def _on_parameters_set(self, changes: list[Any]) -> None:
        for change in changes:
            self._start_problems.pop(change.name, None)
        self._settings = params.read(self, self._kind)
        for react in self._reactions:
            react(changes)

    # What the node tells of itself

    def _watch_inputs(self) -> None:
        """Follow what the publishers offer, and warn once of what cannot be received or be true."""
        incompatible_publishers: set[str] = set()
        for camera in self._cameras:
            camera.refresh()
            incompatible_publishers.update(camera.inputs.incompatible_publishers())
            stamps = camera.monitor.stamps.first_warning(is_simulated=self._is_simulated())
            if stamps:
                self.get_logger().warning(stamps)
        for text in sorted(incompatible_publishers - self._unheard):
            self.get_logger().warning(text)
        self._unheard = incompatible_publishers

    def _publish_diagnostics(self) -> None:
        """Publish one status a camera; one for the node while it has none."""
        states = [self._status(camera) for camera in self._cameras] or [self._status(None)]
        self._diagnostics.publish(diagnostics(self.get_clock().now().to_msg(), states))

    def _status(self, camera: AnyCamera | None) -> DiagnosticStatus:
        level, message = self._health(camera)
        values = {"state": self._state, **self._values(camera), **self._profile_values}
        if self._error:
            values["last_error"] = self._error
        if camera is not None:
            values["clock"] = self._clock_problem(camera)
            values["holding"] = str(camera.outputs.is_holding())
        topic = camera.name if camera is not None and camera.name else self._topic
        return status(f"{self.get_name()}: {topic}", level, message, values)

    def _health(self, camera: AnyCamera | None) -> Health:
        if self._error:
            return DiagnosticStatus.ERROR, self._error
        if self._state != "active" or camera is None:
            return DiagnosticStatus.OK, self._state
        level, message = self._condition(camera)
        problem = self._clock_problem(camera) or self._profile_problem or self._memory_problem()
        if level == DiagnosticStatus.OK and problem:
            return DiagnosticStatus.WARN, problem
        if level == DiagnosticStatus.OK and camera.outputs.is_holding():
            return level, f"{message}; masks wait until a new subscriber has label_info"
        return level, message

    def _memory_problem(self) -> str:
        frame = sum(camera.outputs.frame_bytes() for camera in self._cameras)
        return memory_problem(frame, self._profile_values)

    def _clock_problem(self, camera: AnyCamera) -> str:
        return camera.monitor.stamps.problem(is_simulated=self._is_simulated())


def sender(info: Info) -> tuple[str, int | None]:
    """Return who sent a message, and its place in that publisher's sequence."""
    return str(info.get("publisher_gid")), info.get("publication_sequence_number")
