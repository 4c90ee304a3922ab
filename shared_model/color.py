"""The color part of a head: how a photo's palette is moved onto the paintings'.

First the closed-form optimal transport between two Gaussians (Monge-Kantorovich; Pitie & Kokaram
2007, eq. 4): it turns the photo's mean and covariance into the paintings' and changes colors as
little as possible while doing so. Then half of one step of sliced transport (Pitie et al. 2007)
along the paintings' own principal axes of color, for palettes that are no bell curve. Both move means and
spreads, so the ends of a lopsided photo (a face before a black ground) would land outside of the palette: hues are
bent back into it, and where light and dark are all that the paintings have, photos keep them apart. What painting
does to a palette on the way (patches blend, strokes fade) is made up for at the end, halfway: :func:`nearer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model.pyramid import LUMA, luminance
from shared_model.quantiles import curve, follow, quantiles, sample, soften

__all__ = ["TONES", "ColorStats", "mapping", "nearer", "tinted", "transfer"]

TONES = 129  # quantiles kept per axis
_FLOOR = 3e-4  # added to every variance: greyscale or single-colored pictures stay finite
_NEARER = 0.5  # how far a finished painting's mean and covariance are moved back onto the paintings'
_STRETCH = 1.5  # most by which that may stretch or squeeze an axis of color, were it moved all the way
_SHARE = 0.5  # how far tones move onto the paintings': all the way, skies break into bands
_GRAY = 0.005  # of its variance that the palette of a picture without hues has beside light and dark, at most
_OVERSHOOT = 0.1  # of its range by which a gray palette is overshot before the photo's tones are fitted into it whole
_BEYOND = 0.2  # of the paintings' farthest hues: how far beyond them a photo's may end, at most
_LEAST_HUE = 0.004  # what counts as the farthest hue of pictures that have none
_SOFT = 0.05  # of its inputs a tone curve is averaged over: the grain of an overexposed sky stays grain
_PAPER = 0.75  # a palette is paper and ink where this much of it lies within a tenth of its range ...
_BRIGHT, _CONTRAST = 0.7, 0.15  # ... and that paper is this bright, and this much brighter than the ink
_STRONGER = 1.6  # most by which contrast and colors become stronger where hues stay
_CHUNK = 1 << 21  # pixels summed at once


@dataclass(frozen=True)
class ColorStats:
    """Colors of pictures, RGB in [0, 1].

    Parameters
    ----------
    mean, covariance
        ``(3,)`` and ``(3, 3)``.
    axes
        ``(3, 3)`` principal axes, one a row.
    tones
        ``(3, TONES)`` quantiles of the centred colors along each axis.
    share
        How far a photo's colors move onto these, 0 (not at all) to 1 (all the way).
    vivid
        How far its contrast and the strength of its colors do where its hues stay, 0 to 1.
    """

    mean: Tensor
    covariance: Tensor
    axes: Tensor
    tones: Tensor
    share: float = 1.0
    vivid: float = 0.0

    @staticmethod
    def of(pictures: Sequence[Tensor]) -> ColorStats:
        """Return the joint statistics of pictures, each ``(1, 3, H, W)`` or ``(3, H, W)``."""
        pixels = torch.cat([p.reshape(3, -1).to("cpu", torch.float32) for p in pictures], dim=1)
        mean, covariance = _moments(pixels)
        axes = torch.linalg.eigh(covariance)[1].T.contiguous()
        return ColorStats(mean, covariance, axes, quantiles(axes @ (sample(pixels) - mean[:, None]), TONES))

    def ink_share(self) -> float:
        """Return how much of the palette is ink, in (0, 1), if it is that of a line drawing on bright paper; else 0."""
        tones = self.tones[-1]  # along the axis of largest variance
        span = float(tones[-2] - tones[1])
        alike = ((tones[:, None] - tones[None, :]).abs() <= 0.1 * span).float().mean(1)
        paper = int(alike.argmax())
        if span <= 0 or float(alike[paper]) < _PAPER:
            return 0.0
        ends = torch.stack([tones[paper], tones[1], tones[-2]])[:, None] * self.axes[-1] + self.mean
        lights = luminance(ends[:, :, None, None]).flatten()
        if float(lights[0]) < _BRIGHT or float(lights[0] - lights.min()) < _CONTRAST:
            return 0.0
        return float(((tones - tones[paper]).abs() > 0.3 * span).float().mean().clamp_min(0.005))

    def grayness(self) -> float:
        """Return 1 where light and dark are all that pictures have, 0 where they have hues."""
        main = float(self.axes[-1] @ self.covariance @ self.axes[-1])
        return min(1.0, max(0.0, 1 - (1 - main / max(float(self.covariance.trace()), 1e-9)) / _GRAY))

    def colorfulness(self) -> float:
        """Return the standard deviation of red, green and blue at equal light, over that of light; 0 (gray) to 1."""
        weights = torch.tensor(LUMA, device=self.covariance.device)
        light = float(weights @ self.covariance @ weights)
        apart = torch.eye(3, device=weights.device) - weights
        hues = float((apart @ self.covariance @ apart.T).trace()) / 3
        return min(1.0, math.sqrt(max(hues, 0.0) / max(light, 1e-9)))

    def darkest(self) -> Tensor:
        """Return the color of the dark end of the axis of largest variance, ``(3,)``: ink, or the deepest shadow."""
        ends = self.tones[-1, [1, -2]][:, None] * self.axes[-1] + self.mean
        lights = luminance(ends[:, :, None, None]).flatten()
        return torch.where(lights[0] < lights[1], ends[0], ends[1]).clamp(0.0, 1.0)

    def strength(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and deviation of light, and the root mean square of what red, green and blue differ by from it.

        ``()`` each.
        """
        weights = torch.tensor(LUMA, device=self.mean.device)
        apart = torch.eye(3, device=self.mean.device) - weights
        hues = (apart @ self.covariance @ apart.T).diagonal().mean() + (apart @ self.mean).square().mean()
        return weights @ self.mean, (weights @ self.covariance @ weights).clamp_min(0.0).sqrt(), hues.sqrt()

    def mottling(self, *, own: bool = True) -> Tensor:
        """Return what turns independent numbers into red, green and blue that vary at equal light, ``(3, 3)``.

        They vary along the owner's own hues, or every way alike, and together as much as red, green and blue do
        without their light if each is such a number.
        """
        apart = torch.eye(3) - torch.tensor(LUMA)
        if not own:
            return apart
        hues = apart @ _power(apart @ self.covariance @ apart.T, 0.5)
        return hues * (apart.square().sum() / hues.square().sum()).sqrt()

    def hues_for(self, picture: Tensor) -> Tensor:
        """Return how much of the owner's hues strokes may have, 0 to 1, ``()``; twice a photo's that keeps its colors.

        ``picture`` is ``(1, 3, H, W)``. A photo without colors that keeps them stays without.
        """
        light = luminance(picture)
        apart = picture - light
        spread = (apart - apart.mean((2, 3), keepdim=True)).square().mean()
        own = (spread / (light - light.mean()).square().mean().clamp_min(1e-9)).sqrt()
        return self.share + (1 - self.share) * (2 * own / max(self.colorfulness(), 1e-6)).clamp(max=1.0)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(3,)`` and covariance ``(3, 3)`` of ``(3, n)``."""
    mean = pixels.mean(dim=1)
    total = torch.zeros(3, 3)
    for part in pixels.split(_CHUNK, 1):
        centred = part - mean[:, None]
        total += centred @ centred.T
    return mean, total / pixels.shape[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Real power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors @ torch.diag(values.clamp_min(1e-9) ** exponent) @ vectors.T
    return result


def _line(source: Tensor, stats: ColorStats) -> tuple[Tensor, Tensor]:
    """Matrix ``(3, 3)`` of the optimal transport between two bell curves, and the mean ``(3, 1)`` of ``(3, n)``."""
    mean, covariance = _moments(source.to("cpu", torch.float32))
    covariance = torch.where(covariance.isfinite(), covariance, 0.0)  # what is not finite is refused where it ends
    ridge = _FLOOR * torch.eye(3)
    own, wanted = (covariance + ridge).double(), (stats.covariance + ridge).double()  # their roots are ill-conditioned
    root, inverse = _power(own, 0.5), _power(own, -0.5)
    matrix = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    return matrix.to(source), mean.to(source)[:, None]


def mapping(guide: Tensor, stats: ColorStats) -> Callable[[Tensor], Tensor]:
    """Return the map that moves the palette of ``guide`` ``(1, 3, H, W)`` onto ``stats``.

    Returns
    -------
    Callable
        Pixel by pixel, ``(1, 3, h, w)`` to the same shape in [0, 1]: of ``guide``, of parts or of a
        larger copy of it.
    """
    source = guide.detach()[0].flatten(1)
    matrix, own = _line(source, stats)
    axes, center = stats.axes.to(guide), stats.mean.to(guide)[:, None]
    turned = axes @ matrix
    before, wanted = quantiles(turned @ (sample(source) - own), TONES), stats.tones.to(guide)
    tones = soften(curve(before, wanted), _SOFT)
    slope, offset = _fitted(torch.lerp(before, follow(before, tones), _SHARE)[-1], wanted[-1], stats.grayness())

    def move(x: Tensor) -> Tensor:
        along = turned @ (x[0].flatten(1) - own)
        along = torch.lerp(along, follow(along, tones), _SHARE)
        along = torch.cat([_bent(along[:-1], wanted[:-1]), slope * along[-1:] + offset])
        moved = (axes.T @ along + center).clamp(0.0, 1.0).view_as(x)
        return moved if stats.share == 1 else torch.lerp(x, moved, stats.share)

    return move if stats.vivid == 0 or stats.share == 1 else _strengthened(move, guide.detach(), stats)


def _strengthened(move: Callable[[Tensor], Tensor], guide: Tensor, stats: ColorStats) -> Callable[[Tensor], Tensor]:
    """Let a map give ``guide`` the owner's contrast and strength of color, too; hues stay as they are."""
    moved = move(guide)
    light = luminance(moved)
    mean, deviation, hues = (number.to(guide) for number in stats.strength())
    own = light.mean()
    slope = (deviation / (light - own).square().mean().sqrt().clamp_min(1e-3)).clamp(1.0, _STRONGER)
    more = (hues / (moved - light).square().mean().sqrt().clamp_min(1e-3)).clamp(1.0, _STRONGER)
    wanted = torch.lerp(own, mean, 0.5)

    def strong(x: Tensor) -> Tensor:
        before = move(x)
        gray = luminance(before)
        after = wanted + slope * (gray - own) + more * (before - gray)
        return torch.lerp(before, after, stats.vivid).clamp(0.0, 1.0)

    return strong


def _fitted(reached: Tensor, wanted: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Slope and offset that take tones ``(TONES,)`` that overshoot ``wanted`` back into them, a ``share`` of the way.

    Means and spreads say nothing of a gray palette's ends: most of a drawing is paper, so the half of a dark photo
    that matters would be paper too. The ends are moved onto the ends then, and what lies between stays apart.
    """
    low, high, lowest, highest = reached[1], reached[-2], wanted[1], wanted[-2]
    span = (highest - lowest).clamp_min(1e-4)
    overshoot = torch.maximum(high - highest, lowest - low) / span
    part = share * (overshoot / _OVERSHOOT).clamp(0.0, 1.0)
    slope = span / (high - low).clamp_min(1e-4)
    return 1 + part * (slope - 1), part * (lowest - slope * low)


def _bent(hues: Tensor, wanted: Tensor) -> Tensor:
    """Bend ``(2, n)`` colors along the lesser axes smoothly back towards the range of ``wanted`` ``(2, TONES)``."""
    farthest = torch.where(hues > 0, wanted[:, -1:], -wanted[:, :1]).clamp_min(_LEAST_HUE)
    room, beyond = _BEYOND * farthest, (hues.abs() - farthest).clamp_min(0.0)
    return hues.sign() * (hues.abs() - beyond + room * torch.tanh(beyond / room))


def transfer(x: Tensor, stats: ColorStats) -> Tensor:
    """Move the palette of one picture ``(1, 3, H, W) float in [0, 1]`` onto ``stats``; clamped to [0, 1]."""
    return mapping(x, stats)(x)


def nearer(painted: Tensor, stats: ColorStats) -> Tensor:
    """Move mean and covariance of a finished painting ``(1, 3, H, W)`` halfway back onto ``stats``; in [0, 1].

    No axis of color is stretched or squeezed by more than half: a flat sky stays flat.
    """
    flat = painted[0].flatten(1)
    matrix, own = _line(flat.detach(), stats)
    stretch, axes = torch.linalg.eigh(matrix.cpu())
    bounded = (axes @ torch.diag(stretch.clamp(1 / _STRETCH, _STRETCH)) @ axes.T).to(flat)
    moved = (bounded @ (flat - own) + stats.mean.to(flat)[:, None]).view_as(painted)
    return torch.lerp(painted, moved, _NEARER * stats.share).clamp(0.0, 1.0)


def tinted(painted: Tensor, colored: Tensor, share: float) -> Tensor:
    """Give a painting so much of the hues of what it follows, pixel by pixel; light and dark stay."""
    return painted + share * ((colored - luminance(colored)) - (painted - luminance(painted)))
