"""Which of an owner's colors a photo's colors become: skin the warm ones, a sky the blue ones, where there are any.

Moving means and spreads onto one another (:mod:`shared_model.color`) knows nothing of hues: the mean of a portrait is
skin, the mean of a landscape is green, so skin turned green. Here the owner's palette is a dozen *pots* of paint, and
optimal transport hands them out: a pot costs what its hue differs from the photo's own, not from the photo's mean, and
need not be used up (unbalanced transport, Chizat et al. 2018), or a sky would be poured over whoever has none. With
the entropic penalty the plan is a map for any color (Pooladian & Niles-Weed 2021): a linear layer, a softmax over the
pots and another linear layer. What a color differs from its pot's mean by moves with the photo's palette as a whole,
as between the parts of two mixtures (Delon & Desolneux 2020), so no color of a photo becomes flat.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shared_model.pyramid import LUMA
from shared_model.quantiles import sample

__all__ = ["POTS", "handed_out", "mixed"]

POTS = 12
_ROUNDS = 15  # of Lloyd's algorithm
_STEPS = 30  # of Sinkhorn's
_EVERY = 11  # of the sampled colors of a photo, one is handed its paint; odd, as the steps of sample are
_HUES = 1.5  # what a difference of hue counts for against one of light
_BLUR = 0.02  # entropic penalty: squared distance within which pots are blended
_LEFT = 0.1  # penalty on paint that is left over or runs short: the higher, the more exactly pots are used up
_RARE = 1e-6  # the least share of a pot


def mixed(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the pots of a palette (k-means).

    Parameters
    ----------
    pixels
        ``(3, n) float in [0, 1]``.

    Returns
    -------
    tuple
        Colors ``(POTS, 3)`` and the share of pixels that is nearest to each ``(POTS,)``, adding up to 1.
    """
    points = sample(pixels).T.contiguous()
    spread = torch.linspace(0, len(points) - 1, POTS).long()
    pots = points[points.sum(1).argsort()[spread]]  # evenly from dark to light
    counts = torch.zeros(POTS)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, pots).argmin(1)
        counts = torch.bincount(nearest, minlength=POTS).to(points)
        sums = torch.zeros_like(pots).index_add_(0, nearest, points)
        pots = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], pots)
    return pots, counts / counts.sum()


def handed_out(
    source: Tensor, matrix: Tensor, pots: Tensor, shares: Tensor, light: tuple[Tensor, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the map that gives a photo's colors the owner's hues nearest to their own.

    Parameters
    ----------
    source
        The photo's colors, ``(3, n) float in [0, 1]``.
    matrix
        ``(3, 3)``: how the photo's palette moves as a whole.
    pots, shares
        From :func:`mixed`.
    light
        Mean and standard deviation of the owner's light, ``()`` each; the photo's is moved onto them first.

    Returns
    -------
    Callable
        ``(3, n)`` colors to as many, not clamped.
    """
    weights = torch.tensor(LUMA).to(source)
    features = torch.cat([weights[None], _HUES * (torch.eye(3).to(source) - weights)])  # (4, 3): light, hues
    points = sample(source)[:, ::_EVERY].T
    own = points @ weights
    slope = light[1] / (own - own.mean()).square().mean().sqrt().clamp_min(1e-3)
    wanted = pots @ features.T
    # The squared distance of a color, its light moved onto the owner's, to every pot, less what is the same for all.
    factor = 2 / _BLUR * wanted @ torch.cat([slope * features[:1], features[1:]])
    offset = (2 * wanted[:, 0] * (light[0] - slope * own.mean()) - wanted.square().sum(1)) / _BLUR
    near, price = points @ factor.T + offset, torch.zeros_like(offset)
    full = shares.clamp_min(_RARE).log()
    for _ in range(_STEPS):
        given = -(near + price + full).logsumexp(1, keepdim=True)
        price = -_LEFT / (_LEFT + _BLUR) * (near + given).logsumexp(0)
    plan = (near + price + full).softmax(1)
    middle = plan.T @ points / plan.sum(0)[:, None].clamp_min(_RARE)  # what of the photo is painted from each pot
    offset, moved = offset + price + full, (pots - middle @ matrix.T).T

    def hand_out(colors: Tensor) -> Tensor:
        chosen = factor @ colors + offset[:, None]
        chosen = (chosen - chosen.amax(0)).exp()  # a softmax in a third of its time
        return matrix @ colors + moved @ chosen / chosen.sum(0)

    return hand_out
