"""What training tools save beside their weights is read past, and nothing of it is run."""

import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg_perception.errors import CheckpointError
from seg_perception.runtimes.safe_load import read_weights_only
from seg_perception.runtimes.stand_ins import can_stand_in


class HistoryBuffer:
    """What mmengine's log keeps of a number: arrays, and functions that average them."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self._log_history = np.array([0.5, 0.25])
        self._statistics_methods = OrderedDict(mean=HistoryBuffer.mean)

    def mean(self) -> float:
        return float(self._log_history.mean())


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (Path, "touch")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[HistoryBuffer]:
    """Return the class under mmengine's name, as a checkpoint knows it."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(HistoryBuffer, "__module__", module.__name__)
    monkeypatch.setattr(HistoryBuffer.mean, "__module__", module.__name__)
    return HistoryBuffer


def test_a_message_hub_is_left_out_and_never_made(
    hub: type[HistoryBuffer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pth"
    scalars = OrderedDict(loss=hub(), size=np.float64(3), table=np.arange(4))
    torch.save({"state_dict": {"a": torch.ones(2)}, "message_hub": {"log_scalars": scalars}}, path)
    for name in list(sys.modules):
        if name.startswith("mmengine"):
            monkeypatch.delitem(sys.modules, name)
    before = HistoryBuffer.made
    loaded = read_weights_only(path)
    assert torch.equal(loaded["state_dict"]["a"], torch.ones(2))
    assert HistoryBuffer.made == before
    assert not any(name.startswith("mmengine") for name in sys.modules)
    assert type(loaded["message_hub"]["log_scalars"]["table"]) is not np.ndarray


def test_a_function_that_was_looked_up_is_never_called(tmp_path: Path) -> None:
    trace = tmp_path / "code_ran"

    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return getattr(np, "savetxt"), (str(trace), [1.0])  # noqa: B009

    path = tmp_path / "c.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "meta": Call()}, path)
    assert list(read_weights_only(path)["state_dict"]) == ["a"]
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file would have run code"


def test_other_code_is_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {}, "meta": Harmful(tmp_path)}, path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_weights_only(path)
    assert not can_stand_in(["numpy.ndarray", "os.system"])
    assert not can_stand_in(["builtins.eval"])
    assert can_stand_in(["numpy.ndarray", "mmengine.logging.HistoryBuffer", "builtins.getattr"])
