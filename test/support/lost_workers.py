"""A worker of a local Dask cluster that dies while it works."""

import os
import signal
import threading
import time
from typing import Any

import pytest


@pytest.fixture
def lose_a_worker(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kill one worker, once, while it counts; the list gets its process id."""
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    killed: list[int] = []
    begin = LocalCluster.__init__

    def begun(cluster: Any, **settings: Any) -> None:
        begin(cluster, **settings)
        threading.Thread(target=kill, args=(cluster,), daemon=True).start()

    def kill(cluster: Any) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            for worker in cluster.scheduler.workers.values():
                nanny = next((n for n in cluster.workers.values() if n.worker_address), None)
                if worker.processing and nanny is not None:
                    pid = next(
                        n.process.process.pid
                        for n in cluster.workers.values()
                        if n.worker_address == worker.address
                    )
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break
            time.sleep(0.01)

    monkeypatch.setattr(LocalCluster, "__init__", begun)
    return killed
