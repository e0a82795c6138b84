"""Losses for segmentation with rare classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_perception.training.data import IGNORE


def class_weights(labels: Tensor, *, classes: int, power: float) -> Tensor:
    """Return float32 (classes,) weights ~ frequency**-power, of mean 1 over the pixels."""
    counts = torch.bincount(labels.flatten().long(), minlength=IGNORE + 1)[:classes].float()
    share = counts / counts.sum()
    weights = share.clamp(min=1e-4) ** -power
    return weights / (weights * share).sum()


def cross_entropy(logits: Tensor, truth: Tensor, weights: Tensor, *, smoothing: float) -> Tensor:
    """Return the weighted mean over labelled pixels; logits (B,K,h,w) grow to truth (B,H,W)."""
    size = (int(truth.shape[1]), int(truth.shape[2]))
    full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    return F.cross_entropy(
        full, truth, weight=weights, ignore_index=IGNORE, label_smoothing=smoothing
    )
