"""Washes: transparent paint on wet paper, as in watercolors.

What Bousseau, Kaplan, Thollot & Sillion (2006, *Interactive watercolor rendering*) do, with a picture's own colors as
the paint: borders wander, areas are even in a few tones, and where there is more pigment the same color is deeper
(their eq. 1 follows Beer and Lambert): along the rim of a wash, in pools, and in the paper's hollows. Paper is white
where a picture is. What stands out by itself and was smoothed away, the eyes of a small face, is drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_model.areas import stepped
from shared_model.brush import abstract
from shared_model.chance import doubled, scattered
from shared_model.laying_in import alone, leeway, missed
from shared_model.lines import blur
from shared_model.pyramid import box, lattice, luminance

__all__ = ["lay"]

_WANDER, _WANDERING = 1.5, 6  # pixels that borders wander, and the radius within which they do so together
_TONES = (6, 16)  # of broad and of small washes
_RIM = 2.6  # deviation of what a rim is darker than
_RIMS, _DEEPEST = 10.0, 1.0  # how much deeper rims are
_POOLS = ((40, 0.15), (12, 0.06))  # radius of pools, and how much deeper they are
_GRAINS = ((0.6, 0.12), (1.6, 0.06))  # the like of the paper's hollows: deviations
_THIN, _THICK = 0.35, 2.6  # least and most pigment
_DARKEST = 0.02  # of any paint
_PAPER, _LIFT = 0.95, 1.3  # thin paint: the darkest is a twentieth lighter, and lights are the paper's


@torch.no_grad()
def lay(
    picture: Tensor, *, strength: float, detail: float, generator: torch.Generator, places: Tensor | None = None
) -> Tensor:
    """Paint a picture in washes.

    Parameters
    ----------
    picture
        ``(1, 3, H, W) float in [0, 1]``.
    strength
        How unevenly pigment lies, 0 to 1.
    detail
        How much is drawn that stands out, 0 to 1; see :func:`shared_model.laying_in.lay_in`.
    generator
        Where borders wander and pigment gathers.
    places
        ``(1, 2, H/2, W/2)``: where in a scene the pixels lie, down and across, so that washes go with it.

    Returns
    -------
    Tensor
        Same shape and range.
    """
    drift, pools, hollows = _chance(picture, generator, places)
    wandered = _moved(picture, strength * _WANDER * drift)
    smooth = abstract(abstract(wandered, 1.0), 1.0)
    light = luminance(smooth)
    broad, small = (stepped(light, tones) for tones in _TONES)
    washed = smooth + 0.5 * (broad + small) - light
    rims = _RIMS * (
        (blur(broad, _RIM) - blur(broad, 0.8)).clamp_min(0) + (blur(small, 1.4) - blur(small, 0.6)).clamp_min(0)
    )
    pigment = 1 + strength * (pools + hollows + rims.clamp(max=_DEEPEST))
    washed = torch.lerp(washed.clamp(0, 1), 1 - _PAPER * (1 - washed.clamp(0, 1)) ** _LIFT, strength)
    painted = washed.clamp(_DARKEST, 1.0) ** pigment.clamp(_THIN, _THICK)
    off = missed(smooth, picture, leeway(picture, detail))
    return torch.lerp(painted, picture, alone(off, detail)).clamp(0, 1)


def _chance(picture: Tensor, generator: torch.Generator, places: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far borders drift, down and across ``(1, 2, H, W)``, how deep pools are and what hollows hold."""
    numbers = scattered(picture, 3, generator=generator, places=doubled(places, picture))
    drift = _even(numbers[:, :2], _WANDERING)
    pools = torch.stack([share * _even(numbers[:, 2:], radius) for radius, share in _POOLS]).sum(0)
    hollows = torch.stack([share * _unit(blur(numbers[:, 2:], deviation)) for deviation, share in _GRAINS]).sum(0)
    return drift, pools, hollows


def _even(noise: Tensor, radius: int) -> Tensor:
    """Smooth noise ``(1, C, H, W)``, with a deviation of 1."""
    for _ in range(3):
        noise = box(noise, radius)
    return _unit(noise)


def _unit(noise: Tensor) -> Tensor:
    return noise / noise.square().mean((2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def _moved(picture: Tensor, drift: Tensor) -> Tensor:
    """Take every pixel of ``(1, 3, H, W)`` from where it drifted from."""
    height, width = picture.shape[-2:]
    place = (lattice(picture) + drift).round()[0]
    row, column = place[0].clamp(0, height - 1).long(), place[1].clamp(0, width - 1).long()
    return picture.flatten(2).index_select(2, (row * width + column).flatten()).view_as(picture)
