"""What the processes of the doctor look at a graph with: a node, and an executor to spin."""

import time
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


class Probe:
    """A node that reads and asks, and changes nothing."""

    def __init__(self, name: str) -> None:
        self.node: Node = rclpy.create_node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Handle messages for some seconds, or until `done`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not done():
            self._executor.spin_once(timeout_sec=0.05)
