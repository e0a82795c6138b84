"""Run a node and write how deep its functions call each other: traced_node.py NODE OUT.json ...

What comes first is left out: caches of a new image size are filled once, not with every message.
"""

import importlib
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from numba.core.dispatcher import Dispatcher

import seg_perception

OURS = str(Path(seg_perception.__file__).parent)
FIRST = 3  # messages that are left out


class Trace:
    """Stacks of the package's functions, the outermost first."""

    def __init__(self) -> None:
        self.messages = 0
        self.handed_over: set[tuple[str, ...]] = set()  # where a message goes to the worker
        self.work: set[tuple[str, ...]] = set()  # in the worker, kernels included

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note a call, as sys.setprofile gives it."""
        if event != "call":
            return
        if frame.f_code is ThreadPoolExecutor.submit.__code__:
            self.handed_over.add(stack(frame))
        elif is_ours(frame) and threading.current_thread().name.startswith("work"):
            if frame.f_code.co_name == "_process":
                self.messages += 1
                if self.messages == FIRST + 1:  # every kernel is compiled
                    self.watch_kernels()
            if self.messages > FIRST:
                self.work.add(stack(frame))

    def watch_kernels(self) -> None:
        """Note calls of compiled functions, which have no frame."""
        for name, module in list(sys.modules.items()):
            if name.startswith("seg_perception."):
                for key, value in list(vars(module).items()):
                    if isinstance(value, Dispatcher):
                        setattr(module, key, self.watched(value))

    def watched(self, kernel: Any) -> Callable[..., Any]:
        """Return a function that notes its call and calls the kernel."""

        def call(*arguments: Any) -> Any:
            self.work.add((*stack(sys._getframe()), f"kernel {kernel.__name__}"))
            return kernel(*arguments)

        return call


def is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OURS)


def stack(frame: FrameType | None) -> tuple[str, ...]:
    """Return the package's functions that called each other from the middleware to this frame."""
    names = []
    while frame is not None and not frame.f_code.co_filename.endswith("rclpy/executors.py"):
        if is_ours(frame):
            names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(reversed(names))


if __name__ == "__main__":
    kind, out = sys.argv[1:3]
    trace = Trace()
    threading.setprofile(trace.profile)
    sys.setprofile(trace.profile)
    importlib.import_module(f"seg_perception.nodes.{kind}").main(sys.argv)
    sys.setprofile(None)
    found = {"handed_over": sorted(trace.handed_over), "work": sorted(trace.work)}
    Path(out).write_text(json.dumps(found), "utf-8")
