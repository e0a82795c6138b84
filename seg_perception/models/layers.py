"""Blocks that several model families share, and resizing that exports to fast, exact ONNX."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Form(Enum):
    """How resizing, pooling and hard sigmoids are written; equal but for float rounding."""

    TORCH = auto()  # torch's operators; the others are for export to ONNX
    PLAIN = auto()  # as an ordinary export of the official code writes them, to compare with
    BLOCKED = auto()  # operators that ONNX Runtime runs in its blocked layout: whole ratios only
    MATRICES = auto()  # constant matrices, several times faster than Resize at other ratios


_form = ContextVar("form", default=Form.TORCH)
_ratios: ContextVar[list[bool] | None] = ContextVar("ratios", default=None)


@contextmanager
def written_as(form: Form) -> Iterator[None]:
    """Write every layer that runs inside the block in `form`."""
    before = _form.set(form)
    try:
        yield
    finally:
        _form.reset(before)


@torch.no_grad()
def fastest_form(network: nn.Module, x: Tensor) -> Form:
    """Return BLOCKED when `network` resizes the input x by whole ratios alone, else MATRICES.

    One matrix product leaves the blocked layout, and a Resize outside of it is slow: so all or
    none.
    """
    before = _ratios.set([])
    try:
        network(x)
        return Form.BLOCKED if all(_ratios.get() or ()) else Form.MATRICES
    finally:
        _ratios.reset(before)


@torch.no_grad()
def simplified(network: nn.Module) -> nn.Module:
    """Return a copy for inference; modules that know a cheaper equal of themselves are replaced."""
    network = copy.deepcopy(network).eval()
    for name, module in list(network.named_modules()):
        if hasattr(module, "simplified"):
            network.set_submodule(name, module.simplified().eval())
    return network


class Upsampled(nn.Module):
    """Segment (N,3,H,W) into logits by a backbone and a head; enlarge them for the class map."""

    backbone: nn.Module
    decode_head: nn.Module
    align_corners = False
    # Of height and width: where both are whole multiples of it every ratio inside is a whole
    # number, the same for all such sizes. None where the network is of one size.
    multiple: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.decode_head(self.backbone(x))
        return y

    def scores(self, x: Tensor) -> Tensor:
        """Return the official full-size class map (N,K,H,W): logits, upsampled bilinearly."""
        size = (int(x.shape[2]), int(x.shape[3]))
        return F.interpolate(self(x), size, mode="bilinear", align_corners=self.align_corners)


class ConvBN(nn.Sequential):
    """Convolve without bias, then normalise; state-dict leaves `.c` and `.bn`.

    Source: TopFormer (CVPR 2022), Conv2d_BN; BatchNorm eps 1e-5.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.add_module(
            "c", nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        )
        self.add_module("bn", nn.BatchNorm2d(outputs))


class ConvModule(nn.Module):
    """Convolve, normalise and optionally apply ReLU; leaves `.conv` and `.bn` as in mmcv."""

    def __init__(self, inputs: int, outputs: int, *, groups: int = 1, relu: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class DepthwiseConv(nn.Module):
    """Convolve tokens as an image; leaves `.dwconv`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        plane = x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)
        y: Tensor = self.dwconv(plane).flatten(2).transpose(1, 2)
        return y


class DropPath(nn.Module):
    """Drop a residual branch with probability `rate` while training (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep


def drop_rates(last: float, depth: int) -> list[float]:
    """Return rates for DropPath that rise evenly from 0 in the first block to `last`."""
    return [last * i / max(1, depth - 1) for i in range(depth)]


def resize_bilinear(x: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Resize (N,C,H,W) bilinearly to `size` (height, width)."""
    height, width = (int(s) for s in x.shape[2:])
    _note(size[0] % height == 0 and size[1] % width == 0)
    if _form.get() is Form.BLOCKED:  # a factor: true of every size that is a multiple
        factor = (size[0] / height, size[1] / width)
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)
    if _form.get() is not Form.MATRICES:
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    rows = _resizing_matrix(height, size[0], align_corners).to(x)
    columns = _resizing_matrix(width, size[1], align_corners).to(x)
    y: Tensor = rows @ (x @ columns.T)
    return y


def add_resized(x: Tensor, maps: list[Tensor]) -> Tensor:
    """Return x (N,C,H,W) + each of `maps` (N,C,h,w) resized bilinearly to its size.

    As matrices it is one product over the rows: [R1 R2] [X1 C1'; X2 C2'].
    """
    size = (int(x.shape[2]), int(x.shape[3]))
    if _form.get() is not Form.MATRICES:
        for coarse in maps:
            x = x + resize_bilinear(coarse, size)
        return x
    rows = [_resizing_matrix(int(m.shape[2]), size[0], False) for m in maps]
    wide = [m @ _resizing_matrix(int(m.shape[3]), size[1], False).to(m).T for m in maps]
    y: Tensor = x + torch.cat(rows, dim=1).to(x) @ torch.cat(wide, dim=2)
    return y


def pool_adaptive(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N,C,H,W) over an adaptive grid of `size` (height, width) cells."""
    height, width = (int(s) for s in x.shape[2:])
    whole = height % size[0] == 0 and width % size[1] == 0
    _note(whole)
    form = _form.get()
    if whole and form is Form.BLOCKED:
        return F.avg_pool2d(x, (height // size[0], width // size[1]))
    if whole or form is Form.TORCH:
        return F.adaptive_avg_pool2d(x, size)
    if form is Form.PLAIN:
        return _pool_by_slices(_pool_by_slices(x, size[0], dim=2), size[1], dim=3)
    y: Tensor = _pooling_matrix(height, size[0]).to(x) @ (
        x @ _pooling_matrix(width, size[1]).to(x).T
    )
    return y


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return relu6(x + 3) / 6. As one operator, it fuses into the convolution before it."""
    return F.relu6(x + 3) / 6 if _form.get() is Form.PLAIN else F.hardsigmoid(x)


def _note(whole: bool) -> None:
    seen = _ratios.get()
    if seen is not None:
        seen.append(whole)


def _resizing_matrix(coarse: int, fine: int, align_corners: bool) -> Tensor:
    """Return (fine,coarse): what bilinear resizing does to one axis."""
    unit = torch.eye(coarse)[None, None]
    size = (fine, coarse)
    return F.interpolate(unit, size, mode="bilinear", align_corners=align_corners)[0, 0]


def _pooling_matrix(fine: int, coarse: int) -> Tensor:
    """Return (coarse,fine): what adaptive average pooling does to one axis."""
    return F.adaptive_avg_pool2d(torch.eye(fine)[None, None], (coarse, fine))[0, 0]


def _pool_by_slices(x: Tensor, cells: int, *, dim: int) -> Tensor:
    """Average adaptive cells of one axis slice by slice; torch exports no other form of them."""
    length = int(x.shape[dim])
    starts = [i * length // cells for i in range(cells)]
    ends = [-(-(i + 1) * length // cells) for i in range(cells)]
    slices = [x.narrow(dim, start, end - start) for start, end in zip(starts, ends, strict=True)]
    return torch.cat([s.mean(dim, keepdim=True) for s in slices], dim)
