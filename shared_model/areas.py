"""Even areas in few tones, with outlines: what posters, cartoons and prints are made of.

The real-time abstraction of Winnemoeller, Olsen & Gooch (2006) in closed form: a picture is smoothed between its edges
and along its shapes (Kuwahara's filter, then a mean along the flow, after Kyprianidis & Kang 2011), its light is
brought to a few even steps with soft borders, and outlines are drawn around them (:func:`shared_model.lines.contours`).
What stands out by itself and was smoothed away, the eyes and the mouth of a small face, is drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_model.brush import abstract
from shared_model.laying_in import alone, leeway, missed
from shared_model.lines import blur, contours, mean_along, traced
from shared_model.pyramid import luminance
from shared_model.quantiles import quantiles, sample

__all__ = ["fill", "stepped"]

_LENGTH = 4  # steps of two pixels that areas are smoothed along the shapes, both ways
_SOFT = 30.0  # how sharp the border between two tones is, in tones
_ENDS = 100  # the lightest and the darkest hundredth are no areas


@torch.no_grad()
def fill(picture: Tensor, along: Tensor, *, tones: int, outlines: float, ink: Tensor, detail: float) -> Tensor:
    """Fill a picture's areas evenly and draw outlines around them.

    Parameters
    ----------
    picture
        ``(1, 3, H, W) float in [0, 1]``.
    along
        Where its shapes run: :func:`shared_model.brush.directions` of it.
    tones
        Steps from dark to light, at least 2.
    outlines
        Share of the pixels that lie on outlines; 0: none are drawn.
    ink
        Color of outlines, ``(3,)``.
    detail
        How much is drawn that stands out, 0 to 1; see :func:`shared_model.laying_in.lay_in`.

    Returns
    -------
    Tensor
        Same shape and range.
    """
    trail = traced(along, picture, _LENGTH)
    smooth = picture
    for _ in range(2):
        smooth = _along(abstract(smooth, 1.0), trail)
    off = missed(smooth, picture, leeway(picture, detail))
    smooth = torch.lerp(smooth, picture, alone(off, detail))
    light = luminance(smooth)
    filled = (smooth + stepped(light, tones) - light).clamp(0, 1)
    if outlines == 0:
        return filled
    return torch.lerp(filled, ink.view(1, 3, 1, 1), contours(luminance(picture), trail, share=outlines))


def stepped(light: Tensor, tones: int) -> Tensor:
    """Bring ``(1, 1, H, W)`` to ``tones`` even steps between its dark and its light end."""
    even = blur(light, 0.7)
    ends = quantiles(sample(even.flatten(1)), _ENDS + 1)[0]
    low, high = ends[1], ends[-2]
    within = torch.minimum(torch.maximum(even, low), high)
    span = (high - low).clamp_min(1e-4)
    place = ((within - low) / span * tones).clamp(0.5, tones - 0.5)
    border = place.round()
    step = border - 1 + torch.sigmoid(_SOFT * (place - border))
    return low + span / (tones - 1) * step + (even - within)  # a spark in an eye is no area, and stays


def _along(picture: Tensor, trail: Tensor) -> Tensor:
    """Average ``(1, 3, H, W)`` along a trail."""
    return torch.cat([mean_along(picture[:, i : i + 1], trail) for i in range(3)], 1)
