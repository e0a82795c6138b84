"""The networks that benchmarks/gpu.py measures, and their weights."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seg_perception.checkpoints import load_official
from seg_perception.errors import ModelError
from seg_perception.models import create_model
from seg_perception.runtimes.pt_file import read_model

TESTS = Path(__file__).resolve().parents[1] / "test"


@dataclass(frozen=True)
class Case:
    """One network at one input size (height, width); `changes` are fields of its config."""

    name: str
    arch: str
    dataset: str
    size: tuple[int, int]
    changes: Mapping[str, Any] = field(default_factory=dict)

    def network(self) -> nn.Module:
        network = create_model(self.arch, dataset=self.dataset, **self.changes)
        return network.eval()


CASES = {
    case.name: case
    for case in (
        Case("hrformer", "hrformer_base_ocr_v2", "cityscapes", (1024, 2048)),
        Case("segvit", "segvit_vitl", "ade20k", (640, 640)),
        Case("segvit_shrunk", "segvit_vitl_shrunk", "ade20k", (640, 640)),
        Case("segformer", "segformer_b5", "cityscapes", (1024, 1024)),
        Case("setr", "setr_pup", "cityscapes", (768, 768)),
        Case("topformer", "topformer_base", "cityscapes", (512, 1024)),
    )
}
SHRUNK = ("segvit", "segvit_shrunk")


def count_flops(case: Case) -> int:
    """Return the floating-point operations of convolutions and products for one image."""
    with torch.device("meta"):
        network = case.network()
        x = torch.empty(1, 3, *case.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops())


def load(case: Case, checkpoint: Path | None) -> nn.Module:
    """Return the network with the weights of a checkpoint, or by the rule of the goldens.

    The rule's weights are no trained ones, but unlike freshly initialised ones they tell places
    and classes apart. A checkpoint is an official one, or a .pt model file of this package.
    """
    if checkpoint is None:
        return with_reference_weights(case.network())
    if checkpoint.suffix != ".pt":
        return load_official(checkpoint, arch=case.arch, dataset=case.dataset)
    network, manifest = read_model(checkpoint)
    if (manifest.architecture, manifest.dataset) != (case.arch, case.dataset):
        raise ModelError(
            f"{checkpoint} is {manifest.architecture} of {manifest.dataset}; the case {case.name} "
            f"needs {case.arch} of {case.dataset}"
        )
    return network


def with_reference_weights(network: nn.Module) -> nn.Module:
    """Fill in the weights that test/support/reference.py draws from the tensors' names."""
    sys.path.insert(0, str(TESTS))
    try:
        from support import reference  # the rule is written there
    finally:
        sys.path.pop(0)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(reference.tensor(key, list(value.shape))))
    return network
