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
from shared_model.color import ColorStats
from shared_model.pyramid import box, halve, luminance, resize_like

__all__ = ["draw", "ink_share"]

_PAPER = 0.75  # a palette is paper and ink where this much of it lies within a tenth of its range ...
_BRIGHT, _CONTRAST = 0.7, 0.15  # ... and that paper is this bright, and this much brighter than the ink
_MORE = 2.0  # ink in the drawing over ink in the palette: the look-up thins it out again
_FAINT = 0.004  # a difference that is no line
_SOFT = 0.25  # of the differences' deviation: how soft the edge of the ink is
_REACH = 4  # a line is smoothed over so many pixels of half the canvas's size, both ways


def ink_share(colors: ColorStats) -> float:
    """Return how much of a palette is ink, in (0, 1), if it is that of a line drawing; else 0."""
    tones = colors.tones[-1]  # along the axis of largest variance
    span = float(tones[-2] - tones[1])
    near = (tones[:, None] - tones[None, :]).abs() <= 0.1 * span
    alike = near.float().mean(1)
    paper = int(alike.argmax())
    if span <= 0 or float(alike[paper]) < _PAPER:
        return 0.0
    ends = torch.stack([tones[paper], tones[1], tones[-2]])[:, None] * colors.axes[-1] + colors.mean
    lights = luminance(ends[:, :, None, None]).flatten()
    if float(lights[0]) < _BRIGHT or float(lights[0] - lights.min()) < _CONTRAST:
        return 0.0
    return float(((tones - tones[paper]).abs() > 0.3 * span).float().mean().clamp_min(0.005))


def draw(photo: Tensor, share: float) -> Tensor:
    """Draw a photo in lines.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]`` at canvas scale.
    share
        How much ink the owner's pictures hold, from :func:`ink_share`.

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
    threshold = torch.quantile(along[:: 1 + len(along) // 100_000], min(0.5, _MORE * share)).clamp(max=-_FAINT)
    ink = torch.sigmoid((threshold - along) / (_SOFT * along.std(correction=0).clamp_min(_FAINT))).view_as(light)
    return 1 - resize_like(ink, photo).expand_as(photo)
