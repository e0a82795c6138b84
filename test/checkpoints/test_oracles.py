"""Checkpoints that other libraries write are imported by one command and give what they give.

Scripts in the folder that SEG_PERCEPTION_ORACLES names write them, each in an environment of its
own, which is made here once, in out/oracles. `make test-oracles` runs this; gigabytes, and minutes
to hours.
"""

import copy
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import reference
from support.paths import ROOT
from torch import Tensor

from seg_perception import cli
from seg_perception.checkpoints.official import load_checkpoint

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(7200)]
ENVIRONMENTS = ROOT / "out" / "oracles"
TORCH = "torch==2.13.0"  # first and alone: the newest brings gigabytes of CUDA packages
PACKAGES = {
    "hugging_face": ["transformers", "safetensors", "pillow"],
    "mmsegmentation": [
        "setuptools<80", "mmsegmentation==1.2.2", "mmengine", "mmcv-lite", "ftfy", "regex",
        "prettytable",
    ],
}  # fmt: skip


class Case(NamedTuple):
    """What a script is asked for, and what its checkpoint is to be recognised as."""

    library: str
    arguments: tuple[str, ...]
    architecture: str
    classes: int


CASES = [
    *(
        Case("hugging_face", (size, str(classes)), f"segformer_{size}", classes)
        for size, classes in (("b0", 150), ("b0", 7), ("b2", 150), ("b2", 7))
    ),
    *(
        Case("mmsegmentation", (f"segformer/segformer_mit-{config}.py",), architecture, classes)
        for config, architecture, classes in (
            ("b0_8xb2-160k_ade20k-512x512", "segformer_b0", 150),
            ("b0_8xb1-160k_cityscapes-1024x1024", "segformer_b0", 19),
            ("b2_8xb2-160k_ade20k-512x512", "segformer_b2", 150),
            ("b2_8xb1-160k_cityscapes-1024x1024", "segformer_b2", 19),
        )
    ),
    *(
        Case("mmsegmentation", (f"setr/setr_vit-l_{head}_{config}.py",), f"setr_{head}", classes)
        for head in ("naive", "pup", "mla")
        for config, classes in (
            ("8xb2-160k_ade20k-512x512", 150), ("8xb1-80k_cityscapes-768x768", 19)
        )
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def scripts() -> Path:
    """Return the folder with the scripts, or skip."""
    named = os.environ.get("SEG_PERCEPTION_ORACLES", "")
    if not Path(named, "hugging_face.py").is_file():
        pytest.skip("SEG_PERCEPTION_ORACLES does not name the folder with the oracle scripts")
    return Path(named).resolve()


def environment(library: str) -> Path:
    """Return the python of an environment with a library, made where it is not there yet."""
    folder = ENVIRONMENTS / library
    python, done = folder / "bin" / "python", folder / ".done"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        for packages in ([TORCH], PACKAGES[library]):
            install = [str(python), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(install, check=True)
        done.touch()
    return python


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.library}-{c.architecture}-{c.classes}")
def test_a_librarys_checkpoint_gives_what_the_library_gives(
    case: Case, scripts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    script = scripts / f"{case.library}.py"
    python = environment(case.library)
    subprocess.run(
        [str(python), str(script), str(made), *case.arguments],
        check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    checkpoint = made if case.library == "hugging_face" else made / "checkpoint.pth"
    capfd.readouterr()
    assert cli.main(["import", str(checkpoint), "-o", str(tmp_path / "m.pt"), "--json"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert line["architecture"] == case.architecture
    assert line["dialect"] == case.library
    assert line["classes"] == case.classes
    (tmp_path / "m.pt").unlink()
    with capfd.disabled():
        print(compare(checkpoint, made), file=sys.stderr)


@torch.no_grad()
def compare(checkpoint: Path, made: Path) -> str:
    """Compare logits and labels with the recorded ones; return the numbers."""
    network = load_checkpoint(checkpoint).network
    x = torch.from_numpy(np.load(made / "picture.npy"))
    expected = np.load(made / "logits.npy")

    def logits(network: torch.nn.Module, x: Tensor) -> np.ndarray:
        y = network(x) if expected.shape[2:] != x.shape[2:] else network.scores(x)  # type: ignore
        return np.asarray(y)

    actual = logits(network, x)
    assert actual.shape == expected.shape
    difference, limit = float(np.abs(actual - expected).max()), 1e-4 * float(expected.std())
    if difference > limit:  # worth a network in double precision
        exact = logits(copy.deepcopy(network).double(), x.double())
        limit = reference.tolerance(expected, exact)
    assert difference <= limit
    size = (int(x.shape[2]), int(x.shape[3]))
    full = F.interpolate(torch.from_numpy(actual), size, mode="bilinear")[0]
    recorded = made / "labels.npy"
    labels = torch.from_numpy(np.load(recorded) if recorded.exists() else expected[0].argmax(0))
    two = full.topk(2, 0).values
    ties = (two[0] - two[1]) <= 2 * limit
    differ = full.argmax(0) != labels
    assert not (differ & ~ties).any()
    return (
        f"{difference:.1e} of {limit:.1e} allowed, std {expected.std():.3g}; "
        f"{int(differ.sum())} of {differ.numel()} labels differ, all of them ties"
    )
