"""Line drawings: where an owner's pictures are ink on bright paper, lines carry the photo and tones do not.

Moved onto such a palette, a photo bleaches: nearly all of it becomes paper, faces first. So what a
draft follows is a drawing of the photo instead: differences of Gaussians, smoothed along the shapes
and thresholded softly (Winnemoeller et al. 2012, XDoG; Kang et al. 2007, coherent lines), with
about as much ink as the owner uses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_model.brush import directions, trails
from shared_model.pyramid import box, halve, luminance, resize_like
from shared_model.quantiles import quantiles, sample

__all__ = ["draw"]

_MORE = 2.0  # ink in the drawing over ink in the palette: the look-up thins it out again
_FAINT = 0.004  # a difference that is no line
_SOFT = 0.25  # of the differences' deviation: how soft the edge of the ink is
_QUANTILES = 257
_REACH = 4  # a line is smoothed over so many pixels of half the canvas's size, both ways


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
    along = differences.clone()
    for index in trail[1:]:
        along = along + differences[index]
    along = along / len(trail)
    place = round(min(0.5, _MORE * share) * (_QUANTILES - 1))
    threshold = quantiles(sample(along[None]), _QUANTILES)[0, place].clamp(max=-_FAINT)
    ink = torch.sigmoid((threshold - along) / (_SOFT * along.std(correction=0).clamp_min(_FAINT))).view_as(light)
    return 1 - resize_like(ink, photo).expand_as(photo)
