"""Blocks that several model families share, and resizing that exports to fast, exact ONNX."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def resize_bilinear(x: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Resize (N,C,H,W) bilinearly to `size` (height, width).

    While exporting to ONNX, a ratio that is not a whole number becomes two constant matrices:
    the same sums in another order, and several times faster than ONNX Runtime's Resize.
    """
    height, width = (int(s) for s in x.shape[2:])
    whole = size[0] % height == 0 and size[1] % width == 0
    if not torch.onnx.is_in_onnx_export() or whole:
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    def line(coarse: int, fine: int) -> Tensor:
        unit = torch.eye(coarse)[None, None]  # 1 1 coarse coarse
        return F.interpolate(unit, (fine, coarse), mode="bilinear", align_corners=align_corners)[
            0, 0
        ]

    return _two_matrices(x, line(height, size[0]), line(width, size[1]))


def pool_adaptive(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N,C,H,W) over an adaptive grid of `size` (height, width) cells.

    While exporting to ONNX, cells of unequal size become two constant matrices: exact, and
    the only form that a static graph can hold.
    """
    height, width = (int(s) for s in x.shape[2:])
    whole = height % size[0] == 0 and width % size[1] == 0
    if not torch.onnx.is_in_onnx_export() or whole:
        return F.adaptive_avg_pool2d(x, size)

    def line(fine: int, coarse: int) -> Tensor:
        unit = torch.eye(fine)[None, None]
        return F.adaptive_avg_pool2d(unit, (coarse, fine))[0, 0]

    return _two_matrices(x, line(height, size[0]), line(width, size[1]))


def _two_matrices(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply `rows` (H',H) and `columns` (W',W) to (N,C,H,W), giving (N,C,H',W')."""
    y: Tensor = rows.to(x) @ (x @ columns.to(x).T)
    return y
