"""Load another model next to the running one, while images and services go on."""

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rcl_interfaces.msg import Parameter as Message
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_service import ParameterService
from rclpy.task import Future

from seg_perception.errors import SegPerceptionError
from seg_perception.nodes.watchdog import WATCHDOG
from seg_perception.parameters import SegmentationParameters
from seg_perception.segmenter import Segmenter

_Key = tuple[str | int, ...]
_Loaded = tuple[_Key, Segmenter | SegPerceptionError]


def load(parameters: SegmentationParameters) -> Segmenter:
    """Load, verify and warm the model that `parameters` name; SegPerceptionError says why not."""
    with WATCHDOG.paused():
        return Segmenter.load(
            parameters.model,
            provider=parameters.provider,
            threads=parameters.threads,
            precision=parameters.precision,
            label_space=parameters.label_space,
            mode=parameters.mode,
            input_size=parameters.input_size,
        )


def _key(parameters: SegmentationParameters) -> _Key:
    """Return what decides how a model is loaded."""
    p = parameters
    return p.model, p.provider, p.threads, p.precision, p.label_space, p.mode, p.input_size


class ModelSwap:
    """Loads models, one after the other, and holds the newest until it is forgotten.

    What is held is found by the parameters that it was loaded with, so calls that queue do not mix
    their models up.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._held: _Loaded | None = None

    async def prepare(self, parameters: SegmentationParameters) -> None:
        """Load a model, good or bad; the executor does everything else meanwhile."""
        done: Future[_Loaded] = Future(executor=self._node.executor)
        self._pool.submit(self._load, parameters, done)
        self._held = await done

    def ensure(self, parameters: SegmentationParameters) -> None:
        """Load a model, good or bad, unless it is held; everything waits meanwhile."""
        if self._held is None or self._held[0] != _key(parameters):
            self._held = _try_to_load(parameters)

    def loaded(self, parameters: SegmentationParameters) -> Segmenter:
        """Return the model of these parameters, which is held.

        Raises SegPerceptionError that says why it cannot run.
        """
        if self._held is None or self._held[0] != _key(parameters):
            raise SegPerceptionError(f"{parameters.model!r} is not loaded: set model again")
        if isinstance(self._held[1], SegPerceptionError):
            raise self._held[1]
        return self._held[1]

    def forget(self) -> None:
        """Give back what is held."""
        self._held = None

    def end(self) -> None:
        """Wait for the model that is being loaded, and start no other."""
        self._pool.shutdown(cancel_futures=True)

    def _load(self, parameters: SegmentationParameters, done: "Future[_Loaded]") -> None:
        done.set_result(_try_to_load(parameters))
        if self._node.executor is not None:
            self._node.executor.wake()


def _try_to_load(parameters: SegmentationParameters) -> _Loaded:
    """Return a model, or why it cannot run: whoever waits for it must not wait for ever."""
    try:
        return _key(parameters), load(parameters)
    except SegPerceptionError as error:
        return _key(parameters), error
    except Exception as error:
        problem = SegPerceptionError(f"{parameters.model!r} cannot be loaded: {error!r}")
        return _key(parameters), problem


class SwappingParameterService(ParameterService):
    """rclpy's parameter services; a call that sets `model` is answered when it has been verified.

    `prepare` gets the parameters of a call and returns when they can be set without delay; `forget`
    is called when they have been set or refused.
    """

    def __init__(
        self,
        node: Node,
        prepare: Callable[[list[Any]], Awaitable[None]],
        forget: Callable[[], None],
    ) -> None:
        self._prepare, self._forget = prepare, forget
        super().__init__(node)

    async def _set_parameters_callback(
        self, request: SetParameters.Request, response: SetParameters.Response
    ) -> SetParameters.Response:
        for message in request.parameters:
            problem = await self._problem([message])
            if problem:
                response.results.append(SetParametersResult(successful=False, reason=problem))
            else:
                one = SetParameters.Request(parameters=[message])
                super()._set_parameters_callback(one, response)
            self._forget()
        return response

    async def _set_parameters_atomically_callback(
        self, request: SetParametersAtomically.Request, response: SetParametersAtomically.Response
    ) -> SetParametersAtomically.Response:
        problem = await self._problem(request.parameters)
        if problem:
            response.result = SetParametersResult(successful=False, reason=problem)
        else:
            response = super()._set_parameters_atomically_callback(request, response)
        self._forget()
        return response

    async def _problem(self, messages: Sequence[Message]) -> str:
        """Prepare the parameters of a call, or return why they are none: rclpy would raise."""
        for message in messages:
            if message.value.type not in {kind.value for kind in Parameter.Type}:
                return (
                    f"{message.name} has the type {message.value.type}, which "
                    "rcl_interfaces/ParameterType does not have"
                )
        await self._prepare([Parameter.from_parameter_msg(m) for m in messages])
        return ""
