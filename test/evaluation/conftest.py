"""evaluate, run as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg_perception import cli


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a runner of the command: (status, report or None, what it said)."""

    def run(*arguments: Any) -> tuple[int, Any, str]:
        out = tmp_path / "out"
        status = cli.main(["evaluate", *map(str, arguments), "--out", str(out)])
        said = capsys.readouterr()
        path = out / "report.json"
        report = json.loads(path.read_text()) if path.exists() else None
        return status, report, said.out + said.err

    return run
