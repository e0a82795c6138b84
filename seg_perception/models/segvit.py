"""SegViT ViT-B, ViT-L and ViT-L Shrunk (Zhang et al., NeurIPS 2022), state-dict compatible with the
official checkpoints.

A plain vision transformer feeds decoders with one query a class: what a query attends to is its
mask, and the query itself says how likely the class is in the image. The shrunk variant halves
the patch grid after a third of the layers and reads it back through a learned grid of queries.
Masks come out at 1/16 of the input.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.errors import ModelError
from seg_perception.models.layers import DropPath, drop_rates, resize_bilinear

PATCH = 16
MLP_RATIO = 4
BACKBONE_EPS = 1e-6  # of the backbone's norms; the heads' use 1e-5
DROPOUT = 0.1  # in the decoders; the backbone has drop path alone
DECODER_DEPTH = 3


@dataclass(frozen=True)
class SegViTConfig:
    """Shape of one variant; `taps` are the layers whose output the head reads.

    `size` is the side of the training crop: position table, query grid and class map have it.
    """

    width: int
    depth: int
    heads: int
    taps: tuple[int, ...]
    size: int
    head_width: int
    head_heads: int
    shrink_at: int | None = None
    drop_path: float = 0.3


CONFIGS = {
    "segvit_vitb": SegViTConfig(768, 12, 12, (5, 7, 11), 512, 384, 12, drop_path=0.1),
    "segvit_vitl": SegViTConfig(1024, 24, 16, (7, 15, 23), 640, 512, 16),
    "segvit_vitl_shrunk": SegViTConfig(1024, 24, 16, (7, 23), 640, 512, 16, shrink_at=8),
}
# The crop of the official configuration. The shrunk variant's is published for ADE20K alone; its
# published multiply-adds on the other sets are those of the same crops.
DATASET_CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("segvit_vitl", "cocostuff10k"): {"size": 512},
    ("segvit_vitl", "pc59"): {"size": 480},
    ("segvit_vitl_shrunk", "cocostuff10k"): {"size": 512},
    ("segvit_vitl_shrunk", "pc59"): {"size": 480},
}
# Prefixes of official weights that have no part in the result: the class token is dropped before
# the first layer, and the losses keep their class weights.
UNUSED = ("backbone.cls_token", "decode_head.loss_decode.", "decode_head.atm.loss_decode.")


class PackedAttention(nn.Module):
    """Attend from x (N,T,C) to itself or a context (N,S,C); leaves as nn.MultiheadAttention's."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, int(x.shape[2])
        if context is None:
            q, k, v = F.linear(x, weight, bias).chunk(3, dim=2)
        else:
            q = F.linear(x, weight[:width], bias[:width])
            k, v = F.linear(context, weight[width:], bias[width:]).chunk(2, dim=2)
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        rate = self.dropout if self.training else 0.0
        scale = int(q.shape[3]) ** -0.5  # said, so that an export need not compute it
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, scale=scale)
        out: Tensor = self.out_proj(merge_heads(mixed))
        return out


class MaskAttention(nn.Module):
    """Attend from class queries (N,K,C) to tokens (N,T,C); return also the scores (N,h,K,T).

    Source: attention to mask (ATM) of the paper.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        q = split_heads(self.q(queries), self.heads)  # N h K d
        k = split_heads(self.k(tokens), self.heads)  # N h T d
        v = split_heads(self.v(tokens), self.heads)
        scores = q @ k.transpose(2, 3) * int(q.shape[3]) ** -0.5
        mixed = self.dropout(scores.softmax(dim=3)) @ v
        return self.proj(merge_heads(mixed)), scores


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (N,T,C) as (N,h,T,C/h)."""
    n, count, width = (int(s) for s in x.shape)
    return x.reshape(n, count, heads, width // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Return (N,h,T,d) as (N,T,h*d)."""
    n, heads, count, width = (int(s) for s in x.shape)
    return x.transpose(1, 2).reshape(n, count, heads * width)


class EncoderLayer(nn.Module):
    """Attend, then widen and narrow each token (N,T,C); pre-normalised and residual."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        hidden = MLP_RATIO * width
        widen = nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.ln1 = nn.LayerNorm(width, eps=BACKBONE_EPS)
        self.attn = nn.ModuleDict({"attn": PackedAttention(width, heads)})
        self.ln2 = nn.LayerNorm(width, eps=BACKBONE_EPS)
        self.ffn = nn.ModuleDict({"layers": nn.Sequential(widen, nn.Linear(hidden, width))})
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        keys = None if context is None else self.ln1(context)
        x = x + self.drop_path(self.attn["attn"](self.ln1(x), keys))
        y: Tensor = x + self.drop_path(self.ffn["layers"](self.ln2(x)))
        return y


class PatchEmbed(nn.Module):
    """Embed patches of 16x16 pixels as tokens; images are padded at the bottom and the right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (-int(s) % PATCH for s in x.shape[2:])
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        y: Tensor = self.projection(x).flatten(2).transpose(1, 2)  # N T C
        return y


class Backbone(nn.Module):
    """Return the tokens (N,T,C) after each tapped layer; there is no class token and no norm."""

    def __init__(self, config: SegViTConfig) -> None:
        super().__init__()
        self.taps = config.taps
        self.shrink_at = config.shrink_at
        self.side = patch_grid(config.size, config.size)
        # The first position is the class token's: in the checkpoints, not in the sum.
        self.pos_embed = nn.Parameter(torch.empty(1, self.side**2 + 1, config.width))
        self.patch_embed = PatchEmbed(config.width)
        rates = drop_rates(config.drop_path, config.depth)
        self.layers = nn.ModuleList(EncoderLayer(config.width, config.heads, r) for r in rates)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> list[Tensor]:
        side = patch_grid(int(x.shape[2]), int(x.shape[3]))
        x = self.patch_embed(x) + self._positions(side)
        tapped = []
        for i, layer in enumerate(self.layers):
            x = layer(every_second(x, side), x) if i == self.shrink_at else layer(x)
            if i in self.taps:
                tapped.append(x)
        return tapped

    def _positions(self, side: int) -> Tensor:
        """Return (1,side*side,C): the learned grid, resized bicubically where it differs."""
        table = self.pos_embed[:, 1:]
        if side == self.side:
            return table
        grid = table.transpose(1, 2).reshape(1, -1, self.side, self.side)
        grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        return grid.flatten(2).transpose(1, 2)


def patch_grid(height: int, width: int) -> int:
    """Return the patches a side; ModelError unless their grid is square and even."""
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    if rows != columns or rows % 2:
        side = PATCH * (max(rows, columns) + max(rows, columns) % 2)
        raise ModelError(
            f"SegViT cannot take {height}x{width}: its grid of {PATCH}-pixel patches is "
            f"{rows}x{columns} and must be square with an even side; resize or crop to "
            f"{side}x{side}, for example, or slide a square window"
        )
    return rows


def every_second(tokens: Tensor, side: int) -> Tensor:
    """Return every second row and column of a square grid of tokens (N,side*side,C)."""
    n, _, width = (int(s) for s in tokens.shape)
    return tokens.reshape(n, side, side, width)[:, ::2, ::2].reshape(n, -1, width)


class QueryLayer(nn.Module):
    """Let queries attend to one another, then to tokens, then widen; post-normalised.

    Leaves as nn.TransformerDecoderLayer's; `across` is the attention to the tokens.
    """

    def __init__(self, width: int, heads: int, across: nn.Module) -> None:
        super().__init__()
        self.self_attn = PackedAttention(width, heads, DROPOUT)
        self.multihead_attn = across
        self.linear1 = nn.Linear(width, MLP_RATIO * width)
        self.linear2 = nn.Linear(MLP_RATIO * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(DROPOUT)

    def before(self, queries: Tensor) -> Tensor:
        """Let the queries attend to one another."""
        y: Tensor = self.norm1(queries + self.dropout(self.self_attn(queries)))
        return y

    def after(self, queries: Tensor, gathered: Tensor) -> Tensor:
        """Add what they gathered from the tokens, then widen and narrow each."""
        x = self.norm2(queries + self.dropout(gathered))
        wide = self.dropout(F.relu(self.linear1(x)))
        y: Tensor = self.norm3(x + self.dropout(self.linear2(wide)))
        return y


class ReadingLayer(QueryLayer):
    """Return the new queries (N,Q,C); torch's decoder layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, PackedAttention(width, heads, DROPOUT))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        x = self.before(queries)
        return self.after(x, self.multihead_attn(x, tokens))


class MaskingLayer(QueryLayer):
    """Return the new queries (N,K,C) and their scores (N,h,K,T) over the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, MaskAttention(width, heads))

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.before(queries)
        gathered, scores = self.multihead_attn(x, tokens)
        return self.after(x, gathered), scores


class Stages(nn.Module):
    """Hold `count` decoders, one for each set of tokens (N,T,C) that the subclass decodes.

    With `project` the tokens of each stage are first brought to the head's width and normalised.
    """

    def __init__(
        self,
        config: SegViTConfig,
        layer: type[ReadingLayer] | type[MaskingLayer],
        *,
        count: int,
        project: bool = True,
    ) -> None:
        super().__init__()
        self.project = project
        width = config.head_width
        for i in range(1, count + 1):
            if project:
                self.add_module(f"input_proj_{i}", nn.Linear(config.width, width))
                self.add_module(f"proj_norm_{i}", nn.LayerNorm(width))
            layers = [layer(width, config.head_heads) for _ in range(DECODER_DEPTH)]
            self.add_module(f"decoder_{i}", nn.ModuleDict({"layers": nn.ModuleList(layers)}))

    def tokens(self, stage: int, tap: Tensor) -> Tensor:
        """Return what the decoder of `stage`, counted from 1, reads of `tap`."""
        if not self.project:
            return tap
        x = self.get_submodule(f"input_proj_{stage}")(tap)
        y: Tensor = self.get_submodule(f"proj_norm_{stage}")(x)
        return y

    def layers(self, stage: int) -> Iterator[nn.Module]:
        """Return the layers of a stage's decoder, first to last."""
        return self.get_submodule(f"decoder_{stage}.layers").children()


class AtmHead(Stages):
    """Carry a query a class from the last set of tokens to the first and sum their masks.

    A mask is the last layer's scores before the softmax, averaged over the heads. Returns masks
    (N,K,h,w) and logits (N,K,K+1) of the queries over the classes and "no class".
    """

    def __init__(
        self, config: SegViTConfig, num_classes: int, *, count: int, project: bool = True
    ) -> None:
        super().__init__(config, MaskingLayer, count=count, project=project)
        self.q = nn.Embedding(num_classes, config.head_width)
        self.class_embed = nn.Linear(config.head_width, num_classes + 1)

    def forward(self, taps: list[Tensor]) -> tuple[Tensor, Tensor]:
        n = int(taps[0].shape[0])
        queries = self.q.weight.repeat(n, 1, 1)  # N K C
        masks = []
        for stage, tap in enumerate(reversed(taps), start=1):
            tokens = self.tokens(stage, tap)
            for layer in self.layers(stage):
                queries, scores = layer(queries, tokens)
            masks.append(scores.mean(dim=1))  # N K T
        total = torch.stack(masks).sum(dim=0)
        side = math.isqrt(int(total.shape[2]))
        return total.reshape(n, -1, side, side), self.class_embed(queries)


class TpnAtmHead(Stages):
    """Read the taps, the first one first, into a learned grid of queries at 1/16; mask that grid.

    Returns as AtmHead; masks are (N,K,size/16,size/16) whatever the image's size.
    """

    def __init__(self, config: SegViTConfig, num_classes: int, *, count: int) -> None:
        super().__init__(config, ReadingLayer, count=count)
        self.q = nn.Embedding(patch_grid(config.size, config.size) ** 2, config.head_width)
        self.atm = AtmHead(config, num_classes, count=1, project=False)

    def forward(self, taps: list[Tensor]) -> tuple[Tensor, Tensor]:
        grid = self.q.weight.repeat(int(taps[0].shape[0]), 1, 1)  # N T C
        for stage, tap in enumerate(taps, start=1):
            tokens = self.tokens(stage, tap)
            for layer in self.layers(stage):
                grid = layer(grid, tokens)
        masks, logits = self.atm([grid])
        return masks, logits


class SegViT(nn.Module):
    """Segment a normalised RGB image (N,3,H,W) into masks (N,K,h,w) and class logits (N,K,K+1).

    The grid of 16-pixel patches must be square with an even side.
    """

    def __init__(self, config: SegViTConfig, num_classes: int) -> None:
        super().__init__()
        self.size = config.size
        self.backbone = Backbone(config)
        head = AtmHead if config.shrink_at is None else TpnAtmHead
        self.decode_head = head(config, num_classes, count=len(config.taps))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        masks, logits = self.decode_head(self.backbone(x))
        return masks, logits

    def scores(self, x: Tensor) -> Tensor:
        """Return the official full-size class map (N,K,H,W): sums of probabilities, not logits.

        The masks are first resized to the training crop, then the map to the input's size.
        """
        masks, logits = self(x)
        planes = resize_bilinear(masks, (self.size, self.size)).sigmoid()
        shares = logits.softmax(dim=2)[..., :-1].transpose(1, 2)  # N K queries
        full = (shares @ planes.flatten(2)).reshape(planes.shape)
        size = (int(x.shape[2]), int(x.shape[3]))
        return full if size == (self.size, self.size) else resize_bilinear(full, size)
