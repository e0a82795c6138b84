"""Score a network on held-out images as they come: of any sizes, one in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_perception.bags.frames import ahead
from seg_perception.catalogue import preparation
from seg_perception.images import resized
from seg_perception.labels import UNKNOWN
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.training.data_page import truth_of
from seg_perception.training.labels import read_pixels
from seg_perception.training.preparation import STEP, Run
from seg_perception.training.split import scored

EXPORTED = "miou"  # the score at the exported size


@torch.no_grad()
def evaluate(network: nn.Module, run: Run) -> dict[str, float]:
    """Return the mIoU (0..1, void ignored) at the images' own size: `miou` of the exported input
    size, and `miou@S` of S times the image's size for each evaluation scale."""
    network.eval()
    config = run.config
    names = [EXPORTED, *(f"miou@{scale:g}" for scale in config.eval_scales)]
    classes = len(run.data.card.classes)
    matrices = {name: ConfusionMatrix(classes, (UNKNOWN,)) for name in names}
    for image, truth in ahead(_pairs(run)):
        sizes = [run.size, *(_scaled(truth.shape, scale) for scale in config.eval_scales)]
        for matrix, size in zip(matrices.values(), sizes, strict=True):
            matrix.add(truth, _labels(network, resized(image, size), truth.shape, run))
    return {name: float(np.nan_to_num(m.miou())) for name, m in matrices.items()}


def normalise(images: Tensor, run: Run) -> Tensor:
    """Turn RGB in 0..255 (N,3,H,W) into the network's input."""
    usual = preparation(run.begun.arch, str(run.data.card.keys.get("dataset", "")))
    mean, std = (
        torch.tensor(v, device=images.device)[:, None, None] for v in (usual.mean, usual.std)
    )
    ordered = images if usual.color == "RGB" else images.flip(1)
    return ((ordered - mean) / std).contiguous(memory_format=torch.channels_last)


def _pairs(run: Run) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for item in scored(run.items):
        yield read_pixels(Path(item.image)), truth_of(run.data, item)


def _labels(
    network: nn.Module, image: NDArray[np.uint8], size: Sequence[int], run: Run
) -> NDArray[np.uint8]:
    device = next(network.parameters()).device
    x = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32)).to(device)
    logits = network(normalise(x, run)).float()
    full = F.interpolate(logits, (size[0], size[1]), mode="bilinear", align_corners=False)
    return full.argmax(1)[0].byte().cpu().numpy()


def _scaled(size: Sequence[int], scale: float) -> tuple[int, int]:
    height, width = (max(STEP, round(side * scale / STEP) * STEP) for side in size)
    return height, width
