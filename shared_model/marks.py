"""How wide and how long an owner's marks are.

Read off the pictures where paint shows more than what is painted: places quieter than most, but for the very
quietest (paper, bare ground). The light of two points there is compared, across the way that marks run and along it;
a mark ends where they have half in common (the range of a variogram; Matheron 1963).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.brush import directions
from shared_model.config import HeadConfig
from shared_model.pyramid import box, halve, luminance

__all__ = ["proportions", "scaled"]

_TYPICAL = (1.9, 4.8)  # width and length of the median of 111 paintings, in pixels of half the size
_FURTHEST = 12  # pixels of half the size
_BROADER, _AROUND = 6, 5  # radii: what is broader than a mark is left out; how busy a place is
_QUIET = (0.1, 0.6)  # from which to which share of all places, the quietest first
_POINTS = 6000
_SHOWN = 1e-3  # deviation of light below which there are no marks
# Exponents by which brush and stroke follow the marks, as painters' differ more than what can be measured of them, and
# the least and most that they are scaled by.
_WIDER, _WIDTHS = 2.0, (0.6, 1.4)
_LONGER, _LENGTHS = 1.5, (0.4, 1.6)


def scaled(config: HeadConfig, pictures: Sequence[Tensor]) -> HeadConfig:
    """Return the configuration with a brush and a stroke as wide and long as the marks in an owner's pictures are.

    As it is, if it has no brush or says that they are not to be measured. For the pictures see :func:`proportions`.
    """
    if not config.measured or config.brush == 0:
        return config
    width, length = proportions(pictures)
    wider = min(max(width**_WIDER, _WIDTHS[0]), _WIDTHS[1])
    longer = min(max(length**_LONGER, _LENGTHS[0]), _LENGTHS[1])
    return replace(config, brush=max(1, round(wider * config.brush)), stroke=round(longer * config.stroke))


def proportions(pictures: Sequence[Tensor]) -> tuple[float, float]:
    """Measure an owner's marks.

    Parameters
    ----------
    pictures
        One or more ``(1, 3, H, W) float in [0, 1]``, short side 512 px.

    Returns
    -------
    tuple
        Width and length over those of a typical painter's marks, each 1 where there is nothing to measure; the
        geometric mean over the pictures.
    """
    found = [size for size in map(_size, pictures) if size is not None]
    if not found:
        return 1.0, 1.0
    width, length = (
        math.exp(sum(math.log(size[i] / _TYPICAL[i]) for size in found) / len(found)) for i in range(len(_TYPICAL))
    )
    return width, length


def _size(picture: Tensor) -> tuple[float, float] | None:
    """Width and length of one picture's marks in pixels of half its size; None if there are none."""
    light = halve(luminance(picture))
    broad = light
    for _ in range(3):
        broad = box(broad, _BROADER)
    marks = light - broad
    busy = box(marks.square(), _AROUND).flatten()
    ordered = busy.sort().values
    low, high = (ordered[int(share * (len(ordered) - 1))] for share in _QUIET)
    places = ((busy >= low) & (busy <= high)).nonzero()[:, 0]
    places = places[:: max(1, len(places) // _POINTS)]
    here = marks.flatten()[places]
    if float(here.std(unbiased=False)) < _SHOWN:
        return None
    along = directions(picture)[0].flatten(1)[:, places]
    across = torch.stack([-along[1], along[0]])
    return _reach(marks, places, across), _reach(marks, places, along)


def _reach(marks: Tensor, places: Tensor, way: Tensor) -> float:
    """How far one can go from ``places`` until marks ``(1, 1, H, W)`` have half in common with where one began."""
    height, width = marks.shape[-2:]
    here = marks.flatten()[places]
    start = torch.stack([places % width, places // width])
    steps = torch.arange(1, _FURTHEST + 1, dtype=way.dtype)[:, None]
    points = torch.stack([start[i] + torch.cat([steps, -steps]) * way[i] for i in range(2)], -1)
    inside = (2 * points + 1) / torch.tensor([width, height]) - 1
    there = F.grid_sample(marks, inside[None], padding_mode="reflection", align_corners=False)[0, 0]
    apart = (there - here).square().mean(1).view(2, -1).mean(0) / (2 * here.var(unbiased=False))
    common = [1.0, *(1 - apart).tolist()]
    for step, share in enumerate(common):
        if share < 0.5:
            return float(step - (0.5 - share) / (common[step - 1] - share))
    return float(_FURTHEST)
