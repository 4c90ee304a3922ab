"""What a head puts under its look-ups: strokes, hatching, even areas or washes, as its owner's pictures ask for."""

from __future__ import annotations

import torch
from torch import Tensor

from shared_model.areas import fill
from shared_model.brush import trails
from shared_model.color import ColorStats
from shared_model.config import HeadConfig
from shared_model.hatching import Hatching
from shared_model.laying_in import lay_in
from shared_model.pyramid import halve
from shared_model.surface import Surface
from shared_model.washes import lay

__all__ = ["ground"]

_BROKEN = 0.5  # how far hues vary from stroke to stroke, of how far they vary at all: heads of before


def ground(
    colored: Tensor,
    along: Tensor,
    *,
    config: HeadConfig,
    color: ColorStats,
    surface: Surface,
    hatching: Hatching | None,
    detail: float,
    generator: torch.Generator,
    places: Tensor | None,
) -> Tensor:
    """Return what look-ups see of a photo in the owner's palette, ``(1, 3, H, W) float in [0, 1]``.

    Parameters
    ----------
    colored
        The photo in the owner's palette, same shape and range.
    along
        Where its shapes run: :func:`shared_model.brush.directions`.
    config, color, surface, hatching
        The head's.
    detail, generator, places
        See :func:`shared_model.laying_in.lay_in`.
    """
    if hatching is not None:
        return hatching.draw(
            colored,
            along,
            width=config.hatch,
            roughness=config.roughness,
            outlines=config.outlines,
            generator=generator,
            places=places,
        )
    if config.areas > 0:
        return fill(colored, along, tones=config.areas, outlines=config.outlines, ink=color.darkest(), detail=detail)
    if config.wash > 0:
        return lay(colored, strength=config.wash, detail=detail, generator=generator, places=places)
    if config.brush == 0:
        return colored
    mottled = surface.mottled()  # heads of before: None
    hues = _BROKEN * color.colorfulness() if mottled is None else mottled
    return lay_in(
        colored,
        trails(along, config.stroke),
        brush=config.brush,
        light=config.variety * surface.broken(halve(colored)),
        hue=hues * color.hues_for(colored) * color.mottling(own=mottled is not None).to(colored),
        detail=detail * config.structure,
        generator=generator,
        places=places,
    )
