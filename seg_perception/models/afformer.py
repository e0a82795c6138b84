"""AFFormer tiny, small and base (Dong et al., AAAI 2023), state-dict compatible with the official
checkpoints.

A pixel branch stays at 1/8 of the input; a token branch at 1/8, 1/16 and 1/32 runs linear attention
and is added back to it after every stage. There is no decoder: logits come out at 1/8.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.models.layers import (
    DepthwiseConv,
    Upsampled,
    pool_adaptive,
    resize_bilinear,
)


@dataclass(frozen=True)
class AFFormerConfig:
    """Shape of one variant: widths of the four stages, attention layers of the last three."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int]
    head_width: int = 256
    dropout: float = 0.1


CONFIGS = {
    "afformer_tiny": AFFormerConfig((32, 64, 160, 216), (2, 4, 2)),
    "afformer_small": AFFormerConfig((32, 64, 176, 216), (2, 4, 2)),
    "afformer_base": AFFormerConfig((32, 96, 176, 216), (2, 6, 2)),
}
UNUSED = ("decode_head.align.",)

STRIDES = ((1, 1), (2, 1), (1, 2), (1, 4))  # of a stage's two patch embeddings: pixels, tokens
HEADS = 8
WINDOWS = {3: 2, 5: 3, 7: 3}  # kernel of the positional convolutions -> heads that it serves
POOLS = (1, 2, 3, 6)
MLP_RATIO = 2
NORM_EPS = 1e-6


class ConvNorm(nn.Module):
    """Convolve without bias, normalise and apply Hardswish unless `activate` is off."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.hardswish(x) if self.activate else x


class SeparableConv(nn.Module):
    """Convolve depthwise, then pointwise, normalise and activate."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.pwconv = nn.Conv2d(width, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(self.bn(self.pwconv(self.dwconv(x))))


class PatchEmbed(nn.Module):
    """Embed patches of a map by one separable convolution; leaves `.patch_conv`."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.patch_conv = SeparableConv(width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.patch_conv(x)
        return y


class PatchEmbeds(nn.Module):
    """Return the pixel map and, embedded from it, the token map."""

    def __init__(self, width: int, strides: tuple[int, int]) -> None:
        super().__init__()
        self.patch_embeds = nn.ModuleList(PatchEmbed(width, stride) for stride in strides)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.patch_embeds[0](x)
        return pixels, self.patch_embeds[1](pixels)


class Restore(nn.Module):
    """Refine pixels by a residual bottleneck of half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = ConvNorm(width, half)
        self.dwconv = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.norm = nn.BatchNorm2d(half)
        self.conv2 = ConvNorm(half, width, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.hardswish(self.norm(self.dwconv(self.conv1(x)))))
        return x + y


class PositionEncoding(nn.Module):
    """Add a depthwise convolution of the map to it; leaves `.proj`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(x)
        return x + y


class FrequencyFilters(nn.Module):
    """Return two filterings of the values (N,C,H,W): depthwise convolutions, and pooled averages.

    The convolutions pass high frequencies on, the averages low ones. They stand in for relative
    positions of the attention.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = [width // HEADS * heads for heads in WINDOWS.values()]
        self.conv_list = nn.ModuleList(
            nn.Conv2d(c, c, kernel, padding=kernel // 2, groups=c)
            for c, kernel in zip(self.channels, WINDOWS, strict=True)
        )

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        size = (int(values.shape[2]), int(values.shape[3]))
        parts = torch.split(values, self.channels, dim=1)
        high = [conv(part) for conv, part in zip(self.conv_list, parts, strict=True)]
        quarters = values.chunk(len(POOLS), dim=1)
        low = [
            resize_bilinear(pool_adaptive(quarter, (cells, cells)), size)
            for quarter, cells in zip(quarters, POOLS, strict=True)
        ]
        return torch.cat(high, dim=1), F.relu(torch.cat(low, dim=1))


class Attention(nn.Module):
    """Attend in time linear in the tokens: keys are normalised over the tokens, before queries.

    The filtered values come to the sum unscaled.
    """

    def __init__(self, width: int, crpe: FrequencyFilters) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.crpe = crpe

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        n, count, width = x.shape
        depth = width // HEADS
        q, k, v = self.qkv(x).reshape(n, count, 3, HEADS, depth).permute(2, 0, 3, 1, 4)  # N h T d
        mixed = q @ (k.softmax(dim=2).transpose(2, 3) @ v) * depth**-0.5  # N h T d
        values = v.transpose(2, 3).reshape(n, width, *size)  # N C H W
        high, low = (f.reshape(n, HEADS, depth, count).transpose(2, 3) for f in self.crpe(values))
        mixed = mixed + q * high + low
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, count, width))
        return out


class Mlp(nn.Module):
    """Widen, add a mixture of 3x3 neighbours, activate, narrow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.dwconv = DepthwiseConv(MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.fc1(x)
        y: Tensor = self.fc2(F.gelu(x + self.dwconv(x, size)))
        return y


class Layer(nn.Module):
    """Encode positions, attend, mix; pre-normalised and residual.

    `cpe` and `crpe` are shared by all layers of a stage, so that their weights stand in the state
    dict under several names.
    """

    def __init__(self, width: int, cpe: PositionEncoding, crpe: FrequencyFilters) -> None:
        super().__init__()
        self.cpe = cpe
        self.crpe = crpe
        self.factoratt_crpe = Attention(width, crpe)
        self.mlp = Mlp(width)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        n, width = x.shape[:2]
        size = (int(x.shape[2]), int(x.shape[3]))
        tokens = self.cpe(x).flatten(2).transpose(1, 2)  # N T C
        tokens = tokens + self.factoratt_crpe(self.norm1(tokens), size)
        tokens = tokens + self.mlp(self.norm2(tokens), size)
        y: Tensor = tokens.transpose(1, 2).reshape(n, width, *size)
        return y


class Encoder(nn.Module):
    """Run the attention layers of one stage over its token map (N,C,H,W)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.cpe = PositionEncoding(width)
        self.crpe = FrequencyFilters(width)
        self.MHCA_layers = nn.ModuleList(Layer(width, self.cpe, self.crpe) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.MHCA_layers:
            x = layer(x)
        return x


class Stage(nn.Module):
    """Refine the pixels, add the tokens, and bring the sum to the next stage's width."""

    def __init__(self, width: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.Restore = Restore(width)
        self.aggregate = ConvNorm(width, outputs)
        if depth:
            self.mhca_blks = nn.ModuleList([Encoder(width, depth)])

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        if hasattr(self, "mhca_blks"):
            size = (int(pixels.shape[2]), int(pixels.shape[3]))
            tokens = resize_bilinear(self.mhca_blks[0](tokens), size, align_corners=True)
            x = self.Restore(pixels) + tokens
        else:
            x = self.Restore(pixels + tokens)
        y: Tensor = self.aggregate(x)
        return y


class Backbone(nn.Module):
    """Return one map (N,C,H/8,W/8)."""

    def __init__(self, config: AFFormerConfig) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Sequential(
            ConvNorm(3, widths[0] // 2, kernel=3, stride=2),
            ConvNorm(widths[0] // 2, widths[0], kernel=3, stride=2),
        )
        self.patch_embed_stages = nn.ModuleList(
            PatchEmbeds(width, strides) for width, strides in zip(widths, STRIDES, strict=True)
        )
        self.mhca_stages = nn.ModuleList(
            Stage(width, outputs, depth)
            for width, outputs, depth in zip(
                widths, (*widths[1:], widths[-1]), (0, *config.depths), strict=True
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for embed, stage in zip(self.patch_embed_stages, self.mhca_stages, strict=True):
            x = stage(*embed(x))
        return x


class Squeeze(nn.Module):
    """Convolve 1x1, normalise by groups and apply ReLU; leaves `.conv` and `.gn`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.gn = nn.GroupNorm(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.gn(self.conv(x)))


class Head(nn.Module):
    """Classify the pixels of one map."""

    def __init__(self, config: AFFormerConfig, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(config.head_width, num_classes, 1)
        self.dropout = nn.Dropout2d(config.dropout)
        self.squeeze = Squeeze(config.widths[-1], config.head_width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_seg(self.dropout(self.squeeze(x)))
        return y


class AFFormer(Upsampled):
    """Segment a normalised RGB image (N,3,H,W) float32 into logits (N,K,H/8,W/8)."""

    def __init__(self, config: AFFormerConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.decode_head = Head(config, num_classes)
