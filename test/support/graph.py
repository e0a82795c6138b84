"""A ROS graph for one test: node processes over DDS in a domain of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_perception.launch_arguments import message_environment
from seg_perception.live.domains import reserved_domain
from seg_perception.messages import fill_image
from support.paths import TESTS

# Images of tests are the same to the byte, black in places and without an edge: of limits for
# cameras only what a test of them sets is on.
NO_LIMITS = {"frozen_after": 0.0, "max_dark": 1.0, "max_saturated": 1.0, "min_structure": 0.0,
             "min_sharpness": 0.0}  # fmt: skip
PROFILE = str(resources.files("seg_perception") / "fastdds.xml")
NODE = "/segmentation_node"
TIMEOUT = 60.0  # seconds that an event may take to come where four tests share two cores
DOMAINS = range(1, 102)  # where their ports lie below those that Linux gives to other programs


class Since(list[Any]):
    """Messages that were published since the last `clear`, not those that only came since."""

    def __init__(self) -> None:
        super().__init__()
        self._cleared_ns = 0

    def clear(self) -> None:
        super().clear()
        self._cleared_ns = time.time_ns()

    def on_message(self, message: Any, info: Any) -> None:
        if info["source_timestamp"] >= self._cleared_ns:
            self.append(message)


class Graph:
    """Start nodes, publish, collect and call services; use as a context manager."""

    def __init__(self, logs: Path) -> None:
        self._reservation = ExitStack()  # two test runs at a time hear nothing of each other
        self.domain = self._reservation.enter_context(reserved_domain(DOMAINS))
        os.environ.update(message_environment(PROFILE))
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self._logs = logs
        self.name = NODE  # of the node that services are called of
        self.wrapper: list[str] = []  # a command that runs the one behind it
        self._processes: list[subprocess.Popen[bytes]] = []
        self._groups: list[int] = []  # of processes that run in a wrapper
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node: Node = rclpy.create_node("tester", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.diagnostics = Since()
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", self.diagnostics.on_message, QoSProfile(depth=50)
        )

    def __enter__(self) -> "Graph":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:  # a killed node leaves its shared memory behind
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        self._reservation.close()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a process in this domain that may import the helpers."""
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        path = os.pathsep.join(paths)
        return {**os.environ, "ROS_DOMAIN_ID": str(self.domain), "PYTHONPATH": path}

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a Python process in this domain; its output goes to a log."""
        log = (self._logs / f"process{len(self._processes)}.log").open("wb")
        process = subprocess.Popen(
            [*self.wrapper, sys.executable, *command], env=self.environment, stdout=log, stderr=log,
            start_new_session=bool(self.wrapper),
        )  # fmt: skip
        if self.wrapper:  # strace, for one, leaves what it traced when it ends
            self._groups.append(process.pid)
        self._processes.append(process)
        return process

    def start_node(
        self,
        remaps: dict[str, str] | None = None,
        executable: str = "segmentation_node",
        **parameters: object,
    ) -> Any:
        """Start a node with parameters; services are called of it from now on."""
        self.name = f"/{executable}"
        arguments = ["-m", f"seg_perception.nodes.{executable}", "--ros-args"]
        limits = NO_LIMITS if executable == "segmentation_node" else {}
        for name, value in {"diagnostics_period": 0.2, **limits, **parameters}.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            text = text.replace("'", "")  # of a list of names
            arguments += ["-p", f"{name}:={text}"]
        for name, value in (remaps or {}).items():
            arguments += ["-r", f"{name}:={value}"]
        return self.start(*arguments)

    def collect(self, kind: type, topic: str, *, depth: int = 10, reliable: bool = True) -> list:
        """Subscribe and return the list that messages are appended to."""
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        messages: list[Any] = []
        self.node.create_subscription(
            kind, topic, messages.append, QoSProfile(depth=depth, reliability=policy)
        )
        return messages

    def camera(self, kind: type = Image, topic: str = "/image", *, reliable: bool = True) -> Any:
        """Return a publisher of images."""
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        return self.node.create_publisher(kind, topic, QoSProfile(depth=5, reliability=policy))

    def image_message(self, image: np.ndarray, encoding: str = "rgb8", stamp: int = 0) -> Image:
        """Return an Image message with a stamp in ns (0: now)."""
        message = fill_image(Image(), image, encoding, Image().header)
        stamp = stamp or self.node.get_clock().now().nanoseconds
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        message.header.frame_id = "camera_optical"
        return message

    def spin(self, seconds: float) -> None:
        self.wait(lambda: False, seconds, must=False)

    def settle(self, count: Callable[[], int], seconds: float = 0.5) -> int:
        """Spin until `count` has stood for so long; return it. Answers to earlier asks are late."""
        before, now = -1, count()
        while before != now:
            self.spin(seconds)
            before, now = now, count()
        return now

    def wait(self, done: Callable[[], Any], seconds: float = TIMEOUT, *, must: bool = True) -> None:
        """Spin until `done`; fail with the logs when it does not come."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                assert not must, f"waited {seconds} s in vain; {self.status()}\n{self.logs()}"
                return
            self._executor.spin_once(timeout_sec=0.02)

    def ask(self, publisher: Any, message: Any, answers: list) -> Any:
        """Publish until an answer comes; return it."""
        before = len(answers)
        self.wait(publisher.get_subscription_count)
        deadline = time.monotonic() + TIMEOUT
        while len(answers) == before and time.monotonic() < deadline:
            publisher.publish(message)
            self.wait(lambda: len(answers) > before, 0.5, must=False)
        assert len(answers) > before, f"no answer; {self.status()}\n{self.logs()}"
        return answers[-1]

    def play(self, cameras: list[Any], image: np.ndarray, rate: float, seconds: float) -> int:
        """Publish `image` on every camera at `rate` Hz; return the images that each sent."""
        started, sent = time.monotonic(), 0
        while sent < rate * seconds:
            for camera in cameras:
                camera.publish(self.image_message(image))
            sent += 1
            self.spin(max(0.0, started + sent / rate - time.monotonic()))
        return sent

    def call(self, kind: type, service: str, request: Any) -> Any:
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready)
        future = client.call_async(request)
        self.wait(future.done)
        self.node.destroy_client(client)
        return future.result()

    def state(self) -> str:
        client = self.node.create_client(GetState, f"{self.name}/get_state")
        self.wait(client.service_is_ready)
        futures = []

        def answered() -> bool:
            # A reply is lost when the node has not met this client yet: asking again is free.
            futures.append(client.call_async(GetState.Request()))
            self.wait(futures[-1].done, 5.0, must=False)
            return any(future.done() for future in futures)

        self.wait(answered)
        self.node.destroy_client(client)
        done = next(future for future in futures if future.done())
        return str(done.result().current_state.label)

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, f"{self.name}/change_state", request).success

    def set(self, name: str, value: object) -> Any:
        """Set one parameter; return the result with `successful` and `reason`."""
        request = SetParameters.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg()]
        return self.call(SetParameters, f"{self.name}/set_parameters", request).results[0]

    def wait_for_status(self, text: str, of: str = "") -> Any:
        """Return the first status whose message holds `text` and whose name holds `of`."""
        found: list[Any] = []

        def look() -> bool:
            fresh = (s for a in self.diagnostics for s in a.status)
            found.extend(s for s in fresh if text in s.message and of in s.name)
            return bool(found)

        self.diagnostics.clear()
        self.wait(look)
        return found[0]

    def status(self) -> str:
        return self.diagnostics[-1].status[0].message if self.diagnostics else "no diagnostics"

    def values(self, of: str = "") -> dict[str, str]:
        """Return the values of a fresh diagnostic, of the first status whose name holds `of`."""
        return {v.key: v.value for v in self.wait_for_status("", of).values}

    def logs(self, last: int = 2000) -> str:
        """Return the last characters of every process's log."""
        return "\n".join(p.read_text(errors="replace")[-last:] for p in self._logs.glob("*.log"))


def stop(process: "subprocess.Popen[bytes]", kind: signal.Signals) -> int:
    """Send a signal and return the exit status."""
    process.send_signal(kind)
    return process.wait(TIMEOUT)
