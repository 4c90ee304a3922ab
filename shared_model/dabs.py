"""Above the canvas: what a brush leaves of a photo's fine detail.

A painting is made on a canvas of some 512 pixels; what a larger photo has above that scale would stay a photo (every
pebble, every hair) with soft strokes over it. So the enlarged painting is smoothed along its strokes and then, around
every pixel, takes the color of the evenest of eight places (Kuwahara et al. 1976, with the soft weights of Papari et
al. 2007; along the flow first, as Kyprianidis and Kang 2011 do). Texture becomes dabs of even paint that follow the
shapes, and edges become crisp, at a reach of about a pixel of the canvas, whatever the size of the photo. What stands
out by itself is drawn: an eye in a face, not the pebbles of a beach.

The number of steps does not depend on the size: places lie farther apart instead. A scale is a number, or in a graph
for any size a tensor ``() float64``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.brush import directions
from shared_model.config import HeadConfig
from shared_model.pyramid import box, halve, luminance, resize_like

__all__ = ["course", "dabs", "drawn", "emphatic", "fading", "margin", "share"]

_ALONG = (0.35, 0.7, 1.05, 1.4)  # how far along a stroke colors are taken, both ways, in pixels of the canvas
_FADING = 0.7  # at which they count less, likewise
_AROUND = 0.52  # how far the places lie from a pixel that it may take its color from, likewise
_PLACES = 8
_WIDE = 0.28  # deviation of the window that a place is the mean of, likewise
_TAPS = (-2, -1, 0, 1, 2)  # where a window is looked at, each way
_APART = 0.8  # how far apart that is, in deviations; a pixel at least
_FLOOR = 2e-4  # variance below which places count as equally even
_EVEN = 4  # exponent of the preference for even places
_FULL = 3.0  # pixels to one of the canvas from which on all of a painting is in dabs
_EMPHASIS = 0.6  # how much stronger the finest marks of the canvas are made before
_FAR = 6  # radius, in four pixels of the canvas, that is around a detail
_FAINT = 0.006  # of the range: detail that nobody sees
_ALONE, _SURE = 2.0, 1.0  # how much stronger than what is around it a detail is drawn from, and how soon in full
_GRAINY = 0.5  # roughness of hatched lines from which on their grain is kept


def course(painted: Tensor) -> Tensor:
    """Return which way strokes run, its angle doubled so that it can be enlarged: ``(1, 3, h, w)`` to ``(1, 2, h, w)``.

    A direction and its opposite mean the same, so their mean would be nothing; at twice the angle they are the same.
    """
    along = directions(painted)
    right, down = along[:, :1], along[:, 1:]
    return resize_like(torch.cat([right * right - down * down, 2 * right * down], 1), painted)


def drawn(photo: Tensor, canvas: Tensor) -> Tensor:
    """Return where fine detail stands out by itself and is drawn, not dabbed: 0 to 1, ``(1, 1, h, w)``.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]``.
    canvas
        The same at canvas scale, ``(1, 3, h, w)``.
    """
    height, width = canvas.shape[-2:]
    twice = (2 * height, 2 * width)
    fine = F.interpolate(photo, size=twice, mode="bicubic", align_corners=False, antialias=True)
    fine = (fine - F.interpolate(canvas, size=twice, mode="bicubic", align_corners=False)).abs().amax(1, keepdim=True)
    here = box(F.avg_pool2d(fine, 2), 1)
    around = halve(halve(here))
    for _ in range(2):
        around = box(around, _FAR)
    return ((here / (resize_like(around, here) + _FAINT) - _ALONE) / _SURE).clamp(0, 1)


def share(config: HeadConfig, *, detail: float) -> float:
    """Return how much of :func:`dabs` a large painting takes, 0 to 1.

    Lines cut in wood and even areas take all of it, which makes them crisp; pencil and washes have a grain of their
    own, which stays. What is painted takes all of it unless more than the usual ``detail`` of 0.5 is asked for: at 1
    all that a photo has above the canvas shows.
    """
    if config.graphic:
        return 0.0 if config.hatch > 0 and config.roughness > _GRAINY else 1 - config.wash
    return min(2 * (1 - detail), 1.0)


def emphatic(painted: Tensor, amount: float | Tensor) -> Tensor:
    """Strengthen the finest marks of ``(1, 3, h, w)`` at canvas scale by what :func:`dabs` will take of them.

    Parameters
    ----------
    amount
        How much of the dabs will be taken, 0 to 1, a number or a tensor ``()``.
    """
    return painted + _EMPHASIS * amount * (painted - box(painted, 1))


@overload
def fading(scale: float) -> float: ...
@overload
def fading(scale: Tensor) -> Tensor: ...
def fading(scale: float | Tensor) -> float | Tensor:
    """Return how much of that a painting of ``scale`` pixels to one of the canvas takes: none at 1, all from 3 on."""
    if isinstance(scale, Tensor):
        return ((scale - 1) / (_FULL - 1)).clamp(0, 1)
    return min(max((scale - 1) / (_FULL - 1), 0.0), 1.0)


def margin(scale: float) -> int:
    """Return how many pixels around it a pixel of :func:`dabs` depends on."""
    window = _TAPS[-1] * max(round(_APART * _WIDE * scale), 1)
    return math.ceil(_ALONG[-1] * scale) + math.ceil(_AROUND * scale) + window


@torch.no_grad()
def dabs(picture: Tensor, doubled: Tensor, scale: float | Tensor) -> Tensor:
    """Turn what is finer than the canvas into dabs of paint.

    Parameters
    ----------
    picture
        ``(1, 3, H, W) float``.
    doubled
        :func:`course`, enlarged to ``(1, 2, H, W)``.
    scale
        Pixels of ``picture`` to one of the canvas.

    Returns
    -------
    Tensor
        Same shape, within the range of the picture.
    """
    combed = _combed(picture, doubled, scale)
    light = luminance(combed) - 0.5  # squares of small numbers: less is lost to rounding
    mean = _windows(torch.cat([combed, light * light], 1), scale)
    spread = (mean[:, 3:] - (luminance(mean[:, :3]) - 0.5).square()).clamp_min(0) / _FLOOR + 1
    weight = spread.pow(-_EVEN)
    turns = [2 * math.pi * (place + 0.5) / _PLACES for place in range(_PLACES)]
    places = [(_whole(_AROUND * math.sin(turn) * scale), _whole(_AROUND * math.cos(turn) * scale)) for turn in turns]
    total = _summed(torch.cat([mean[:, :3] * weight, weight], 1), places, [1.0] * _PLACES)
    return total[:, :3] / total[:, 3:]


def _combed(picture: Tensor, doubled: Tensor, scale: float | Tensor) -> Tensor:
    """Smooth along the strokes."""
    height, width = picture.shape[-2:]
    cosine, sine = doubled[0].flatten(1)
    cosine = cosine * (cosine.square() + sine.square() + 1e-12).rsqrt()
    right = (0.5 + cosine / 2).clamp_min(0).sqrt()  # of half the angle
    down = (0.5 - cosine / 2).clamp_min(0).sqrt() * torch.where(sine < 0, -1.0, 1.0)
    rows = torch.arange(height, device=picture.device, dtype=torch.int32).repeat_interleave(width)
    columns = torch.arange(width, device=picture.device, dtype=torch.int32).repeat(height)
    pixels = picture[0].flatten(1).T.contiguous()
    total, weight = pixels.clone(), 1.0
    for step in _ALONG:
        nearby = math.exp(-((step / _FADING) ** 2) / 2)
        across, below = (right * (step * scale)).round().int(), (down * (step * scale)).round().int()
        for sign in (1, -1):
            y, x = (rows + sign * below).clamp(0, height - 1), (columns + sign * across).clamp(0, width - 1)
            total.add_(pixels.index_select(0, y * width + x), alpha=nearby)
            weight += nearby
    return (total / weight).T.view_as(picture)


def _windows(x: Tensor, scale: float | Tensor) -> Tensor:
    """Average over a window around every pixel."""
    apart = _whole(_APART * _WIDE * scale, 1)
    weights: list[Any] = [math.e ** (-0.5 * (tap * apart / (_WIDE * scale)) ** 2) for tap in _TAPS]
    rows = _summed(x, [(tap * apart, 0) for tap in _TAPS], weights)
    total: Tensor = _summed(rows, [(0, tap * apart) for tap in _TAPS], weights) / sum(weights) ** 2
    return total


def _whole(number: Any, least: int | None = None) -> Any:
    """Round to whole pixels."""
    if isinstance(number, Tensor):
        return number.round().long() if least is None else number.round().long().clamp_min(least)
    return round(number) if least is None else max(round(number), least)


def _summed(x: Tensor, moves: Sequence[tuple[Any, Any]], weights: Sequence[Any]) -> Tensor:
    """Add up what lies so many pixels below and to the right of every pixel; the border goes on as it is.

    Numbers of pixels are all integers or, in a graph for any size, where nothing can be padded by them, tensors.
    """
    height, width = x.shape[-2:]
    total = torch.zeros_like(x)
    if any(isinstance(move, Tensor) for pair in moves for move in pair):
        rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
        turned = total.transpose(2, 3)  # rows are taken far faster than columns
        for (y, z), weight in zip(moves, weights, strict=True):
            lower = x.index_select(2, (rows + y).clamp(0, height - 1))
            turned = turned + weight * lower.transpose(2, 3).index_select(2, (columns + z).clamp(0, width - 1))
        return turned.transpose(2, 3)
    high, wide = (max(abs(pair[axis]) for pair in moves) for axis in (0, 1))
    padded = F.pad(x, (wide, wide, high, high), mode="replicate")
    for (y, z), weight in zip(moves, weights, strict=True):
        total.add_(padded[:, :, high + y : high + y + height, wide + z : wide + z + width], alpha=weight)
    return total
