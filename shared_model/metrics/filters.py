"""Elementary picture operators of the quality score, on ``(1, C, H, W)`` tensors."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "gaussian_pyramid",
    "halve",
    "local_normalise",
    "luminance",
    "match_histogram",
    "smooth",
    "to_lab",
]


def luminance(rgb: Tensor) -> Tensor:
    """Rec. 601 luma, Nx1xHxW."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (rgb * weights).sum(1, keepdim=True)


def to_lab(rgb: Tensor) -> Tensor:
    """SRGB in [0, 1] to CIE Lab (D65), Nx3xHxW."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    white = torch.tensor([0.95047, 1.0, 1.08883]).view(1, 3, 1, 1)
    xyz = torch.einsum("ij,njhw->nihw", matrix, linear) / white
    f = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f[:, 0], f[:, 1], f[:, 2]
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur with reflected borders, per channel."""
    radius = min(max(1, math.ceil(2.5 * sigma)), min(x.shape[-2:]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = taps / taps.sum()
    channels = x.shape[1]
    x = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    x = F.conv2d(x, taps.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def halve(x: Tensor) -> Tensor:
    """One octave down: blur, then drop every other sample."""
    return smooth(x, 1.0)[:, :, ::2, ::2]


def gaussian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """``levels`` images, each half the size of the one before."""
    pyramid = [x]
    while len(pyramid) < levels:
        pyramid.append(halve(pyramid[-1]))
    return pyramid


def match_histogram(x: Tensor, reference: Tensor) -> Tensor:
    """Monotone map that gives ``x`` the value distribution of ``reference`` (ties stay ties)."""
    values, inverse, counts = np.unique(
        np.round(x.numpy().ravel() * 1023).astype(np.int32), return_inverse=True, return_counts=True
    )
    rank = (np.cumsum(counts) - 0.5 * counts) / counts.sum()
    target = np.quantile(reference.numpy().ravel(), rank).astype(np.float32)
    assert len(values) == len(target)
    return torch.from_numpy(target[inverse.ravel()]).view_as(x)


def local_normalise(x: Tensor, sigma: float, floor: float = 0.02) -> Tensor:
    """Zero local mean, unit local deviation."""
    centred = x - smooth(x, sigma)
    return centred / (smooth(centred**2, sigma).clamp(min=0) + floor**2).sqrt()
