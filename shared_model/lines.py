"""Lines: drawings of photos, and outlines.

Where an owner's pictures are ink on bright paper, lines carry the photo and tones do not. Moved onto such a palette,
a photo bleaches: nearly all of it becomes paper, faces first. So what a draft follows is a drawing of the photo
instead: differences of Gaussians, smoothed along the shapes and thresholded softly (Winnemoeller et al. 2012, XDoG;
Kang et al. 2007, coherent lines), with about as much ink as the owner uses. Outlines (:func:`contours`) are found
likewise, at full size, for heads that hatch or fill areas evenly.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.brush import directions, trails
from shared_model.pyramid import box, halve, luminance, pad_reflect, resize_like
from shared_model.quantiles import quantiles, sample

__all__ = ["blur", "contours", "draw", "mean_along", "traced"]

_MORE = 2.0  # ink in the drawing over ink in the palette: the look-up thins it out again
_FAINT = 0.004  # a difference that is no line
_SOFT = 0.25  # of the differences' deviation: how soft the edge of the ink is
_QUANTILES = 257
_REACH = 4  # a line is smoothed over so many pixels of half the canvas's size, both ways
_STEP = 2.0  # pixels from one point of a trail to the next
_THIN, _THICK = 1.3, 2.1  # deviations of the two blurs that an outline is darker in
_AROUND, _CROWDED = 12, 0.15  # radius of what is around a line, and how busy it may be there
_OUTLINE_REACH = 3  # steps that an outline is smoothed over, both ways: no more, or the mouth of a small face is lost
_OUTLINE, _OUTLINE_SOFT = 0.004, 0.25  # the like of _FAINT and _SOFT


def draw(photo: Tensor, share: float) -> Tensor:
    """Draw a photo in lines.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]`` at canvas scale.
    share
        How much ink the owner's pictures hold, from :meth:`shared_model.color.ColorStats.ink_share`.

    Returns
    -------
    Tensor
        Same shape: 1 is paper, 0 is ink, all channels alike.
    """
    light = halve(luminance(photo))
    fine, broad = box(light, 1), box(box(light, 3), 3)
    differences = (fine - 0.99 * broad).flatten()
    trail = trails(directions(photo), _REACH)
    along = mean_along(differences, trail)
    place = round(min(0.5, _MORE * share) * (_QUANTILES - 1))
    threshold = quantiles(sample(along[None]), _QUANTILES)[0, place].clamp(max=-_FAINT)
    ink = torch.sigmoid((threshold - along) / (_SOFT * along.std(correction=0).clamp_min(_FAINT))).view_as(light)
    return 1 - resize_like(ink, photo).expand_as(photo)


def contours(light: Tensor, trail: Tensor, *, share: float) -> Tensor:
    """Find outlines: where it is darker than to both sides, or dark beside bright, along a shape.

    Parameters
    ----------
    light
        ``(1, 1, H, W)``, how light a picture is.
    trail
        Along its shapes, from :func:`traced`.
    share
        About how much of it is outline, 0 to 1; where all is busy there is less: leaves have none.

    Returns
    -------
    Tensor
        Same shape: 1 on an outline, 0 elsewhere.
    """
    trail = _shortened(trail, _OUTLINE_REACH)
    differences = blur(light, _THIN) - blur(light, _THICK)
    along = mean_along(differences, trail) / (1 + (_crowded(differences.abs()) / _CROWDED).square())
    rows = along.flatten(1)
    threshold = quantiles(sample(rows), _QUANTILES)[0, round(share * (_QUANTILES - 1))].clamp(max=-_OUTLINE)
    soft = _OUTLINE_SOFT * rows.square().mean().sqrt().clamp_min(_OUTLINE)
    return torch.sigmoid((threshold - along) / soft)


def _crowded(differences: Tensor) -> Tensor:
    """Return how busy it is around every pixel of ``(1, 1, H, W)``: the mean over the most; low beside a line alone."""
    side = 2 * _AROUND + 1
    most = F.max_pool2d(F.max_pool2d(differences, (side, 1), 1, (_AROUND, 0)), (1, side), 1, (0, _AROUND))
    return box(differences, _AROUND) / most.clamp_min(1e-6)


def traced(along: Tensor, picture: Tensor, steps: int) -> Tensor:
    """Follow :func:`shared_model.brush.directions` at the full size of ``picture``, two pixels a step, both ways.

    Returns
    -------
    Tensor
        ``(2 steps + 1, H W)``; see :func:`shared_model.brush.trails`.
    """
    return trails(_STEP * F.normalize(resize_like(along, picture), dim=1), steps)


def _shortened(trail: Tensor, steps: int) -> Tensor:
    """Keep so many steps of a trail, both ways."""
    half = (len(trail) - 1) // 2
    return torch.cat([trail[: steps + 1], trail[half + 1 : half + 1 + steps]])


def mean_along(values: Tensor, trail: Tensor) -> Tensor:
    """Average values, as many as ``trail`` has columns, along it; same shape."""
    flat = values.flatten()
    total = flat
    for index in trail[1:]:
        total = total + flat.index_select(0, index)
    return (total / len(trail)).view_as(values)


def blur(x: Tensor, deviation: float) -> Tensor:
    """Blur ``(1, 1, H, W)`` with a bell curve of ``deviation`` pixels."""
    radius = max(1, math.ceil(2.5 * deviation))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device) / deviation) ** 2)
    weights = weights / weights.sum()
    padded = pad_reflect(x, radius)
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
