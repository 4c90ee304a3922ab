"""Style distances of the quality score: sliced Wasserstein distances between two pictures' statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.metrics.filters import gaussian_pyramid, halve, local_normalise, smooth, to_lab

__all__ = [
    "Signature",
    "color_signature",
    "distance",
    "fraction_closed",
    "joint_signature",
    "self_distance",
    "spread",
    "texture_signature",
    "trivial_edits",
]

LEVELS = 4  # pyramid levels for the style distances: 512, 256, 128 and 64 px short side
FILTERS = 32
PATCH = 7
QUANTILES = 200
SAMPLES = 6_000


@cache
def random_filters(out: int, channels: int, size: int, zero_mean: bool, seed: int) -> Tensor:
    """Unit-norm random filters; the seed is fixed by the caller."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, channels, size, size, generator=generator)
    if zero_mean:
        weight = weight - weight.mean((2, 3), keepdim=True)
    unit: Tensor = weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return unit


@cache
def sample_order(count: int) -> Tensor:
    """Return a fixed pseudo-random order of ``count`` locations."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(count))


Signature = list[Tensor]  # one (directions x quantiles) table per feature block
Mask = Callable[[int, int], Tensor]  # height, width -> boolean map of the locations to use


def quantile_table(features: Tensor, mask: Mask | None) -> Tensor:
    """Quantiles of every channel of a 1xDxHxW map: the 1-D marginals a sliced Wasserstein needs."""
    _, _, height, width = features.shape
    flat = features[0].flatten(1)
    order = sample_order(height * width)
    if mask is not None:
        order = order[mask(height, width).flatten()[order]]
    chosen = flat[:, order[:SAMPLES]].sort(dim=1).values
    where = torch.linspace(0.0, 1.0, QUANTILES + 1)
    where = 0.5 * (where[1:] + where[:-1]) * (chosen.shape[1] - 1)
    low = where.floor().long()
    fraction = where - low
    return chosen[:, low] * (1 - fraction) + chosen[:, (low + 1).clamp(max=chosen.shape[1] - 1)] * fraction


def filter_blocks(band: Tensor, zero_mean: bool, seed: int, mask: Mask | None) -> Signature:
    """Sliced marginals of raw patches, and of pooled rectified responses (joint statistics)."""
    step = 2 if min(band.shape[-2:]) >= 200 else 1  # fine levels have more locations than needed
    first = F.conv2d(band, random_filters(FILTERS, band.shape[1], PATCH, zero_mean, seed), stride=step)
    centred = first
    if not zero_mean:
        centred = F.conv2d(band, random_filters(FILTERS, band.shape[1], PATCH, True, seed + 1), stride=step)
    pooled = F.avg_pool2d(centred.abs(), 4 // step, 4 // step)
    second = F.conv2d(pooled, random_filters(FILTERS, FILTERS, 3, True, seed + 2))
    return [quantile_table(first, mask), quantile_table(pooled, mask), quantile_table(second, mask)]


def texture_signature(luma: Tensor, mask: Mask | None = None) -> Signature:
    """Locally contrast-normalised luminance patches over a pyramid: shape of marks, not strength."""
    blocks: Signature = []
    for level, image in enumerate(gaussian_pyramid(luma, LEVELS)):
        blocks += filter_blocks(local_normalise(image, 5.0, 0.03), True, 1000 + 10 * level, mask)
    return blocks


def joint_signature(rgb: Tensor, mask: Mask | None = None) -> Signature:
    """Raw color patches over a Gaussian pyramid."""
    blocks: Signature = []
    for level, image in enumerate(gaussian_pyramid(rgb, LEVELS)):
        blocks += filter_blocks(image, False, 2000 + 10 * level, mask)
    return blocks


def color_signature(rgb: Tensor, mask: Mask | None = None) -> Signature:
    """Pixel colors in Lab along fixed directions."""
    return [quantile_table(F.conv2d(to_lab(halve(rgb)), random_filters(FILTERS, 3, 1, False, 3000)), mask)]


def spread(signature: Signature) -> list[float]:
    """Mean absolute deviation per block: makes distances of different blocks commensurable."""
    return [float((b - b.median(dim=1, keepdim=True).values).abs().mean()) + 1e-6 for b in signature]


def distance(a: Signature, b: Signature, scale: Sequence[float]) -> float:
    """Sliced 1-Wasserstein distance, averaged over blocks in units of the painting's own spread."""
    return float(np.mean([float((x - y).abs().mean()) / s for x, y, s in zip(a, b, scale, strict=True)]))


def chequered(parts: int, odd: bool) -> Mask:
    """Every other crop of a grid with ``parts`` crops along the short side."""

    def mask(height: int, width: int) -> Tensor:
        side = min(height, width) / parts
        rows = (torch.arange(height) / side).long().view(-1, 1)
        columns = (torch.arange(width) / side).long().view(1, -1)
        return ((rows + columns) % 2 == 1) == odd

    return mask


def self_distance(
    signature: Callable[[Tensor, Mask | None], Signature], image: Tensor, scale: Sequence[float]
) -> float:
    """Distance between disjoint interleaved crops of one painting, over two crop sizes."""
    return float(
        np.mean(
            [
                distance(signature(image, chequered(n, False)), signature(image, chequered(n, True)), scale)
                for n in (2, 4)
            ]
        )
    )


def fraction_closed(photo: float, output: float, floor: float) -> float:
    """0 = as far as the photo, 1 = the painting's own variation.  Can be negative."""
    floor = min(floor, 0.6 * photo)  # a photo that is already close must not make the scale explode
    return (photo - output) / max(photo - floor, 1e-9)


def trivial_edits(luma: Tensor) -> list[Tensor]:
    """Return the photo, and what unsharp masking and grain make of it: none of them is stylisation."""
    detail = luma - smooth(luma, 2.0)
    grain = torch.randn(luma.shape, generator=torch.Generator().manual_seed(4000))
    edits = [luma, luma + 4 * detail, luma + 0.12 * grain, luma + 2 * detail + 0.08 * grain]
    return [edit.clamp(0, 1) for edit in edits]
