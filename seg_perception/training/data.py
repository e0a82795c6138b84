"""Training images in memory, and augmentation of whole batches on the training device."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from seg_perception.errors import DataError

IGNORE = 255
POINTS_A_CLASS = 256


class Images(NamedTuple):
    """Images uint8 (N,3,H,W) RGB, labels uint8 (N,H,W) with void as 255, and their names."""

    images: Tensor
    labels: Tensor
    names: list[str]


def load_images(folder: Path, *, classes: int, match: str = "", exclude: str = "") -> Images:
    """Read `folder`/images and `folder`/labels (PNG of ids) of one size into memory.

    `match` and `exclude` select by the start of the file name; ids from `classes` on are void.
    """
    paths = sorted((folder / "images").glob("*"))
    paths = [p for p in paths if p.name.startswith(match)]
    if exclude:
        paths = [p for p in paths if not p.name.startswith(exclude)]
    if not paths:
        raise DataError(f"no images in {folder / 'images'} that start with {match!r}")
    images, labels = [], []
    for path in paths:
        truth = folder / "labels" / (path.stem + ".png")
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        label = cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)
        if image is None or label is None or image.shape[:2] != label.shape:
            raise DataError(f"{path} and {truth} are not a readable pair of one size")
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
        labels.append(np.where(label < classes, label, IGNORE).astype(np.uint8))
    return Images(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack(labels)),
        [p.stem for p in paths],
    )


class CropCentres:
    """Choose where to crop: anywhere, or around a pixel of a class drawn evenly.

    Rare classes (pedestrians, signs) are thus seen far more often than their share of pixels.
    """

    def __init__(self, labels: Tensor, *, classes: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._points: list[list[NDArray[Any]]] = []
        for label in labels.numpy():
            by_class = []
            for c in range(classes):
                points = np.argwhere(label == c)  # P 2 (row, column)
                if len(points):
                    by_class.append(
                        points[generator.integers(len(points), size=POINTS_A_CLASS)].astype(
                            np.float32
                        )
                    )
            self._points.append(by_class)

    def draw(
        self,
        indices: NDArray[Any],
        size: tuple[int, int],
        balanced: float,
        random: np.random.Generator,
    ) -> NDArray[Any]:
        """Return a centre (row, column) in pixels for each index, float32 (B,2)."""
        centres = (random.random((len(indices), 2)) * size).astype(np.float32)
        for i, index in enumerate(indices):
            if random.random() < balanced and self._points[index]:
                points = self._points[index][random.integers(len(self._points[index]))]
                centres[i] = points[random.integers(len(points))]
        return centres


def augment(
    images: Tensor,
    labels: Tensor,
    centres: Tensor,
    *,
    crop: tuple[int, int],
    scale: tuple[float, float],
    rotate: float,
    jitter: float,
    mix: float,
    label_stride: int,
) -> tuple[Tensor, Tensor]:
    """Scale, rotate, flip and crop a batch in one resampling, mix it, then change its colours.

    images uint8 (B,3,H,W), labels uint8 (B,H,W), centres float (B,2) in pixels (row, column).
    Returns float32 (B,3,h,w) in 0..255 and int64 labels (B,h/stride,w/stride): the labels are
    sampled straight at the centres of the grid that the loss uses.
    """
    batch, _, height, width = images.shape
    device = images.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(batch, device=device).uniform_(low, high)

    zoom = torch.exp(uniform(math.log(scale[0]), math.log(scale[1])))
    angle = uniform(-rotate, rotate) * math.pi / 180
    flip = torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0)
    # Output pixel (normalised crop) -> input pixel (normalised image), kept inside the borders
    # as far as the crop is smaller than the zoomed image.
    span = torch.stack([crop[1] / (zoom * width), crop[0] / (zoom * height)], 1)  # B 2 (x, y)
    centre = centres.flip(1) / torch.tensor([width, height], device=device) * 2 - 1
    centre = centre + span * torch.empty_like(centre).uniform_(-0.5, 0.5)
    limit = (1 - span).clamp(min=0)
    centre = torch.minimum(torch.maximum(centre, -limit), limit)
    cos, sin = angle.cos(), angle.sin()
    aspect = crop[0] / crop[1]
    theta = torch.stack(
        [
            torch.stack([span[:, 0] * cos * flip, -span[:, 0] * sin * aspect, centre[:, 0]], 1),
            torch.stack([span[:, 1] * sin * flip / aspect, span[:, 1] * cos, centre[:, 1]], 1),
        ],
        1,
    )  # B 2 3
    grid = F.affine_grid(theta, [batch, 1, *crop], align_corners=False)
    sampled = F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)
    small = [batch, 1, crop[0] // label_stride, crop[1] // label_stride]
    coarse = F.affine_grid(theta, small, align_corners=False)
    shifted = labels[:, None].float() - IGNORE  # so that zero padding means void
    truth = F.grid_sample(shifted, coarse, mode="nearest", align_corners=False)[:, 0] + IGNORE
    sampled, target = _paste(sampled, truth.round().long(), share=mix)
    return _change_colours(sampled, jitter), target


def _paste(images: Tensor, labels: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
    """Paste every second class of another image over a `share` of the batch, at the same place.

    Source: ClassMix (Olsson et al., WACV 2021), here with true labels; images (B,3,h,w), labels
    (B,h/stride,w/stride).
    """
    batch, device = len(images), images.device
    other = torch.roll(torch.arange(batch, device=device), 1)
    chosen = torch.rand(batch, IGNORE + 1, device=device) < 0.5
    chosen[:, IGNORE] = False
    chosen &= torch.rand(batch, 1, device=device) < share
    mask = chosen.gather(1, labels[other].flatten(1)).view_as(labels)
    wide = F.interpolate(mask[:, None].float(), images.shape[2:], mode="nearest") > 0
    return torch.where(wide, images[other], images), torch.where(mask, labels[other], labels)


def _change_colours(images: Tensor, jitter: float) -> Tensor:
    """Vary gamma, brightness, contrast, saturation and white balance; (B,3,h,w) in 0..255.

    In proportion to `jitter` the colour statistics (mean and deviation of each channel) of another
    image are taken on: a dusk drive is then also seen at noon (Reinhard et al. 2001).
    """

    def factor(amount: float, channels: int = 1) -> Tensor:
        shape = (len(images), channels, 1, 1)
        return torch.exp(torch.empty(shape, device=images.device).uniform_(-amount, amount))

    x = images / 255
    spread, middle = torch.std_mean(x, dim=(2, 3), keepdim=True)
    share = torch.rand(len(x), 1, 1, 1, device=x.device) * min(1.0, 2 * jitter)
    gain = 1 + share * (spread.roll(1, 0) / (spread + 1e-3) - 1)
    x = (x - middle) * gain + middle.lerp(middle.roll(1, 0), share)
    x = x.clamp(1e-4, 1) ** factor(jitter)
    x = x * factor(jitter) * factor(jitter / 4, 3)
    mean = x.mean((2, 3), keepdim=True)
    x = (x - mean) * factor(jitter) + mean
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * factor(2 * jitter)
    return x.clamp(0, 1) * 255
