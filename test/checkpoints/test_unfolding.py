"""An exported file becomes the network again that it was made of, ready to be trained on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from seg_perception import weights
from seg_perception.bags.clip import bundled_images
from seg_perception.catalogue import MEAN, STD
from seg_perception.checkpoints.export import TOLERANCE, export_onnx
from seg_perception.checkpoints.unfolding import as_input, unfold
from seg_perception.errors import CheckpointError, ModelError
from seg_perception.images import resized
from seg_perception.manifest import InputSpec, Manifest
from seg_perception.models import create_model
from seg_perception.runtimes.onnx import OnnxRuntime


def rgb(size: tuple[int, int], count: int) -> list[np.ndarray]:
    return [resized(image, size)[..., ::-1] for image in bundled_images(count)]


@torch.no_grad()
def test_the_bundled_model_gives_its_own_logits_and_learns_as_it_is_used() -> None:
    path = weights.resolve("tiny")
    runtime = OnnxRuntime(path)
    size = runtime.manifest.input.size
    images = rgb(size, 4)
    network, manifest = unfold(path, images)
    assert manifest.classes == runtime.manifest.classes
    trained = InputSpec(size, mean=MEAN, std=STD)
    batch = torch.cat([as_input(image, trained) for image in images])
    expected = runtime.run(np.ascontiguousarray(images[1][None, ..., ::-1]))[0]
    found = network(batch)
    assert np.abs(found[1].numpy() - expected).max() <= TOLERANCE * np.abs(expected).max()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert max(float(norm.running_var.max()) for norm in norms) > 1.5  # measured, not 1
    learning = network.train()(batch)
    assert (learning.argmax(1) == found.argmax(1)).float().mean() > 0.95


def export(tmp_path: Path, arch: str) -> Path:
    torch.manual_seed(0)
    network = create_model(arch, dataset="", num_classes=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    card = {"classes": ["a", "b", "c"], "architecture": arch, "output": {"kind": "logits"},
            "input": {"size": [64, 96], "mean": list(MEAN), "std": list(STD)}}  # fmt: skip
    export_onnx(network, Manifest.from_dict(card), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_a_network_whose_export_is_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="of its .* weights in another form.*its .pt file"):
        unfold(export(tmp_path, "segformer_b0"), [])


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = export(tmp_path, "topformer_tiny")
    model = onnx.load(str(path))
    model.graph.initializer[5].raw_data = bytes(len(model.graph.initializer[5].raw_data))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="sha256"):
        unfold(path, [])
