"""TopFormer tiny, small and base (Zhang et al., CVPR 2022), state-dict compatible with the official
checkpoints.

A convolutional token pyramid (1/4 .. 1/32) is pooled to 1/64 and mixed by a small transformer;
each scale then injects its share of the global tokens. Logits come out at 1/8 of the input.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.models.layers import (
    ConvBN,
    ConvModule,
    DropPath,
    Upsampled,
    add_resized,
    drop_rates,
    hard_sigmoid,
    pool_adaptive,
    resize_bilinear,
)


@dataclass(frozen=True)
class TopFormerConfig:
    """Shape of one variant; `blocks` rows are (kernel, expansion, outputs, stride)."""

    blocks: tuple[tuple[int, int, int, int], ...]
    tokens_after: tuple[int, int, int, int]
    heads: int
    width: int
    depthwise_fuse: bool = False
    token_stride: int = 2
    depth: int = 4
    drop_path: float = 0.1
    dropout: float = 0.1


_TINY = ((3, 1, 16, 1), (3, 4, 16, 2), (3, 3, 16, 1), (5, 3, 32, 2), (5, 3, 32, 1), (3, 3, 64, 2),
         (3, 3, 64, 1), (5, 6, 96, 2), (5, 6, 96, 1))  # fmt: skip
_SMALL = ((3, 1, 16, 1), (3, 4, 24, 2), (3, 3, 24, 1), (5, 3, 48, 2), (5, 3, 48, 1), (3, 3, 96, 2),
          (3, 3, 96, 1), (5, 6, 128, 2), (5, 6, 128, 1), (3, 6, 128, 1))  # fmt: skip
_BASE = ((3, 1, 16, 1), (3, 4, 32, 2), (3, 3, 32, 1), (5, 3, 64, 2), (5, 3, 64, 1), (3, 3, 128, 2),
         (3, 3, 128, 1), (5, 6, 160, 2), (5, 6, 160, 1), (3, 6, 160, 1))  # fmt: skip

CONFIGS = {
    "topformer_tiny": TopFormerConfig(_TINY, (2, 4, 6, 8), heads=4, width=128),
    "topformer_small": TopFormerConfig(_SMALL, (2, 4, 6, 9), heads=6, width=192),
    "topformer_base": TopFormerConfig(_BASE, (2, 4, 6, 9), heads=8, width=256),
}
# What the official configuration of a data set changes (FACTS: ADE tiny fuses depthwise,
# Cityscapes base is narrower).
DATASET_CHANGES: dict[tuple[str, str], dict[str, int | bool]] = {
    ("topformer_tiny", "ade20k"): {"depthwise_fuse": True},
    ("topformer_base", "cityscapes"): {"width": 128},
}

KEY_DIM = 16
VALUE_DIM = 32


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, project; add the input when the shape is kept."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, expand: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [ConvBN(inputs, hidden), nn.ReLU()]
        layers += [
            ConvBN(
                hidden, hidden, kernel=kernel, stride=stride, padding=kernel // 2, groups=hidden
            ),
            nn.ReLU(),
            ConvBN(hidden, outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class TokenPyramid(nn.Module):
    """Return four maps at 1/4, 1/8, 1/16 and 1/32 of the input; every activation is ReLU."""

    def __init__(self, config: TopFormerConfig) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBN(3, 16, kernel=3, stride=2, padding=1), nn.ReLU())
        self.tokens_after = config.tokens_after
        self.count = len(config.blocks)
        inputs = 16
        for i, (kernel, expand, outputs, stride) in enumerate(config.blocks, start=1):
            block = InvertedResidual(inputs, outputs, kernel=kernel, expand=expand, stride=stride)
            self.add_module(f"layer{i}", block)
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        tokens = []
        for i in range(self.count):
            x = self.get_submodule(f"layer{i + 1}")(x)
            if i in self.tokens_after:
                tokens.append(x)
        return tokens


class Attention(nn.Module):
    """Attend over all tokens of a map; queries are not scaled, as in the official code."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = ConvBN(width, heads * KEY_DIM)
        self.to_k = ConvBN(width, heads * KEY_DIM)
        self.to_v = ConvBN(width, heads * VALUE_DIM)
        self.proj = nn.Sequential(nn.ReLU6(), ConvBN(heads * VALUE_DIM, width))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q = self.to_q(x).reshape(n, self.heads, KEY_DIM, -1).transpose(2, 3)  # N h T k
        k = self.to_k(x).reshape(n, self.heads, KEY_DIM, -1)  # N h k T
        v = self.to_v(x).reshape(n, self.heads, VALUE_DIM, -1).transpose(2, 3)  # N h T v
        mixed = (q @ k).softmax(dim=-1) @ v  # N h T v
        out: Tensor = self.proj(mixed.transpose(2, 3).reshape(n, self.heads * VALUE_DIM, h, w))
        return out


class Mlp(nn.Module):
    """Mix channels and 3x3 neighbours; hidden width is twice the input's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = ConvBN(width, 2 * width)
        self.dwconv = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.fc2 = ConvBN(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.relu6(self.dwconv(self.fc1(x))))
        return y


class Block(nn.Module):
    """Attend, then mix; residual and without pre-normalisation."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(x))
        y: Tensor = x + self.drop_path(self.mlp(x))
        return y


class Transformer(nn.Module):
    """Run the blocks over the pooled tokens (N,C,H/64,W/64)."""

    def __init__(self, width: int, config: TopFormerConfig) -> None:
        super().__init__()
        rates = drop_rates(config.drop_path, config.depth)
        self.transformer_blocks = nn.ModuleList(Block(width, config.heads, r) for r in rates)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.transformer_blocks:
            x = block(x)
        return x


class Injection(nn.Module):
    """Gate local detail by the global tokens and add them (SIM of the paper).

    The hard sigmoid comes before the upsampling; the two do not commute.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.local_embedding = ConvModule(inputs, outputs)
        self.global_embedding = ConvModule(inputs, outputs)
        self.global_act = ConvModule(inputs, outputs)

    def forward(self, local: Tensor, tokens: Tensor) -> Tensor:
        size = (int(local.shape[2]), int(local.shape[3]))
        gate = resize_bilinear(hard_sigmoid(self.global_act(tokens)), size)
        added = resize_bilinear(self.global_embedding(tokens), size)
        y: Tensor = self.local_embedding(local) * gate + added
        return y


class Backbone(nn.Module):
    """Return three maps of equal width at 1/8, 1/16 and 1/32."""

    def __init__(self, config: TopFormerConfig) -> None:
        super().__init__()
        self.channels = [config.blocks[i][2] for i in config.tokens_after]
        self.token_stride = config.token_stride
        self.tpm = TokenPyramid(config)
        self.trans = Transformer(sum(self.channels), config)
        injections = [Injection(c, config.width) for c in self.channels[1:]]
        self.SIM = nn.ModuleList([nn.Identity(), *injections])

    def forward(self, x: Tensor) -> list[Tensor]:
        pyramid = self.tpm(x)
        h, w = ((int(s) - 1) // self.token_stride + 1 for s in pyramid[-1].shape[2:])
        pooled = torch.cat([pool_adaptive(p, (h, w)) for p in pyramid], dim=1)  # N C H/64 W/64
        tokens = self.trans(pooled).split(self.channels, dim=1)
        return [self.SIM[i](pyramid[i], tokens[i]) for i in range(1, len(pyramid))]


class SimpleHead(nn.Module):
    """Sum the maps at 1/8, fuse and classify."""

    def __init__(self, config: TopFormerConfig, num_classes: int) -> None:
        super().__init__()
        groups = config.width if config.depthwise_fuse else 1
        self.linear_fuse = ConvModule(config.width, config.width, groups=groups, relu=True)
        self.dropout = nn.Dropout2d(config.dropout)
        self.conv_seg = nn.Conv2d(config.width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        fused = self.linear_fuse(add_resized(maps[0], maps[1:]))
        y: Tensor = self.conv_seg(self.dropout(fused))
        return y


class TopFormer(Upsampled):
    """Segment a normalised RGB image (N,3,H,W) float32 into logits (N,K,H/8,W/8)."""

    def __init__(self, config: TopFormerConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.decode_head = SimpleHead(config, num_classes)
        self.multiple = 32 * config.token_stride
