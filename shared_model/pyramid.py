"""Image pyramids and local means: the small differentiable operators everything else uses.

All functions take and return ``(N, C, H, W)`` tensors, work for any ``H, W >= 1``, and treat every
sample on its own (no batch statistics), so that per-record gradients stay per record.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "LUMA",
    "bands",
    "box",
    "collapse",
    "decompose",
    "halve",
    "lattice",
    "luminance",
    "pad_reflect",
    "pyramid",
    "resize_like",
    "window_mean",
]

LUMA = (0.299, 0.587, 0.114)


def pad_reflect(x: Tensor, amount: int) -> Tensor:
    """Pad all four sides by reflection, or by repetition where the picture is too small for it."""
    mode = "reflect" if min(x.shape[-2:]) > amount else "replicate"
    return F.pad(x, (amount, amount, amount, amount), mode=mode)


def luminance(x: Tensor) -> Tensor:
    """Rec. 601 luma (:data:`LUMA`): ``(N, 3, H, W)`` to ``(N, 1, H, W)``."""
    red, green, blue = LUMA
    return red * x[:, 0:1] + green * x[:, 1:2] + blue * x[:, 2:3]


def lattice(like: Tensor) -> Tensor:
    """Row and column of every pixel of a picture, ``(1, 2, H, W)``."""
    rows, columns = (torch.arange(size, dtype=like.dtype, device=like.device) for size in like.shape[-2:])
    return torch.stack([rows[:, None].expand(like.shape[-2:]), columns[None].expand(like.shape[-2:])])[None]


def halve(x: Tensor) -> Tensor:
    """Blur with the 5-tap binomial filter (Burt & Adelson 1983) and drop every other sample."""
    p = pad_reflect(x, 2)  # sums of strided slices: several times as fast as a depthwise convolution on a CPU
    p = p[..., 0:-4:2] + p[..., 4::2] + 4 * (p[..., 1:-3:2] + p[..., 3:-1:2]) + 6 * p[..., 2:-2:2]
    p = p[..., 0:-4:2, :] + p[..., 4::2, :] + 4 * (p[..., 1:-3:2, :] + p[..., 3:-1:2, :]) + 6 * p[..., 2:-2:2, :]
    return p / 256


def pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Return ``levels`` pictures, each half the size of the one before; the first is ``x``."""
    result = [x]
    while len(result) < levels:
        result.append(halve(result[-1]))
    return result


def resize_like(x: Tensor, other: Tensor) -> Tensor:
    """Resample ``x`` bilinearly to the height and width of ``other``."""
    size = other.shape[-2:]
    if torch.compiler.is_exporting():  # in a graph for any size, channels cannot be taken apart
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    apart = x.flatten(0, 1)[:, None]  # one by one: twice as fast as three together on a CPU
    return F.interpolate(apart, size=size, mode="bilinear", align_corners=False).view(*x.shape[:2], *size)


def bands(x: Tensor, levels: int) -> list[Tensor]:
    """Return the ``levels`` finest Laplacian bands of ``x``, finest first."""
    return decompose(x, levels)[0]


def decompose(x: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """Return the ``levels`` finest Laplacian bands of ``x``, finest first, and what is left below them."""
    steps = pyramid(x, levels + 1)
    return [fine - resize_like(coarse, fine) for fine, coarse in itertools.pairwise(steps)], steps[-1]


def collapse(details: list[Tensor], coarse: Tensor) -> Tensor:
    """Rebuild a picture from its Laplacian bands (finest first) and the coarse rest."""
    result = coarse
    for band in reversed(details):
        result = resize_like(result, band) + band
    return result


def box(x: Tensor, radius: int) -> Tensor:
    """Return the mean over a ``(2 radius + 1)`` square around every pixel, reflected at the border."""
    side, padded = 2 * radius + 1, pad_reflect(x, radius)
    if torch.is_grad_enabled():  # sums of slices would fill memory in the backward pass
        return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)
    return window_mean(padded, side)


def window_mean(x: Tensor, side: int) -> Tensor:
    """Return the mean of every ``side`` square inside ``(N, C, H, W)``, without padding; not for training."""
    height, width = x.shape[-2] - side + 1, x.shape[-1] - side + 1
    rows = x[..., :height, :].clone()
    for shift in range(1, side):
        rows += x[..., shift : shift + height, :]
    total = rows[..., :width].clone()
    for shift in range(1, side):
        total += rows[..., shift : shift + width]
    return total / side**2
