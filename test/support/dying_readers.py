"""Readers of topics that end badly: killed, frozen, or crashing in their callback.

python dying_readers.py COUNT live|crash TOPIC TYPE [TOPIC TYPE ...]

Reads as COUNT participants in one process. Prints `ready PID` when each topic has brought something
to each of them, and goes on. With `crash` the callback aborts the process at the first message.
"""

import importlib
import os
import sys

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy


def main() -> None:
    count, crashes, names = int(sys.argv[1]), sys.argv[2] == "crash", sys.argv[3:]
    executor_of, heard = [], set()
    for i in range(count):
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node(f"dying_{os.getpid()}_{i}", context=context)
        for topic, kind in zip(names[::2], names[1::2], strict=True):
            package, _, name = kind.partition("/")
            message = getattr(importlib.import_module(f"{package}.msg"), name)

            def take(_: object, key: tuple[int, str] = (i, topic)) -> None:
                if crashes:
                    os.abort()
                heard.add(key)

            policy = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
            node.create_subscription(message, topic, take, policy)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        executor_of.append(executor)
    is_ready = False
    while True:
        for executor in executor_of:
            executor.spin_once(timeout_sec=0.01)
        if not is_ready and len(heard) == count * len(names) // 2:
            is_ready = True
            print(f"ready {os.getpid()}", flush=True)


if __name__ == "__main__":
    main()
