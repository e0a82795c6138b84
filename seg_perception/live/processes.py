"""Node processes: their logs, what they say of themselves, and a gentle end."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seg_perception.errors import SegPerceptionError

LAST_LINES = 15  # of a log, in errors


class NodeProcess:
    """A node in a process; its log goes to a file, the JSON lines that it prints to `latest`."""

    def __init__(
        self, module: str, log: Path, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> None:
        """Start a module, such as seg_perception.nodes.segmentation_node."""
        self._name, self._log = module.rpartition(".")[2], log
        self.latest: dict[str, Any] = {}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the process has not ended."""
        return self._process.poll() is None

    def check(self, *, must_run: bool = False) -> None:
        """Raise with the end of the log when the process failed, or ended while it `must_run`."""
        status = self._process.poll()
        if status or (must_run and status == 0):
            raise SegPerceptionError(f"{self._name} ended with status {status}:\n{self.log_end()}")

    def log_end(self) -> str:
        """Return the last lines of the log."""
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join(lines) or "its log is empty"

    def wait_for(
        self,
        wanted: Callable[[dict[str, Any]], bool],
        seconds: float,
        *,
        others: "Sequence[NodeProcess]" = (),
    ) -> None:
        """Wait until `latest` is as `wanted`; raise when this process or one of `others` ends."""
        deadline = time.monotonic() + seconds
        while not wanted(self.latest):
            for process in (self, *others):
                process.check()
            if time.monotonic() > deadline:
                ends = "\n".join(p.log_end() for p in (self, *others))
                raise SegPerceptionError(
                    f"{self._name} was not ready after {seconds:g} s; is multicast or shared "
                    f"memory blocked on this machine? Logs:\n{ends}"
                )
            time.sleep(0.05)

    def end(self, after: float) -> None:
        """Give the process `after` seconds to end by itself, then ask, and at last insist.

        A killed node leaves its 64 MB of shared memory behind, so it gets time to obey.
        """
        ask, insist = self._process.terminate, self._process.kill
        for action, seconds in ((None, after), (ask, 10.0), (insist, 10.0)):
            if action is not None:
                action()
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(2)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self.latest = {**self.latest, **json.loads(line)}


@contextmanager
def running(
    module: str, folder: Path, environment: Mapping[str, str], *arguments: str
) -> Iterator[NodeProcess]:
    """Run the node of a module with its log in `folder`; it ends with the block."""
    log = folder / f"{module.rpartition('.')[2]}.log"
    process = NodeProcess(module, log, environment, arguments)
    try:
        yield process
    finally:
        process.end(after=0.0)
