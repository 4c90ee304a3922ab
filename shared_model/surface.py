"""The surface part of a head: how strong paint marks are, and how their strength is spread.

Photos are flat here and busy there; paint is everywhere. A head therefore remembers, for each
Laplacian band of the owner's pictures, two distributions: of local contrast, and of the band's
values. :meth:`Surface.finish` moves a picture's own distributions onto them, band by band, with
monotone maps of bounded slope: first a gain per place (quiet places become as alive as the
painting's quiet places, in their own strokes), then a curve per value and channel (Heeger & Bergen
1995, on Laplacian bands; exact one-dimensional optimal transport). Nothing is moved in space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model.pyramid import bands, box, collapse, decompose, luminance

__all__ = ["CONTRASTS", "VALUES", "Surface"]

CONTRASTS, VALUES = 33, 129  # quantiles kept per band: of local contrast, and of values per channel
_RADIUS = 2  # local contrast is taken over a square of 5 x 5 pixels of its band
_LOWEST_GAIN, _HIGHEST_GAIN = 0.5, 3.0
_BINS = 1024
_SAMPLES = 1 << 14


@dataclass(frozen=True)
class Surface:
    """Distributions of the Laplacian bands of an owner's pictures, finest band first.

    Parameters
    ----------
    contrast
        ``(bands, CONTRASTS)`` quantiles of local luminance contrast.
    values
        ``(bands, 3, VALUES)`` quantiles of the band's red, green and blue.
    """

    contrast: Tensor
    values: Tensor

    @staticmethod
    def of(pictures: Sequence[Tensor], *, count: int = 5) -> Surface:
        """Read the ``count`` finest bands of pictures, each ``(1, 3, H, W) float in [0, 1]``."""
        details = [bands(picture.float(), count) for picture in pictures]
        contrast = [
            _quantiles(torch.cat([_sample(_contrast(d[i])) for d in details], -1), CONTRASTS)[0] for i in range(count)
        ]
        values = [
            _quantiles(torch.cat([_sample(d[i][0].flatten(1)) for d in details], -1), VALUES) for i in range(count)
        ]
        return Surface(torch.stack(contrast), torch.stack(values))

    def to(self, device: torch.device) -> Surface:
        """Return a copy on ``device``."""
        return Surface(self.contrast.to(device), self.values.to(device))

    def deviation(self, band: int) -> float:
        """Return the root mean square of a band's values, all channels together."""
        return float(self.values[band].square().mean().sqrt())

    def finish(self, picture: Tensor) -> Tensor:
        """Give a picture the owner's marks' strength, place by place and value by value.

        Parameters
        ----------
        picture
            ``(1, 3, H, W)``, near [0, 1], at the scale the head was fitted at.

        Returns
        -------
        Tensor
            Same shape, not clamped. What lies below the coarsest band stays as it is.
        """
        count = len(self.contrast)
        details, coarse = decompose(picture, count)
        done = []
        for i, band in enumerate(details):
            strength = _contrast(band)
            wanted = _map(strength, self.contrast[i][None], _quantiles(_sample(strength), CONTRASTS))
            gain = (wanted / strength).clamp(_LOWEST_GAIN, _HIGHEST_GAIN).view(1, 1, *band.shape[-2:])
            lively = (gain * band)[0].flatten(1)
            moved = _map(lively, self.values[i], _quantiles(_sample(lively), VALUES))
            bound = lively.abs() * _HIGHEST_GAIN + 1e-3
            done.append(torch.maximum(torch.minimum(moved, bound), -bound).view_as(band))
        return collapse(done, coarse)


def _contrast(band: Tensor) -> Tensor:
    """Local root mean square of a band's luminance: ``(1, 3, H, W)`` to ``(1, H W)``."""
    return box(luminance(band).square(), _RADIUS).clamp_min(1e-10).sqrt().flatten(1)


def _sample(rows: Tensor) -> Tensor:
    """Return at most about ``_SAMPLES`` evenly spaced columns of ``(C, n)``, in steps that match no grid of patches."""
    step = rows.shape[1] // _SAMPLES
    return rows if step < 2 else rows[:, :: step | 1]


def _quantiles(rows: Tensor, count: int) -> Tensor:
    """``count`` quantiles from smallest to largest of every row: ``(C, n)`` to ``(C, count)``."""
    ordered = rows.sort(1).values
    place = torch.linspace(0, rows.shape[1] - 1, count, device=rows.device)
    low = place.floor().long()
    high = (low + 1).clamp(max=rows.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], place - low)


def _map(rows: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
    """Move every row's quantiles ``own`` onto ``wanted`` ``(C, Q)`` by a piecewise linear, monotone curve."""
    low, high = own[:, :1], own[:, -1:]
    width = (high - low).clamp_min(1e-8)
    nodes = low + width * torch.linspace(0, 1, _BINS + 1, device=rows.device)
    steady = own + width * 1e-6 * torch.arange(own.shape[1], device=rows.device)  # strictly rising
    right = torch.searchsorted(steady, nodes).clamp(1, own.shape[1] - 1)
    x0, x1 = steady.gather(1, right - 1), steady.gather(1, right)
    y0, y1 = wanted.gather(1, right - 1), wanted.gather(1, right)
    curve = torch.lerp(y0, y1, ((nodes - x0) / (x1 - x0).clamp_min(1e-12)).clamp(0, 1))
    place = ((rows - low) * (_BINS / width)).clamp(0, _BINS - 1e-3)
    cell = place.long()
    return torch.lerp(curve.gather(1, cell), curve.gather(1, cell + 1), place - cell)
