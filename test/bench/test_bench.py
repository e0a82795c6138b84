"""The benchmark measures what it names, and its ratios are those of the rounds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.foreign import write_card, write_network

from seg_perception import cli
from seg_perception.bench import bench
from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.errors import DataError


def test_every_contender_runs_once_a_round_in_a_changing_order() -> None:
    calls: list[str] = []
    contenders = {name: lambda r, name=name: calls.append(f"{name}{r}") for name in "abc"}
    times = bench.measure(contenders, 20, warm_ups=2)
    counted = [c for c in calls if "-" not in c]
    assert sorted(counted) == sorted(f"{n}{r}" for n in "abc" for r in range(20))
    assert len({"".join(c[0] for c in counted[i : i + 3]) for i in range(0, 60, 3)}) > 2
    assert {name: len(t) for name, t in times.items()} == {"a": 20, "b": 20, "c": 20}


def test_a_ratio_is_the_median_with_its_spread() -> None:
    assert bench.ratio(np.arange(1.0, 102.0)) == bench.Ratio(51.0, (11.0, 91.0))


def test_ambiguous_cells_are_those_that_two_classes_can_win() -> None:
    scores = np.zeros((2, 3, 3), np.float32)
    scores[0] = 1.0
    scores[1, 2, 2] = 5.0  # touches one cell of four
    assert bench.ambiguous_cells(scores) == 0.25


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_label_stage_is_measured_for_every_layout(
    layout: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = write_network(tmp_path / "n.onnx", layout=layout, out_layout=layout, dtype=dtype)
    card = write_card(
        tmp_path / "card.yaml",
        input={"size": [32, 48], "layout": layout, "dtype": dtype},
        output={"kind": "logits", "layout": layout},
    )
    import_onnx(network, card, tmp_path / "model.onnx")
    monkeypatch.setattr(bench, "_node", lambda *_: {})
    result = bench.run_bench(tmp_path / "model.onnx", rounds=2)
    assert set(result["label_stage_ort_over_ours"]) == {"3", "19", "150"}


def test_a_board_without_torch_measures_a_model_file(make_model: Callable[..., Path]) -> None:
    code = (
        "import sys, pathlib; sys.modules['torch'] = None\n"
        "from seg_perception.bench import bench\n"
        "bench._node = lambda *_: {}\n"
        "print(sorted(bench.run_bench(pathlib.Path(sys.argv[1]), rounds=2)))"
    )
    command = [sys.executable, "-c", code, str(make_model())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "label_stage_ort_over_ours" in done.stdout


def test_no_rounds_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for rounds in ("0", "-3", "many"):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["bench", "--json", "b.json", f"--rounds={rounds}"])
        assert f"'{rounds}' is no whole number above 0" in capsys.readouterr().err


@pytest.mark.timeout(600)
def test_the_whole_benchmark_writes_the_keys_of_the_contract(tmp_path: Path) -> None:
    result = bench.run_bench(rounds=3)
    bench.write_json(result, tmp_path / "out" / "bench.json")
    for key in (
        "rewritten_over_plain",
        "labels_over_bare",
        "labels_over_plain_bare",
        "naive_over_ours",
        "confidence_over_bare",
        "node_over_bare",
    ):
        low, high = result[f"{key}_spread"]
        assert low <= result[key] <= high
    for key in ("label_stage_ort_over_ours", "ambiguous_cells"):
        assert set(result[key]) == {"11", "19", "150"}
    assert result["rounds"] == 3
    assert result["machine"]["cores"] >= 1
    assert result["label_stage_ort_over_ours"]["150"] > 1


def test_a_model_of_the_users_is_measured_without_torch_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "WEIGHTS", tmp_path / "missing.pt")
    monkeypatch.setattr(bench, "_node", lambda *_: {})
    assert (
        cli.main(
            ["bench", "--model", "default", "--rounds", "2", "--json", str(tmp_path / "b.json")]
        )
        == 0
    )
    assert "labels_over_bare" in (tmp_path / "b.json").read_text()
    with pytest.raises(DataError, match="give --model"):
        bench.run_bench(rounds=1)
