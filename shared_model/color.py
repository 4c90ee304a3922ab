"""The color part of a head: twelve numbers that move a photo's palette onto the paintings'.

The map is the closed-form optimal transport between two Gaussians (Monge-Kantorovich; Pitie &
Kokaram 2007, eq. 4): it turns the photo's mean and covariance into the paintings' and changes
colors as little as possible while doing so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ColorStats", "transfer"]

_FLOOR = 3e-4  # added to every variance: greyscale or single-colored pictures stay finite


@dataclass(frozen=True)
class ColorStats:
    """Mean ``(3,)`` and covariance ``(3, 3)`` of RGB in [0, 1]."""

    mean: Tensor
    covariance: Tensor

    @staticmethod
    def of(pictures: Sequence[Tensor]) -> ColorStats:
        """Return the joint statistics of pictures, each ``(1, 3, H, W)`` or ``(3, H, W)``."""
        pixels = torch.cat([p.reshape(3, -1).to("cpu", torch.float32) for p in pictures], dim=1)
        mean = pixels.mean(dim=1)
        centred = pixels - mean[:, None]
        return ColorStats(mean, centred @ centred.T / pixels.shape[1])


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Real power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors @ torch.diag(values.clamp_min(1e-9) ** exponent) @ vectors.T
    return result


def transfer(x: Tensor, stats: ColorStats) -> Tensor:
    """Move the palette of one picture onto ``stats``.

    Parameters
    ----------
    x
        ``(1, 3, H, W) float in [0, 1]``, on any device.
    stats
        The palette to reach.

    Returns
    -------
    Tensor
        The same shape, clamped to [0, 1].
    """
    own = ColorStats.of([x])
    ridge = _FLOOR * torch.eye(3)
    root, inverse = _power(own.covariance + ridge, 0.5), _power(own.covariance + ridge, -0.5)
    matrix = inverse @ _power(root @ (stats.covariance + ridge) @ root, 0.5) @ inverse
    offset = stats.mean - matrix @ own.mean
    matrix, offset = matrix.to(x.device, x.dtype), offset.to(x.device, x.dtype)
    mapped = torch.einsum("ij,njhw->nihw", matrix, x) + offset.view(1, 3, 1, 1)
    return mapped.clamp(0.0, 1.0)
