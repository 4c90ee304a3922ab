"""Lay a picture in with strokes of one color each, the way a painter does before any detail.

A renderer in closed form, without a loop over strokes (Haeberli 1990; Litwinowicz 1997). Every pixel is the middle of
a stroke that is swept along the shapes, has the color of its middle, and lies at a random height. A pixel shows the
highest of all strokes that reach it, unless that one's color is none of its own: strokes stop at edges. A big
brush comes first; where it misses what is there, a small one follows (Hertzmann 1998), and where that misses, too,
the picture itself shows, unless all is busy there: eyes in a face are drawn, a tree's leaves are not. How far colors
vary from stroke to stroke is the owner's (:meth:`shared_model.surface.Surface.variety`, ``mottled``), and along which
hues (:meth:`shared_model.color.ColorStats.mottling`).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.chance import scattered
from shared_model.pyramid import box, halve, resize_like

__all__ = ["alone", "lay_in", "leeway", "missed"]

_ALLOWED = 0.27  # how far a stroke's color may be from what it covers, in deviations of the picture
_FORBIDDEN = 20.0  # how much lower, in deviations, a stroke lies for every unit of color beyond
_PARTICULAR = 0.0125  # deviations that a brush may miss what is there by, times the square of the detail asked for
_TILE = 384  # pixels of half the size after which chance repeats
_AROUND = 2  # pixels around which that is asked
_FAR, _CROWDED = 4, 1.8  # pixels of a quarter of the size; how little is drawn where brushes miss all around
_CALMER = 0.5  # how far the colors of the small brush vary, of the big one's


@torch.no_grad()
def lay_in(
    picture: Tensor,
    trail: Tensor,
    *,
    brush: int,
    light: Tensor | float,
    hue: Tensor,
    detail: float,
    generator: torch.Generator,
    places: Tensor | None = None,
) -> Tensor:
    """Lay a picture in.

    Parameters
    ----------
    picture
        ``(1, 3, H, W) float in [0, 1]``.
    trail
        Where strokes run: :func:`shared_model.brush.trails` at half the picture's size, as long as half a stroke.
    brush
        Half the width of the big brush in pixels of half the picture's size, at least 1; the small one is half as
        wide and long.
    light
        Standard deviation of light from stroke to stroke: a number, or one for every pixel of half the size.
    hue
        What turns three independent numbers of deviation 1 into how much more red, green and blue a stroke has, over
        how far light varies, ``(3, 3)``; see :meth:`shared_model.color.ColorStats.mottling`.
    detail
        How particular the painter is: 0 uses the big brush only, 1 shows the picture almost everywhere.
    generator
        Where strokes lie and how their colors vary.
    places
        ``(1, 2, H/2, W/2)``: where in a scene the pixels lie, down and across; what is drawn by chance is drawn there,
        so that strokes go with a moving scene.

    Returns
    -------
    Tensor
        Same shape and range.
    """
    small = halve(picture)
    spread = _spread(picture)
    allowed = leeway(picture, detail)
    plain, change = _layer(small, trail, brush, 1.0, spread, generator, places)
    if brush > 1:
        finer, calmer = _layer(small, trail, brush // 2, 0.5, spread, generator, places)
        off = missed(plain, small, allowed)
        plain, change = torch.lerp(plain, finer, off), torch.lerp(change, _CALMER * calmer, off)
    tint = (hue @ change[0, :3].flatten(1)).view_as(plain)
    laid, seen = _sharply(plain + light * (change[:, 3:] + tint), plain, picture)
    return torch.lerp(laid, picture, alone(missed(seen, picture, allowed), detail)).clamp(0, 1)


def _layer(
    picture: Tensor,
    trail: Tensor,
    radius: int,
    share: float,
    spread: Tensor,
    generator: torch.Generator,
    places: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Paint with one brush, and with strokes of a ``share`` of the trail's length.

    Returns
    -------
    tuple
        The color of every pixel's stroke, ``(1, 3, H, W)``, and four numbers that are its own, standard normal.
    """
    height, width = picture.shape[-2:]
    draws = scattered(picture, 5, generator=generator, places=places, tile=_TILE)
    highest, middle = F.max_pool2d(draws[:, 4:], 2 * radius + 1, 1, radius, return_indices=True)
    highest, middle = highest.flatten(), middle.flatten()
    own = _rows(box(picture, max(1, radius // 2)))
    half = (len(trail) - 1) // 2
    best, shown = highest.new_full((height * width,), -torch.inf), middle
    for steps in range(0, int(share * half) + 1, radius):  # a brush is wide: no need to look at every pixel
        for row in (steps, steps + half) if steps else (0,):
            place = trail[row]
            stroke = middle[place]
            off = (own.index_select(0, stroke) - own).abs().amax(1) / spread - _ALLOWED
            score = highest[place] - _FORBIDDEN * off.clamp_min(0)
            better = score > best
            best, shown = torch.where(better, score, best), torch.where(better, stroke, shown)
    numbers = draws[0, :4].flatten(1).T[shown].T.view(1, 4, height, width)
    return own[shown].T.view(1, 3, height, width), numbers


def leeway(picture: Tensor, detail: float) -> Tensor:
    """Return by how much a painting may miss ``(1, 3, H, W)``, ``(1,)``; see :func:`lay_in` for ``detail``."""
    return _spread(picture) * _PARTICULAR / max(detail, 1e-3) ** 2


def missed(painted: Tensor, wanted: Tensor, allowed: Tensor) -> Tensor:
    """Return how surely a brush has missed what is there by more than is allowed, 0 to 1, ``(1, 1, H, W)``."""
    off = box((painted - wanted).abs().amax(1, keepdim=True), _AROUND)
    return (off / allowed - 1).clamp(0, 1)


def alone(off: Tensor, detail: float) -> Tensor:
    """Keep of what brushes have missed (``off``, see :func:`missed`) what they have not missed all around.

    An eye in a face, not a tree's leaves.
    """
    around = halve(halve(off))
    for _ in range(2):
        around = box(around, _FAR)
    return off * (1 - _CROWDED * (1 - detail) * resize_like(around, off)).clamp_min(0)


def _spread(picture: Tensor) -> Tensor:
    """Return the standard deviation of ``(1, 3, H, W)``, all channels together."""
    # (1,), not (): an exported graph would lose track of how many dimensions everything made with it has
    return (picture - picture.mean((2, 3), keepdim=True)).square().mean().sqrt().view(1) + 1e-3


def _sharply(laid: Tensor, plain: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Enlarge strokes ``(1, 3, h, w)`` to the size of ``like`` with sharp, smooth edges; their plain colors likewise.

    Each pixel takes one of the four strokes around it: the one most like their mean, and plainly most like the picture.
    """
    height, width = like.shape[-2:]
    both = _rows(torch.cat([laid, plain], 1))
    wanted = _rows(torch.cat([resize_like(box(laid, 1), like), like], 1))
    down, right = (torch.arange(-1, size - 1, device=like.device) // 2 for size in (height, width))
    around = []
    for below, beside in itertools.product((0, 1), repeat=2):
        row, column = (down + below).clamp(0, laid.shape[2] - 1), (right + beside).clamp(0, laid.shape[3] - 1)
        found = both.index_select(0, (row[:, None] * laid.shape[3] + column).flatten())
        around.append((found, (found - wanted).square().sum(1, keepdim=True)))
    result, best = around[0]
    for found, off in around[1:]:
        result, best = torch.where(off < best, found, result), torch.minimum(off, best)
    enlarged = result.T.view(1, 6, height, width)
    return enlarged[:, :3], enlarged[:, 3:]


def _rows(picture: Tensor) -> Tensor:
    """``(1, C, H, W)`` to ``(H W, C)``: a pixel is one run of memory."""
    return picture[0].flatten(1).T.contiguous()
