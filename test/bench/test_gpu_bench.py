"""The benchmark for GPUs runs anywhere; only its numbers need a GPU."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.paths import ROOT

from seg_perception import catalogue
from seg_perception.checkpoints.zoo import describe
from seg_perception.errors import ModelError
from seg_perception.models import class_counts
from seg_perception.runtimes import PRECISIONS
from seg_perception.runtimes.pt_file import write_model

FOLDER = ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))  # as where the script is run
import gpu  # noqa: E402
import gpu_cases  # noqa: E402
import gpu_page  # noqa: E402

TINY = gpu_cases.Case("topformer", "topformer_tiny", "cityscapes", (64, 128))
SMALL = {"size": 64, "width": 32, "depth": 3, "heads": 2, "head_width": 16, "head_heads": 2}
VITS = [
    gpu_cases.Case("segvit", "segvit_vitb", "ade20k", (64, 64), {**SMALL, "taps": (0, 1, 2)}),
    gpu_cases.Case(
        "segvit_shrunk", "segvit_vitl_shrunk", "ade20k", (64, 64),
        {**SMALL, "taps": (0, 2), "shrink_at": 1},
    ),
]  # fmt: skip
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("gpu") / "out" / "gpu.json"
    measured = gpu.run(gpu.Bench("cpu", rounds=2), [TINY, *VITS], {}, path)
    assert [p.name for p in path.parent.iterdir()] == ["gpu.json"]
    read: dict[str, Any] = json.loads(path.read_text("utf-8"))
    assert read == json.loads(json.dumps(measured))
    return read


def test_every_setting_is_measured_or_said_to_be_missing(result: dict[str, Any]) -> None:
    assert set(result) == {"rounds", "machine", "cases", "shrunk_over_plain"}
    for case in result["cases"].values():
        assert set(case["settings"]) | set(case["failed"]) == {*gpu.BASELINES, *PRECISIONS}
        assert "NVIDIA" in case["failed"]["tf32"]  # no setting quietly becomes another one
        for found in case["settings"].values():
            for key in ("ms", "ms_network", "eager_over", "eager_over_network"):
                low, high = found[f"{key}_spread"]
                assert 0 < low <= found[key] <= high
            assert found["share_of_product"] > 0
    assert set(result["cases"]["topformer"]["product_tflops"]) == set(PRECISIONS)


def test_agreement_is_that_of_labels(result: dict[str, Any]) -> None:
    for case in result["cases"].values():
        settings = case["settings"]
        assert settings["eager"]["agreement"] == 1
        assert settings["fp32"]["agreement_lowest"] >= gpu.ENOUGH
        assert settings["bf16"]["agreement"] > 0.9
        assert case["best"]["agreement"] >= gpu.ENOUGH
        assert case["best"]["setting"] not in gpu.BASELINES


def test_operations_are_those_of_the_catalogue(result: dict[str, Any]) -> None:
    for case in gpu_cases.CASES.values():
        entry = catalogue.find(case.arch, case.dataset)
        assert entry is not None
        assert entry.size == case.size
        # SegViT's published count includes the sum over masks at full size, our label stage's work.
        summed = case.arch.startswith("segvit")
        apart = class_counts(case.arch, case.dataset)[0] ** 2 * math.prod(case.size) * summed
        counted = gpu_cases.count_flops(case) / 2e9 + apart / 1e9
        assert counted == pytest.approx(entry.gmacs, rel=5e-5)  # given in five digits
    tiny = result["cases"]["topformer"]
    assert 0 < tiny["gflop"] < 1
    assert tiny["parameters"] == sum(p.numel() for p in TINY.network().parameters())


def test_shrunk_is_compared_with_plain_in_the_same_rounds(result: dict[str, Any]) -> None:
    for name in ("fp32", "fp32_network", "bf16"):
        low, high = result["shrunk_over_plain"][f"{name}_spread"]
        assert 0 < low <= result["shrunk_over_plain"][name] <= high


def test_labels_of_the_weights_by_the_rule_mean_something() -> None:
    subject = gpu.Eager(
        gpu.load(TINY, None), gpu._manifest(TINY), torch.device("cpu"), default=False
    )
    labels = subject.labels(gpu._images(gpu._manifest(TINY))[0])
    assert labels.shape == TINY.size
    assert np.bincount(labels.ravel()).max() < 0.9 * labels.size


def test_weights_come_from_a_model_file_of_the_same_network(tmp_path: Path) -> None:
    network = gpu.load(TINY, None)
    path = tmp_path / "tiny.pt"
    write_model(network, describe(TINY.arch, TINY.dataset, classes=19, size=TINY.size), path)
    loaded = gpu.load(TINY, path).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in network.state_dict().items())
    with pytest.raises(ModelError, match="the case setr needs setr_pup of cityscapes"):
        gpu.load(gpu_cases.CASES["setr"], path)


@needs_no_gpu
def test_without_a_gpu_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "gpu.md"
    assert gpu.main(["--json", str(tmp_path / "gpu.json"), "--markdown", str(page)]) == 1
    assert "finds no CUDA device: install a CUDA build" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_script_writes_the_page_that_is_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]
) -> None:
    monkeypatch.setattr(gpu, "run", lambda *_: result)
    page = tmp_path / "gpu.md"
    given = ["--device", "cpu", "--case", "topformer", "--json", "x.json", "--markdown", str(page)]
    assert gpu.main(given) == 0
    written, here = page.read_text("utf-8"), gpu_page.PAGE.read_text("utf-8")
    before, after = written.split(gpu_page.RESULTS)
    assert before == here.split(gpu_page.RESULTS)[0]
    assert "| bf16 | " in after
    assert "tf32 failed: precision 'tf32'" in after


@pytest.mark.parametrize(
    "wrong", [["--rounds=0"], ["--case=alexnet"], ["--checkpoint=setr=gone.pth"], ["--device=tpu"]]
)
def test_wrong_usage_is_told(wrong: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--json", str(tmp_path / "x.json"), *wrong])
