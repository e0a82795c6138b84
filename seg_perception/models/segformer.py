"""SegFormer B0 to B5 (Xie et al., NeurIPS 2021), state-dict compatible with official checkpoints.

What other libraries changed are fields of the config; segformer_dialects.py tells their keys.

Four stages of overlapping patches and transformer blocks whose keys and values are reduced in
space; a head of linear layers sums the levels at 1/4. Logits come out at 1/4 of the input.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.models.layers import (
    ConvModule,
    DepthwiseConv,
    DropPath,
    Upsampled,
    add_resized,
    drop_rates,
    resize_bilinear,
)

REDUCTIONS = (8, 4, 2, 1)  # of keys and values in space, by stage
HEADS = (1, 2, 5, 8)
MLP_RATIO = 4


@dataclass(frozen=True)
class SegFormerConfig:
    """Shape of one variant.

    `block_eps` is of a block's and a stage's norms, `coarse_eps` of those of patch embeddings and
    reductions. `head`: linear projections, or convolutions that are normalised and rectified.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    head_width: int
    drop_path: float = 0.1
    dropout: float = 0.1
    block_eps: float = 1e-6
    coarse_eps: float = 1e-5
    head: Literal["linear", "conv"] = "linear"


_WIDE = (64, 128, 320, 512)
CONFIGS = {
    "segformer_b0": SegFormerConfig((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "segformer_b1": SegFormerConfig(_WIDE, (2, 2, 2, 2), 256),
    "segformer_b2": SegFormerConfig(_WIDE, (3, 4, 6, 3), 768),
    "segformer_b3": SegFormerConfig(_WIDE, (3, 4, 18, 3), 768),
    "segformer_b4": SegFormerConfig(_WIDE, (3, 8, 27, 3), 768),
    "segformer_b5": SegFormerConfig(_WIDE, (3, 6, 40, 3), 768),
}


class PatchEmbed(nn.Module):
    """Embed overlapping patches by a strided convolution, then normalise the tokens."""

    def __init__(self, inputs: int, width: int, *, kernel: int, stride: int, eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.proj(x)
        size = (x.shape[2], x.shape[3])  # no int(): an export may leave them free
        return self.norm(x.flatten(2).transpose(1, 2)), size  # N T C


class Attention(nn.Module):
    """Attend from every token to tokens reduced `reduction`-fold in each direction."""

    def __init__(self, width: int, heads: int, reduction: int, *, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        n, count, width = x.shape
        fewer = x
        if hasattr(self, "sr"):
            plane = x.transpose(1, 2).reshape(n, width, *size)
            fewer = self.norm(self.sr(plane).flatten(2).transpose(1, 2))  # N t C
        q = self.q(x).reshape(n, count, self.heads, -1).transpose(1, 2)  # N h T d
        k, v = self.kv(fewer).reshape(n, fewer.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, count, width))
        return out


class Mlp(nn.Module):
    """Widen, mix 3x3 neighbours, activate, narrow (Mix-FFN of the paper)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.dwconv = DepthwiseConv(MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x), size)))
        return y


class Block(nn.Module):
    """Attend, then mix; pre-normalised and residual."""

    def __init__(self, config: SegFormerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        width, heads, reduction = config.widths[stage], HEADS[stage], REDUCTIONS[stage]
        self.norm1 = nn.LayerNorm(width, eps=config.block_eps)
        self.attn = Attention(width, heads, reduction, eps=config.coarse_eps)
        self.norm2 = nn.LayerNorm(width, eps=config.block_eps)
        self.mlp = Mlp(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), size))
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x), size))
        return y


class Backbone(nn.Module):
    """Return four maps at 1/4, 1/8, 1/16 and 1/32 of the input."""

    def __init__(self, config: SegFormerConfig) -> None:
        super().__init__()
        rates = iter(drop_rates(config.drop_path, sum(config.depths)))
        inputs = 3
        for i, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            eps = config.coarse_eps
            patches = PatchEmbed(inputs, width, kernel=kernel, stride=stride, eps=eps)
            blocks = [Block(config, i, next(rates)) for _ in range(depth)]
            self.add_module(f"patch_embed{i + 1}", patches)
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(width, eps=config.block_eps))
            inputs = width

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i in range(1, 5):
            tokens, size = self.get_submodule(f"patch_embed{i}")(x)
            for block in self.get_submodule(f"block{i}").children():
                tokens = block(tokens, size)
            tokens = self.get_submodule(f"norm{i}")(tokens)
            x = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)
            maps.append(x)
        return maps


class LevelLinear(nn.Module):
    """Project the tokens of one level; leaves `.proj`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return y.reshape(x.shape[0], -1, *(int(s) for s in x.shape[2:]))


class Head(nn.Module):
    """Bring the levels to one width and size, concatenate coarsest first, fuse and classify.

    `conv_seg` stands in the official state dict and is never used.
    """

    def __init__(self, config: SegFormerConfig, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(128, num_classes, 1)
        for i in (4, 3, 2, 1):
            level = LevelLinear(config.widths[i - 1], config.head_width)
            self.add_module(f"linear_c{i}", level)
        self.linear_fuse = ConvModule(4 * config.head_width, config.head_width, relu=True)
        self.dropout = nn.Dropout2d(config.dropout)
        self.linear_pred = nn.Conv2d(config.head_width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = (int(maps[0].shape[2]), int(maps[0].shape[3]))
        levels = [
            resize_bilinear(self.get_submodule(f"linear_c{i}")(maps[i - 1]), size)
            for i in (4, 3, 2, 1)
        ]
        fused = self.linear_fuse(torch.cat(levels, dim=1))
        y: Tensor = self.linear_pred(self.dropout(fused))
        return y

    def simplified(self) -> "FusedHead":
        """Return the same function with less to compute; for inference alone."""
        return FusedHead(self)


class FusedHead(nn.Module):
    """Equal `Head` but for rounding, with one convolution a level, at the level's own size.

    Projection, fusing and normalisation are linear, and the weights of bilinear resizing sum to 1,
    so resizing commutes with them: s (F [up(P4 x4 + b4) .. up(P1 x1 + b1)] - m) + t is the sum of
    up(s F_i P_i x_i) and a constant.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        norm = head.linear_fuse.bn
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shares = head.linear_fuse.conv.weight[:, :, 0, 0].chunk(4, dim=1)  # of c4, c3, c2, c1
        constant = norm.bias - scale * norm.running_mean
        levels: list[nn.Conv2d] = []
        for i, share in zip((4, 3, 2, 1), shares, strict=True):
            proj = head.get_submodule(f"linear_c{i}.proj")
            assert isinstance(proj, nn.Linear)
            level = nn.Conv2d(proj.in_features, len(scale), 1, bias=i == 1).to(scale)
            level.weight = nn.Parameter((scale[:, None] * (share @ proj.weight))[:, :, None, None])
            constant = constant + scale * (share @ proj.bias)
            levels.insert(0, level)
        levels[0].bias = nn.Parameter(constant)
        self.levels = nn.ModuleList(levels)
        self.linear_pred = head.linear_pred

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, *coarse = (level(x) for level, x in zip(self.levels, maps, strict=True))
        y: Tensor = self.linear_pred(F.relu(add_resized(fine, coarse)))
        return y


class ConvHead(nn.Module):
    """Do as `Head` with a normalised, rectified convolution a level, finest level first.

    Source: mmsegmentation's SegFormer; its `conv_seg` is `linear_pred` here.
    """

    def __init__(self, config: SegFormerConfig, num_classes: int) -> None:
        super().__init__()
        width = config.head_width
        self.convs = nn.ModuleList(ConvModule(w, width, relu=True) for w in config.widths)
        self.fusion_conv = ConvModule(4 * width, width, relu=True)
        self.dropout = nn.Dropout2d(config.dropout)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = (int(maps[0].shape[2]), int(maps[0].shape[3]))
        levels = [resize_bilinear(conv(x), size) for conv, x in zip(self.convs, maps, strict=True)]
        fused = self.fusion_conv(torch.cat(levels, dim=1))
        y: Tensor = self.linear_pred(self.dropout(fused))
        return y

    def simplified(self) -> "FusedConvHead":
        """Return the same function with less to compute; for inference alone."""
        return FusedConvHead(self)


class FusedConvHead(nn.Module):
    """Equal `ConvHead` but for rounding: each level is fused at its own size, as in `FusedHead`."""

    def __init__(self, head: ConvHead) -> None:
        super().__init__()
        norm = head.fusion_conv.bn
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shares = (scale[:, None, None, None] * head.fusion_conv.conv.weight).chunk(4, dim=1)
        self.convs = head.convs
        self.shares = nn.ModuleList()
        for i, share in enumerate(shares):
            level = nn.Conv2d(share.shape[1], len(scale), 1, bias=i == 0).to(scale)
            level.weight = nn.Parameter(share)
            self.shares.append(level)
        self.shares[0].bias = nn.Parameter(norm.bias - scale * norm.running_mean)
        self.linear_pred = head.linear_pred

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, *coarse = (
            share(conv(x)) for share, conv, x in zip(self.shares, self.convs, maps, strict=True)
        )
        y: Tensor = self.linear_pred(F.relu(add_resized(fine, coarse)))
        return y


class SegFormer(Upsampled):
    """Segment a normalised RGB image (N,3,H,W) float32 into logits (N,K,H/4,W/4)."""

    multiple = 32

    def __init__(self, config: SegFormerConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        head = Head if config.head == "linear" else ConvHead
        self.decode_head = head(config, num_classes)
