"""The process of one node or several, from its start to the signal that ends it."""

import signal
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from seg_perception.nodes.lifecycle_node import PerceptionLifecycleNode
from seg_perception.nodes.watchdog import WATCHDOG


def run(
    *kinds: Callable[[], PerceptionLifecycleNode[Any, Any]], args: list[str] | None = None
) -> None:
    """Run nodes in one process until they are told to stop.

    They share an executor, which only hands over what comes: each works in a thread of its own.
    """
    WATCHDOG.start()
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    nodes = [kind() for kind in kinds]
    try:
        for node in nodes:
            executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # after a signal, whatever is under way fails: its context is gone
            raise
    finally:
        # Who stops a launch stops its nodes too, and then launch repeats it to them.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        WATCHDOG.stop()
        executor.shutdown()
        for node in nodes:
            node.end()
            node.destroy_node()
        rclpy.try_shutdown()
