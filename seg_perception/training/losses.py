"""Losses for segmentation with rare classes, of labels of people and of teachers alike."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from seg_perception.training.crops import Batch


def class_weights(pixels: NDArray[Any], *, power: float) -> Tensor:
    """Return float32 (K,) weights ~ frequency**-power of pixels (K,), of mean 1 over the pixels."""
    counts = torch.from_numpy(np.asarray(pixels, np.float32))
    share = counts / counts.sum()
    weights = share.clamp(min=1e-4) ** -power
    return weights / (weights * share).sum()


def mass(batch: Batch, weights: Tensor) -> Tensor:
    """Return how much all places of a batch count together, the divisor of its loss."""
    return (_share_weights(batch, weights).sum(1) * batch.weight).sum().clamp(min=1e-6)


def cross_entropy(logits: Tensor, batch: Batch, weights: Tensor, *, smoothing: float) -> Tensor:
    """Return the sum over all places of the weighted cross entropy; logits (B,K,h,w) grow to the
    labels' size. Divided by `mass` it is the weighted mean that F.cross_entropy gives."""
    size = (int(batch.weight.shape[1]), int(batch.weight.shape[2]))
    full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    log = full.log_softmax(1)
    loss = -(log.gather(1, batch.ids.long()) * _share_weights(batch, weights)).sum(1)
    if smoothing:
        spread = -(log * weights[:, None, None]).mean(1)
        loss = (1 - smoothing) * loss + smoothing * spread
    return (loss * batch.weight).sum()


def coarser(batch: Batch, by: int) -> Batch:
    """Return the batch with every `by`-th label, for maps that are that coarse."""
    labels = (t[..., by // 2 :: by, by // 2 :: by] for t in batch[1:])
    return Batch(batch.images, *labels)


def _share_weights(batch: Batch, weights: Tensor) -> Tensor:
    """Return (B,TOP,h,w): each class's share of a place (they sum to 1), times its weight."""
    shares = batch.shares.float()
    return shares / shares.sum(1, keepdim=True).clamp(min=1) * weights[batch.ids.long()]
