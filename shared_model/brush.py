"""How a brush sees and moves: broad areas instead of grain, strokes along the shapes.

Closed-form steps that every head's draft takes, whatever the style. Before the look-up :func:`abstract`
flattens the photo's own texture but keeps its edges (Kuwahara et al. 1976, with the soft weights of
Papari et al. 2007), :func:`directions` finds along which way strokes run (structure tensors
near and far; Kass & Witkin 1987, smoothed as in Kyprianidis & Kang 2011), and :func:`trails` and :func:`bristles`
draw noise out along it (line integral convolution; Cabral & Leedom 1993), so that the patches looked up for it are
strokes that follow the shape. After it :func:`settle` keeps broad colors where the photo has them and lets
the photo's own structure come through (faces, edges).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from shared_model.pyramid import box, collapse, decompose, halve, luminance, pad_reflect, resize_like, window_mean

__all__ = ["STEPS", "abstract", "bristles", "directions", "settle", "trails"]

_RADIUS = 4  # of the four quadrants that abstract compares, in canvas pixels
_FLOOR = 2e-4  # variance below which quadrants count as equally even
_EVEN = 4.0  # exponent of the preference for even quadrants
_NEAR, _FAR = 3, 6  # radius over which shapes are sought, in pixels of half the canvas's size, and of an eighth of it
_EVENNESS = 1e-6  # energy of gradients that shows no shape
_HATCHED = 0.02  # how much agreement it takes to turn strokes away from a right hand's hatching
_SHOWN = (0.5, 1.4, 1.4, 1.4)  # how readily the photo's own bands show, finest first, at detail 0.5
STEPS = len(_SHOWN) + 1  # pyramid levels of the photo that settle looks at


def abstract(photo: Tensor, amount: float) -> Tensor:
    """Flatten grain and small texture between edges.

    Parameters
    ----------
    photo
        ``(N, 3, H, W) float in [0, 1]``.
    amount
        0 leaves the photo, 1 takes all of the filter.
    """
    if amount == 0:
        return photo
    height, width = photo.shape[-2:]
    side = _RADIUS + 1
    padded = pad_reflect(photo, _RADIUS)
    mean = window_mean(padded, side)
    light = luminance(padded)
    spread = (window_mean(light * light, side) - luminance(mean).square()).clamp_min(0) + _FLOOR
    preference = (spread / _FLOOR).pow(-_EVEN)
    total, weight = torch.zeros_like(photo), torch.full_like(photo[:, :1], 1e-12)
    for y in (0, _RADIUS):
        for x in (0, _RADIUS):
            part = preference[:, :, y : y + height, x : x + width]
            total = total + part * mean[:, :, y : y + height, x : x + width]
            weight = weight + part
    return torch.lerp(photo, total / weight, amount)


def directions(picture: Tensor) -> Tensor:
    """Return the unit direction along which strokes run, at half size: ``(1, 3, H, W)`` to ``(1, 2, H/2, W/2)``.

    Channels are the steps to the right and down. A direction and its opposite mean the same. Strokes follow the
    shape that they lie on; where a photo shows none (sky, skin, cloth: what little structure is there is mostly
    noise), they follow the shapes around it, and where there are none at all they hatch as a right hand does.
    """
    light = pad_reflect(halve(luminance(picture)), 1)
    right = light[:, :, 1:-1, 2:] - light[:, :, 1:-1, :-2]
    down = light[:, :, 2:, 1:-1] - light[:, :, :-2, 1:-1]
    near = torch.cat([right * right, right * down, down * down], 1)
    far = halve(halve(near))
    for _ in range(3):
        near, far = box(near, _NEAR), box(far, _FAR)
    across = _agreement(near) + resize_like(_agreement(far), near)
    angle = 0.5 * torch.atan2(across[:, 1:2] + _HATCHED, across[:, 0:1]) + math.pi / 2
    return torch.cat([angle.cos(), angle.sin()], 1)


def _agreement(tensor: Tensor) -> Tensor:
    """Turn a structure tensor ``(1, 3, H, W)`` into the direction across shapes, its angle doubled: ``(1, 2, H, W)``.

    It is as long as the square of the tensor's coherence: near 1 on an edge, next to nothing in noise.
    """
    doubled = torch.cat([tensor[:, 0:1] - tensor[:, 2:3], 2 * tensor[:, 1:2]], 1)
    coherent = doubled / (tensor[:, 0:1] + tensor[:, 2:3] + _EVENNESS)
    return coherent * coherent.square().sum(1, keepdim=True).sqrt()


def trails(along: Tensor, steps: int) -> Tensor:
    """Follow a field of directions both ways from every pixel.

    Parameters
    ----------
    along
        ``(1, 2, H, W)`` unit directions from :func:`directions`.
    steps
        Pixels to go each way: half the length of a stroke.

    Returns
    -------
    Tensor
        ``(2 steps + 1, H W)`` flat indices of the pixels on each pixel's trail.
    """
    height, width = along.shape[-2:]
    field = along[0].flatten(1)
    rows = torch.arange(height, device=along.device).repeat_interleave(width)
    columns = torch.arange(width, device=along.device).repeat(height)
    trail = [rows * width + columns]
    for sign in (1.0, -1.0):
        x, y, step = columns.to(along.dtype), rows.to(along.dtype), sign * field
        for _ in range(steps):
            x, y = x + step[0], y + step[1]
            index = y.round().clamp(0, height - 1).long() * width + x.round().clamp(0, width - 1).long()
            trail.append(index)
            here = field[:, index]
            step = here * torch.where((here * step).sum(0) < 0, -1.0, 1.0)
    return torch.stack(trail)


def bristles(noise: Tensor, trail: Tensor) -> Tensor:
    """Average noise ``(1, 1, H, W)`` along :func:`trails`: same shape, zero mean and unit deviation."""
    flat = noise.flatten()
    total = flat.clone()
    for index in trail[1:]:
        total += flat[index]
    centred = total - total.mean()
    return (centred / centred.square().mean().sqrt().clamp_min(1e-6)).view_as(noise)


def settle(painted: Tensor, steps: Sequence[Tensor], *, allowed: float, detail: float, held: int = 3) -> Tensor:
    """Keep broad colors where the photo has them, and let its own structure through (faces, edges).

    Parameters
    ----------
    painted
        ``(1, 3, H, W)`` from the look-up.
    steps
        :func:`shared_model.pyramid.pyramid` of the photo in the owner's palette, :data:`STEPS` levels.
    allowed
        How far broad colors may leave the photo's: no blotches on skin.
    detail
        How readily the photo's own bands show where it has structure: 0 not at all, 1 most. Flat areas keep the
        strokes.
    held
        Pyramid level from which on colors are held to the photo's, 1 to ``STEPS - 1``.
    """
    details, coarse = decompose(painted, held)
    wanted = steps[held]
    rest, coarse = decompose(wanted + (coarse - wanted).clamp(-allowed, allowed), STEPS - 1 - held)
    details += rest
    if detail > 0:
        photo_bands = [fine - resize_like(coarser, fine) for fine, coarser in itertools.pairwise(steps)]
        details = [_shown(own, of, detail * way) for own, of, way in zip(details, photo_bands, _SHOWN, strict=True)]
    return collapse(details, coarse)


def _shown(own: Tensor, photo: Tensor, detail: float) -> Tensor:
    """Mix one band of the painting with the photo's, by how much structure the photo has there."""
    energy = box(luminance(photo).square(), 3).clamp_min(0).sqrt()
    salience = energy / (energy + 2.0 * energy.mean() + 1e-4)
    return own + (2 * detail * salience).clamp(max=1.0) * (1.3 * photo - own)
