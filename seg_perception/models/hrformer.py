"""HRFormer small and base with the OCR head (Yuan et al., NeurIPS 2021), state-dict compatible with
the official checkpoints.

Up to four branches at 1/4 .. 1/32 attend within windows side by side and exchange their maps after
every two blocks. Logits come out at 1/4 of the input, which may have any size.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.models.layers import DropPath, Upsampled, drop_rates, resize_bilinear
from seg_perception.models.ocr import HEAD_WIDTH, Distribution, gather_objects, projections

STEM = 64  # channels after the two strided convolutions
MODULES = (1, 4, 2)  # exchanges of stages 2, 3 and 4
DEPTH = 2  # blocks of a branch between two exchanges
MLP_RATIO = 4
NORM_EPS = 1e-6  # of the layer norms; batch norms keep torch's 1e-5


@dataclass(frozen=True)
class HRFormerConfig:
    """Shape of one variant; branch i has `width` * 2**i channels and `heads`[i] heads."""

    width: int
    heads: tuple[int, int, int, int]
    window: int = 7
    wide_kernels: bool = False  # version 3 of the head: grouped 7x7 convolutions instead of 3x3
    drop_path: float = 0.2
    dropout: float = 0.05


_SMALL, _BASE = (1, 2, 4, 8), (2, 4, 8, 16)
CONFIGS = {
    "hrformer_small_ocr_v2": HRFormerConfig(32, _SMALL),
    "hrformer_small_ocr_v3": HRFormerConfig(32, _SMALL, wide_kernels=True),
    "hrformer_base_ocr_v2": HRFormerConfig(78, _BASE),
    "hrformer_base_ocr_v3": HRFormerConfig(78, _BASE, wide_kernels=True),
    "hrformer_base_win13_ocr_v2": HRFormerConfig(78, _BASE, window=13),
    "hrformer_base_win15_ocr_v2": HRFormerConfig(78, _BASE, window=15),
    "hrformer_base_win15_ocr_v3": HRFormerConfig(78, _BASE, window=15, wide_kernels=True),
}


def _conv_bn(inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):
    """Narrow, convolve 3x3, widen and add the input (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = _conv_bn(inputs, width)
        self.conv2, self.bn2 = _conv_bn(width, width, kernel=3)
        self.conv3, self.bn3 = _conv_bn(width, outputs)
        same = inputs == outputs
        self.downsample = nn.Identity() if same else nn.Sequential(*_conv_bn(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


class Attention(nn.Module):
    """Attend within each window (B,T,C) with a learned bias for every relative position.

    Source of the bias: Swin Transformer (Liu et al., ICCV 2021). State dicts may lack
    `relative_position_index`, which follows from the window.
    """

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", _relative_positions(window))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(f"{prefix}relative_position_index", self.relative_position_index)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = (int(s) for s in x.shape)
        q, k, v = (
            project(x).reshape(count, tokens, self.heads, width // self.heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # B h T d
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        y: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(count, tokens, width))
        return y


def _relative_positions(window: int) -> Tensor:
    """Return (T,T): the row of the bias table for each pair of a window's pixels."""
    line = torch.arange(window, device="cpu")  # with values where weights have none yet
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return down * (2 * window - 1) + right


class WindowAttention(nn.Module):
    """Cut (N,H,W,C) into windows, after padding with zeros on all sides, and attend in each.

    The padding takes part in the attention: official weights were trained that way.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(width, heads, window)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = (int(s) for s in x.shape)
        size = self.window
        rows, columns = -(-h // size), -(-w // size)
        below, right = rows * size - h, columns * size - w
        top, left = below // 2, right // 2
        x = F.pad(x, (0, 0, left, right - left, top, below - top))
        x = x.reshape(n, rows, size, columns, size, c).transpose(2, 3)
        x = self.attn(x.reshape(n * rows * columns, size * size, c))
        x = x.reshape(n, rows, columns, size, size, c).transpose(2, 3)
        x = x.reshape(n, rows * size, columns * size, c)
        return x[:, top : top + h, left : left + w]


class Mlp(nn.Module):
    """Widen, mix 3x3 neighbours, narrow; each is normalised and activated, the last too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * width
        self.fc1, self.norm1 = nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden)
        self.dw3x3 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.fc2, self.norm3 = nn.Conv2d(hidden, width, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.fc1(x)))
        x = F.gelu(self.norm2(self.dw3x3(x)))
        return F.gelu(self.norm3(self.fc2(x)))


class Block(nn.Module):
    """Attend within windows, then mix (N,C,H,W); pre-normalised and residual."""

    def __init__(self, width: int, heads: int, window: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # N H W C
        x = x + self.drop_path(self.attn(self.norm1(x)))
        mixed = self.mlp(self.norm2(x).permute(0, 3, 1, 2))  # N C H W
        y: Tensor = x.permute(0, 3, 1, 2) + self.drop_path(mixed)
        return y


class Exchange(nn.Module):
    """Run the blocks of every branch, then give each branch the sum of all, at its own size."""

    def __init__(self, widths: list[int], config: HRFormerConfig, rates: list[float]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*[Block(width, heads, config.window, rate) for rate in rates])
            for width, heads in zip(widths, config.heads, strict=False)
        )
        count = range(len(widths))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange_layer(widths, source, target) for source in count)
            for target in count
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [self._fuse(maps, target) for target in range(len(maps))]

    def _fuse(self, maps: list[Tensor], target: int) -> Tensor:
        layers = self.fuse_layers.get_submodule(str(target)).children()
        size = (int(maps[target].shape[2]), int(maps[target].shape[3]))
        parts = [layer(x) for layer, x in zip(layers, maps, strict=True)]
        # A coarse map has been enlarged by a whole factor, which overshoots odd sizes.
        fitted = [p if p.shape[2:] == size else _fit(p, size) for p in parts]
        return F.relu(sum(fitted[1:], fitted[0]))


def _fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    return resize_bilinear(x, size, align_corners=True)


def _exchange_layer(widths: list[int], source: int, target: int) -> nn.Module:
    """Return the layer that brings branch `source` to the width and about the size of `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=float(2 ** (source - target)))
        return nn.Sequential(*_conv_bn(widths[source], widths[target]), up)
    steps = []
    for step in range(source + 1, target + 1):
        width = widths[source]
        halve = nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width, bias=False)
        last = step == target
        project = _conv_bn(width, widths[target] if last else width)
        activation = [] if last else [nn.ReLU()]
        steps.append(nn.Sequential(halve, nn.BatchNorm2d(width), *project, *activation))
    return nn.Sequential(*steps)


class Backbone(nn.Module):
    """Return four maps at 1/4, 1/8, 1/16 and 1/32 of the input, each twice as wide as the last."""

    def __init__(self, config: HRFormerConfig) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_bn(3, STEM, kernel=3, stride=2)
        self.conv2, self.bn2 = _conv_bn(STEM, STEM, kernel=3, stride=2)
        self.layer1 = nn.Sequential(Bottleneck(STEM, STEM), Bottleneck(4 * STEM, STEM))
        self.widths = [config.width * 2**i for i in range(len(config.heads))]
        rates = drop_rates(config.drop_path, sum(MODULES) * DEPTH)
        present = [4 * STEM]
        for stage, count in enumerate(MODULES, start=2):
            wanted = self.widths[:stage]
            self.add_module(f"transition{stage - 1}", _transition(present, wanted))
            exchanges = []
            for _ in range(count):
                exchanges.append(Exchange(wanted, config, rates[:DEPTH]))
                rates = rates[DEPTH:]
            self.add_module(f"stage{stage}", nn.Sequential(*exchanges))
            present = wanted

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        maps: list[Tensor] = [self.layer1(x)]
        for stage in range(2, 2 + len(MODULES)):
            layers = self.get_submodule(f"transition{stage - 1}").children()
            maps = [layer(m) for layer, m in zip(layers, [*maps, maps[-1]], strict=True)]
            maps = self.get_submodule(f"stage{stage}")(maps)
        return maps


def _transition(present: list[int], wanted: list[int]) -> nn.ModuleList:
    """Return a layer per wanted branch; the last one halves the coarsest map that is present."""
    layers: list[nn.Module] = []
    for before, after in zip(present, wanted, strict=False):
        change = nn.Sequential(*_conv_bn(before, after, kernel=3), nn.ReLU())
        layers.append(nn.Identity() if before == after else change)
    halve = nn.Sequential(*_conv_bn(present[-1], wanted[-1], kernel=3, stride=2), nn.ReLU())
    return nn.ModuleList([*layers, nn.Sequential(halve)])


class HRFormer(Upsampled):
    """Segment a normalised image (N,3,H,W) float32 into logits (N,K,H/4,W/4).

    Official weights expect blue, green, red, normalised by ImageNet's means in RGB order. The
    output of `aux_head` is what the OCR head gathers by.
    """

    align_corners = True

    def __init__(self, config: HRFormerConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        inputs = sum(self.backbone.widths)
        kernel = 7 if config.wide_kernels else 3
        groups = math.gcd(inputs, HEAD_WIDTH) if config.wide_kernels else 1
        pixels = projections(inputs, HEAD_WIDTH, kernel=kernel, groups=groups)
        regions = projections(inputs, HEAD_WIDTH, kernel=kernel, groups=groups)
        self.conv3x3 = nn.Sequential(*pixels)
        self.ocr_distri_head = Distribution(config.dropout)
        self.cls_head = nn.Conv2d(HEAD_WIDTH, num_classes, 1)
        self.aux_head = nn.Sequential(*regions, nn.Conv2d(HEAD_WIDTH, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        finest, *coarser = self.backbone(x)
        size = (int(finest.shape[2]), int(finest.shape[3]))
        features = torch.cat([finest, *(_fit(m, size) for m in coarser)], dim=1)
        pixels = self.conv3x3(features)
        objects = gather_objects(pixels, self.aux_head(features))
        y: Tensor = self.cls_head(self.ocr_distri_head(pixels, objects))
        return y
