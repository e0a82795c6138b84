"""Augmentation of whole batches on the training device; crops.py has cut them out before."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_perception.labels import UNKNOWN
from seg_perception.training.crops import Batch


def augment(batch: Batch, *, jitter: float, mix: float) -> tuple[Tensor, Batch]:
    """Paste classes of other images and change colours; return images float32 (B,3,h,w) in 0..255
    and the batch with its labels."""
    images, mixed = paste(batch.images.float(), batch, share=mix)
    return change_colours(images, jitter), mixed


def paste(images: Tensor, batch: Batch, *, share: float) -> tuple[Tensor, Batch]:
    """Paste every second class of another image over a `share` of the batch, at the same place.

    Source: ClassMix (Olsson et al., WACV 2021), with labels of people or of a teacher; images are
    float (B,3,h,w).
    """
    count, device = len(images), images.device
    other = torch.roll(torch.arange(count, device=device), 1)
    chosen = torch.rand(count, UNKNOWN + 1, device=device) < 0.5
    chosen &= torch.rand(count, 1, device=device) < share
    best = batch.ids[other, 0].long()
    mask = chosen.gather(1, best.flatten(1)).view_as(best) & (batch.weight[other] > 0)
    wide = F.interpolate(mask[:, None].float(), images.shape[2:], mode="nearest") > 0
    return torch.where(wide, images[other], images), Batch(
        batch.images,
        torch.where(mask[:, None], batch.ids[other], batch.ids),
        torch.where(mask[:, None], batch.shares[other], batch.shares),
        torch.where(mask, batch.weight[other], batch.weight),
    )


def change_colours(images: Tensor, jitter: float) -> Tensor:
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
