"""The head of object-contextual representations, OCR (Yuan et al., ECCV 2020).

Each class is described by the pixels that look like it; every pixel attends to the descriptions.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 512
KEY_WIDTH = 256


def projections(*widths: int, kernel: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return convolutions from each width to the next, each normalised and activated."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
        layers += [conv, nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU())]
    return layers


class ObjectAttention(nn.Module):
    """Let each pixel (N,C,H,W) attend to the descriptions of the classes (N,C,K,1)."""

    def __init__(self) -> None:
        super().__init__()
        self.f_pixel = nn.Sequential(*projections(HEAD_WIDTH, KEY_WIDTH, KEY_WIDTH))
        self.f_object = nn.Sequential(*projections(HEAD_WIDTH, KEY_WIDTH, KEY_WIDTH))
        self.f_down = nn.Sequential(*projections(HEAD_WIDTH, KEY_WIDTH))
        self.f_up = nn.Sequential(*projections(KEY_WIDTH, HEAD_WIDTH))

    def forward(self, pixels: Tensor, objects: Tensor) -> Tensor:
        n, _, h, w = (int(s) for s in pixels.shape)
        q = self.f_pixel(pixels).flatten(2).transpose(1, 2)  # N HW d
        k = self.f_object(objects).flatten(2).transpose(1, 2)  # N K d
        v = self.f_down(objects).flatten(2).transpose(1, 2)  # N K d
        mixed = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.f_up(mixed.transpose(1, 2).reshape(n, KEY_WIDTH, h, w))
        return y


class Distribution(nn.Module):
    """Add to each pixel the context of its classes, and fuse (N,C,H,W)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention()
        fuse = projections(2 * HEAD_WIDTH, HEAD_WIDTH)
        self.conv_bn_dropout = nn.Sequential(*fuse, nn.Dropout2d(dropout))

    def forward(self, pixels: Tensor, objects: Tensor) -> Tensor:
        context = self.object_context_block(pixels, objects)
        y: Tensor = self.conv_bn_dropout(torch.cat([context, pixels], dim=1))
        return y


def gather_objects(pixels: Tensor, regions: Tensor) -> Tensor:
    """Return (N,C,K,1): pixels (N,C,H,W) averaged by each class's softmax over space of regions."""
    shares = regions.flatten(2).softmax(dim=2)  # N K HW
    return (shares @ pixels.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(3)
