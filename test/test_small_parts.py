"""Parameters, the stream monitor, the catalogue and the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.flops import FlopCounter

from seg_perception import cli
from seg_perception.catalogue import ENTRIES, Entry
from seg_perception.monitor import MAX_PUBLISHERS, StreamMonitor
from seg_perception.parameters import SegmentationParameters, specs

NOT_BUILT = {"afformer": 66_048, "segvit": 1_024, "setr": 9_987_398}  # parameters, at most


def test_defaults_are_within_their_own_ranges() -> None:
    defaults = SegmentationParameters()
    for name, spec in specs(SegmentationParameters).items():
        assert spec.problem(name, getattr(defaults, name)) == ""
        assert spec.text


def test_bad_values_are_named() -> None:
    known = specs(SegmentationParameters)
    assert known["threads"].problem("threads", 0) == "threads is 0, below 1"
    assert known["min_confidence"].problem("min_confidence", 1.5).endswith("above 1.0")
    assert "choose one of raw, compressed" in known["image_transport"].problem("x", "theora")


def test_gaps_are_drops_and_a_decrease_is_a_restart() -> None:
    monitor = StreamMonitor()
    for sequence in (1, 2, 5, 1, 3):
        monitor.on_received(0.0, "a", sequence)
    monitor.on_received(0.0, "b", 70)
    monitor.on_received(0.0, "b", None)
    values = monitor.values(0.0)
    assert (values["received"], values["dropped"]) == ("7", "3")


def test_a_camera_that_restarts_for_ever_costs_no_memory() -> None:
    monitor = StreamMonitor()
    monitor.on_received(0.0, "steady", 1)
    for restart in range(10_000):
        monitor.on_received(0.0, restart, 1)
        monitor.on_received(0.0, "steady", restart + 3)
    assert monitor.dropped == 1
    assert len(monitor._last_sequence) == MAX_PUBLISHERS


def test_image_encodings_that_nobody_wants_are_neither_received_nor_dropped() -> None:
    monitor = StreamMonitor()
    monitor.on_received(0.0, "a", 1)
    for sequence in range(2, 20):
        monitor.on_ignored("a", sequence)
    monitor.on_received(0.0, "a", 21)
    values = monitor.values(0.0)
    assert (values["received"], values["dropped"]) == ("2", "1")


def test_rate_age_and_stages_are_reported() -> None:
    monitor = StreamMonitor()
    assert "age_p50_ms" not in monitor.values(0.0)
    for i in range(11):
        monitor.on_published(i * 0.1, 0.05, {"network": 20.0})
    monitor.on_unreadable(1.0, "bad bytes")
    values = monitor.values(1.0)
    assert values["rate_hz"] == "10.00"
    assert values["age_p50_ms"] == "50.0"
    assert values["stage.network_ms"] == "20.000"
    assert (values["unreadable"], values["last_error"]) == ("1", "bad bytes")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.arch}-{e.dataset}")
def test_the_catalogue_tells_what_the_networks_are(entry: Entry) -> None:
    import torch

    from seg_perception.models import create_model

    with torch.device("meta"):
        model = create_model(entry.arch, dataset=entry.dataset).eval()
    # SegViT's count includes what makes class scores of its masks, as published ones do.
    run = model.scores if entry.arch.startswith("segvit") else model
    with torch.no_grad(), FlopCounter() as counter:
        run(torch.zeros(1, 3, *entry.size, device="meta"))
    assert counter.flops / 2e9 == pytest.approx(entry.gmacs, rel=5e-5)  # given in five digits
    # The official networks have auxiliary heads and unused weights besides.
    built = sum(p.numel() for p in model.parameters())
    assert entry.parameters - built in range(NOT_BUILT.get(entry.arch.split("_")[0], 0) + 1)


def test_parameters_are_those_of_the_official_networks(reference_folder: Path) -> None:
    recorded = {}
    for path in reference_folder.glob("*/*.config.json"):
        content = json.loads(path.read_text())
        recorded[f"{content['family']}_{content['variant']}"] = content["complexity"]["params"]
    seen = 0
    for entry in ENTRIES:
        size = f"_{entry.size[0]}" if entry.arch.startswith("segvit") else ""
        official = recorded.get(f"{entry.arch}_{entry.dataset}{size}")
        if official is not None:
            seen += 1
            assert entry.parameters == official, entry
    assert seen >= 38


def test_models_lists_shows_and_finds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"arch", "dataset", "parameters", "gmacs"} <= set(rows[0])
    assert cli.main(["models", "show", "default"]) == 0
    assert "pedestrian" in capsys.readouterr().out
    assert cli.main(["models", "path", "default"]) == 0
    assert capsys.readouterr().out.strip().endswith("default.onnx")
    assert cli.main(["models", "path", "tiny"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_failures_exit_1_and_wrong_usage_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "show", "/nowhere.onnx"]) == 1
    assert "no model file at /nowhere.onnx" in capsys.readouterr().err
    assert cli.main(["models", "path", "big"]) == 1
    assert "no bundled model 'big'; there are: default, tiny" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main(["fly"])
    assert stop.value.code == 2


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; import seg_perception.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'numba', 'cv2', 'rclpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
