"""Training losses as per-sample pure functions: pictures ``(N, ...)`` in, ``(N,)`` out.

No loss looks across samples, and whatever is random (projections, sampling offsets) comes in as an
argument that does not depend on the data. Gradients per record are therefore well defined, which
the private training step needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.pyramid import bands, box, halve, luminance, pyramid
from shared_model.sorting import sort_rows

__all__ = ["gamut", "keep", "marks", "restore", "sliced_bands", "sliced_patches", "structure", "tone"]

TOLERANCE = (0.4, 0.22, 0.14, 0.14)  # structure may deviate by this much per band, finest first
_KEEP_WEIGHTS = (0.3, 1.0, 1.0, 1.0)


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def structure(output: Tensor, photo: Tensor) -> Tensor:
    """Penalise lost structure only beyond a tolerance: content as a constraint, not as a goal.

    Four luminance bands are divided by their local contrast and compared with weights that follow
    the photo's contrast, so flat areas are free; each band's error counts beyond :data:`TOLERANCE`.

    Parameters
    ----------
    output, photo
        ``(N, 3, H, W)``, nominally in [0, 1].
    """
    total = torch.zeros(len(output), device=output.device)
    ours, theirs = bands(luminance(output), 4), bands(luminance(photo), 4)
    for own, band, allowed in zip(ours, theirs, TOLERANCE, strict=True):
        contrast = box(band.square(), 4).clamp_min(1e-8).sqrt()
        own_contrast = box(own.square(), 4)
        difference = own / (own_contrast + 4e-4).sqrt() - band / (contrast.square() + 4e-4).sqrt()
        weight = contrast / (contrast.mean((1, 2, 3), keepdim=True) + 1e-3) + 0.1
        total = total + F.relu(_mean(difference.abs() * weight) / _mean(weight) - allowed)
    return total / 4


def keep(output: Tensor, draft: Tensor, photo: Tensor) -> Tensor:
    """Where the photo is flat, the owner's strokes stay as drafted: weighted L1 of four bands."""
    total = torch.zeros(len(output), device=output.device)
    guide = bands(luminance(photo), 4)
    for own, wanted, band, factor in zip(bands(output, 4), bands(draft, 4), guide, _KEEP_WEIGHTS, strict=True):
        energy = box(band.square(), 3).clamp_min(1e-10).sqrt()
        salience = energy / (energy + energy.mean((1, 2, 3), keepdim=True) + 0.01)
        total = total + factor * _mean((1 - salience).square() * (own - wanted).abs())
    return total


def tone(output: Tensor, draft: Tensor) -> Tensor:
    """L1 of the pictures at a quarter of their size: colors and masses stay the draft's."""
    return _mean((halve(halve(output)) - halve(halve(draft))).abs())


def gamut(output: Tensor) -> Tensor:
    """Squared overshoot beyond [0, 1]."""
    return _mean((F.relu(output - 1) + F.relu(-output)).square())


def restore(output: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels and of three Laplacian bands against the real painting (restyle records)."""
    total = _mean((output - target).abs())
    for own, wanted in zip(bands(output, 3), bands(target, 3), strict=True):
        total = total + _mean((own - wanted).abs())
    return total


def _sorted_distance(a: Tensor, b: Tensor) -> Tensor:
    """1-D Wasserstein distance of every channel of ``(N, C, h, w)`` maps, averaged: ``(N,)``."""
    first, second = sort_rows(a.flatten(2)), sort_rows(b.flatten(2))
    return (first - second).abs().mean((1, 2))


def _sliced(ours: Sequence[Tensor], theirs: Sequence[Tensor], filters: Sequence[Tensor], offset: int) -> Tensor:
    total = torch.zeros(len(ours[0]), device=ours[0].device)
    for own, other, kernel in zip(ours, theirs, filters, strict=True):
        stride = max(1, own.shape[-1] // 44)
        shift = offset % stride
        a = F.conv2d(own[:, :, shift:, shift:], kernel, stride=stride)
        b = F.conv2d(other[:, :, shift:, shift:], kernel, stride=stride)
        total = total + _sorted_distance(a, b)
    return total / len(ours)


def sliced_patches(output: Tensor, style: Tensor, filters: Sequence[Tensor], offset: int) -> Tensor:
    """Sliced Wasserstein distance (Rabin et al. 2011) of raw patches over a Gaussian pyramid.

    Parameters
    ----------
    output, style
        ``(N, 3, H, W)``; ``style`` is another crop of the same painting.
    filters
        Random unit filters ``(K, 3, k, k)``, one bank per level.
    offset
        Random sampling offset, reduced modulo each level's stride.
    """
    return _sliced(pyramid(output, len(filters)), pyramid(style, len(filters)), filters, offset)


def sliced_bands(output: Tensor, style: Tensor, filters: Sequence[Tensor], offset: int) -> Tensor:
    """Like :func:`sliced_patches` on Laplacian bands in units of the style band's deviation."""
    ours, theirs = bands(output, len(filters)), bands(style, len(filters))
    scale = [(b.square().mean((1, 2, 3), keepdim=True) + 1e-4).sqrt() for b in theirs]
    return _sliced(
        [b / s for b, s in zip(ours, scale, strict=True)],
        [b / s for b, s in zip(theirs, scale, strict=True)],
        filters,
        offset,
    )


def marks(output: Tensor, style: Tensor, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Second-order statistics of luminance marks: how strokes of different directions go together.

    Bands of luminance, divided by their local contrast, pass random filters; the rectified, pooled
    responses pass random filters again (a two-layer scattering; Bruna & Mallat 2013). Marginals are
    compared as in :func:`sliced_patches`.

    Parameters
    ----------
    output, style
        ``(N, 3, H, W)``.
    first, second
        Zero-mean unit filters ``(K, 1, 5, 5)`` and ``(K, K, 3, 3)``, one pair per band.
    """
    total = torch.zeros(len(output), device=output.device)
    ours, theirs = bands(luminance(output), len(first)), bands(luminance(style), len(first))
    for own, other, one, two in zip(ours, theirs, first, second, strict=True):
        a = F.conv2d(own / (box(own.square(), 7) + 9e-4).sqrt(), one)
        b = F.conv2d(other / (box(other.square(), 7) + 9e-4).sqrt(), one)
        total = total + _sorted_distance(a[:, :, ::3, ::3], b[:, :, ::3, ::3])
        a, b = F.avg_pool2d(a.abs(), 3, 2), F.avg_pool2d(b.abs(), 3, 2)
        total = total + _sorted_distance(a, b)
        total = total + _sorted_distance(F.conv2d(a, two), F.conv2d(b, two))
    return total / (3 * len(first))
