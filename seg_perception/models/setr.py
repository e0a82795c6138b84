"""SETR naive, PUP and MLA (Zheng et al., CVPR 2021), state-dict compatible with the official
checkpoints.

A plain vision transformer encodes square images of one size at 1/16. The naive head classifies
there, PUP on the way up to 1/2; MLA aggregates four depths of the transformer and classifies at
1/4.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.errors import ModelError
from seg_perception.models.layers import Upsampled, resize_bilinear


@dataclass(frozen=True)
class SETRConfig:
    """Shape of one variant; `taps` are the layers that MLA aggregates, shallowest first.

    What mmsegmentation changed: `enlarge`, how much the head of naive or PUP enlarges its logits;
    `cls_kernel` of MLA's classifier, and whether its levels are resized with `align_corners`.
    """

    head: Literal["naive", "pup", "mla"]
    image_size: int = 512
    width: int = 1024
    depth: int = 24
    heads: int = 16
    taps: tuple[int, int, int, int] = (5, 11, 17, 23)
    enlarge: int = 1
    cls_kernel: int = 3
    align_corners: bool = True


CONFIGS = {
    "setr_naive": SETRConfig("naive"),
    "setr_pup": SETRConfig("pup"),
    "setr_mla": SETRConfig("mla"),
    # Published for Cityscapes alone.
    "setr_naive_base": SETRConfig("naive", image_size=768, width=768, depth=12, heads=12),
}
# The official PASCAL-Context checkpoints have 60 classes, background among them.
DATASET_CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    (arch, dataset): {"image_size": size}
    for arch in ("setr_naive", "setr_pup", "setr_mla")
    for dataset, size in (("cityscapes", 768), ("pc59", 480))
}
AUXILIARY = ("auxiliary_head.",)
UNUSED = ("decode_head.conv_seg.",)

PATCH = 16
MLP_RATIO = 4
NORM_EPS = 1e-6
HEAD_WIDTH = 256  # of the convolutions in every head and of the maps that MLA aggregates
LEVEL_WIDTH = 128  # of one level in the MLA head
LEVELS = (2, 3, 4, 5)  # the names of MLA's maps, shallowest first


def told(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the field of the config that a state dict shows: the side of the images it takes."""
    positions = weights.get("backbone.pos_embed")
    if positions is None or positions.ndim != 3:
        return {}
    return {"image_size": PATCH * math.isqrt(max(0, positions.shape[1] - 1))}


class PatchEmbed(nn.Module):
    """Embed patches of 16x16 pixels; leaves `.proj`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return y  # N T C


class Attention(nn.Module):
    """Attend from every token to every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, count, width = x.shape
        parts = self.qkv(x).reshape(n, count, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # N h T d
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, count, width))
        return out


class Mlp(nn.Module):
    """Widen every token, activate, narrow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attend, then mix; pre-normalised and residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Transformer(nn.Module):
    """Hold the weights of a vision transformer (Dosovitskiy et al., ICLR 2021), unnormalised."""

    def __init__(self, config: SETRConfig) -> None:
        super().__init__()
        count = (config.image_size // PATCH) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + count, config.width))
        self.patch_embed = PatchEmbed(config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)


class Backbone(Transformer):
    """Return the tokens of the last layer (N,1+T,C), the class token first."""

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = tokens + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def conv_bn_relu(inputs: int, outputs: int, *, kernel: int) -> list[nn.Module]:
    """Return the three modules that MLA repeats, at 0, 1 and 2 of a Sequential."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class Aggregation(nn.Module):
    """Sum four maps of one size from the deepest up, and smooth each sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for level in LEVELS:
            narrow = nn.Sequential(*conv_bn_relu(width, HEAD_WIDTH, kernel=1))
            smooth = nn.Sequential(*conv_bn_relu(HEAD_WIDTH, HEAD_WIDTH, kernel=3))
            self.add_module(f"mla_p{level}_1x1", narrow)
            self.add_module(f"mla_p{level}", smooth)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        summed: Tensor | None = None
        smoothed = []
        for level, x in reversed(list(zip(LEVELS, maps, strict=True))):
            x = self.get_submodule(f"mla_p{level}_1x1")(x)
            summed = x if summed is None else summed + x
            smoothed.append(self.get_submodule(f"mla_p{level}")(summed))
        return smoothed[::-1]


class MLABackbone(Transformer):
    """Return four aggregated maps (N,256,H/16,W/16), shallowest first.

    The class token stands in the state dict but goes through no layer.
    """

    def __init__(self, config: SETRConfig) -> None:
        super().__init__(config)
        self.taps = config.taps
        self.mla = Aggregation(config.width)
        for i in range(len(config.taps)):
            self.add_module(f"norm_{i}", nn.LayerNorm(config.width, eps=NORM_EPS))

    def forward(self, x: Tensor) -> list[Tensor]:
        tokens = self.patch_embed(x) + self.pos_embed[:, 1:]
        maps: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in self.taps:
                norm = self.get_submodule(f"norm_{len(maps)}")
                maps.append(to_plane(norm(tokens)))
        y: list[Tensor] = self.mla(maps)
        return y


def to_plane(tokens: Tensor) -> Tensor:
    """Return the tokens (N,T,C) of a square image as a map (N,C,h,w)."""
    n, count, width = (int(s) for s in tokens.shape)
    side = round(count**0.5)
    return tokens.transpose(1, 2).reshape(n, width, side, side)


class UpHead(nn.Module):
    """Classify after `convolutions` convolutions, doubling the size between them.

    One convolution (naive) is 1x1, several (PUP) are 3x3. The logits are enlarged `enlarge` times.
    """

    def __init__(self, width: int, num_classes: int, *, convolutions: int, enlarge: int) -> None:
        super().__init__()
        self.convolutions, self.enlarge = convolutions, enlarge
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        kernel = 1 if convolutions == 1 else 3
        for i in range(convolutions):
            inputs = width if i == 0 else HEAD_WIDTH
            conv = nn.Conv2d(inputs, HEAD_WIDTH, kernel, padding=kernel // 2)
            self.add_module(f"conv_{i}", conv)
            self.add_module(f"syncbn_fc_{i}", nn.BatchNorm2d(HEAD_WIDTH))
        self.add_module(f"conv_{convolutions}", nn.Conv2d(HEAD_WIDTH, num_classes, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = to_plane(self.norm(tokens[:, 1:]))  # the class token stays behind
        for i in range(self.convolutions):
            if i > 0:
                x = resize_bilinear(x, (2 * int(x.shape[2]), 2 * int(x.shape[3])))
            x = self.get_submodule(f"conv_{i}")(x)
            x = F.relu(self.get_submodule(f"syncbn_fc_{i}")(x))
        y: Tensor = self.get_submodule(f"conv_{self.convolutions}")(x)
        if self.enlarge == 1:
            return y
        # A 1x1 convolution commutes with resizing, whose weights sum to 1.
        height, width = (self.enlarge * int(side) for side in y.shape[2:])
        return resize_bilinear(y, (height, width))


class Levels(nn.Module):
    """Refine every level, enlarge it fourfold and concatenate all, shallowest first."""

    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        for level in LEVELS:
            first = conv_bn_relu(HEAD_WIDTH, LEVEL_WIDTH, kernel=3)
            second = conv_bn_relu(LEVEL_WIDTH, LEVEL_WIDTH, kernel=3)
            self.add_module(f"head{level}", nn.Sequential(*first, *second))

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = (4 * int(maps[0].shape[2]), 4 * int(maps[0].shape[3]))
        refined = [
            self.get_submodule(f"head{level}")(x) for level, x in zip(LEVELS, maps, strict=True)
        ]
        aligned = self.align_corners
        return torch.cat([resize_bilinear(x, size, align_corners=aligned) for x in refined], dim=1)


class MLAHead(nn.Module):
    """Classify the four concatenated levels."""

    def __init__(self, config: SETRConfig, num_classes: int) -> None:
        super().__init__()
        self.mlahead = Levels(align_corners=config.align_corners)
        kernel, width = config.cls_kernel, len(LEVELS) * LEVEL_WIDTH
        self.cls = nn.Conv2d(width, num_classes, kernel, padding=kernel // 2)

    def forward(self, maps: list[Tensor]) -> Tensor:
        y: Tensor = self.cls(self.mlahead(maps))
        return y


class SETR(Upsampled):
    """Segment a normalised RGB image (N,3,S,S) float32 of the config's size S into logits.

    Logits are (N,K,S/16,S/16) of naive, (N,K,S/2,S/2) of PUP and (N,K,S/4,S/4) of MLA, before they
    are enlarged. Any other size raises ModelError.
    """

    def __init__(self, config: SETRConfig, num_classes: int) -> None:
        super().__init__()
        self.image_size = config.image_size
        if config.head == "mla":
            self.backbone: nn.Module = MLABackbone(config)
            self.decode_head: nn.Module = MLAHead(config, num_classes)
        else:
            self.backbone = Backbone(config)
            convolutions = 1 if config.head == "naive" else 4
            self.decode_head = UpHead(
                config.width, num_classes, convolutions=convolutions, enlarge=config.enlarge
            )

    def forward(self, x: Tensor) -> Tensor:
        height, width = (int(s) for s in x.shape[2:])
        if (height, width) != (self.image_size, self.image_size):
            raise ModelError(
                f"the image is {height}x{width} and this SETR takes {self.image_size}x"
                f"{self.image_size} alone: resize it, or cut it into windows of that size"
            )
        y: Tensor = self.decode_head(self.backbone(x))
        return y
