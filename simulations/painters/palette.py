"""Palettes: the pigments one person likes, and how a photo's colors move towards them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from simulations.painters.fields import Array, luminance, unit

__all__ = ["PALETTES", "Palette"]

_Color = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """One person's colors.

    Parameters
    ----------
    ink, paper
        Colors in [0, 1] of drawings: the line and the ground.
    pigments
        Colors that all others are drawn to; none leaves them where they are.
    pull
        How strongly, in [0, 1].
    saturation
        Factor on the distance from grey.
    """

    ink: _Color
    paper: _Color
    pigments: tuple[_Color, ...] = ()
    pull: float = 0.0
    saturation: float = 1.0

    def apply(self, rgb: Array) -> Array:
        """Return the picture ``(H, W, 3)`` in these colors; its light and dark stay."""
        light = luminance(rgb)[..., None]
        colored = light + (rgb - light) * self.saturation
        if self.pigments:
            pigments = np.array(self.pigments, dtype=np.float32)
            distance = ((colored[..., None, :] - pigments) ** 2).sum(-1)
            weight = np.exp(-distance / 0.04)
            weight /= weight.sum(-1, keepdims=True) + 1e-9
            target = weight @ pigments
            target += light - luminance(target)[..., None]
            colored = colored + self.pull * (target - colored)
        return unit(colored)


def _colors(codes: str) -> tuple[_Color, ...]:
    numbers = [int(code, 16) for code in codes.split()]
    return tuple(((n >> 16) / 255, (n >> 8 & 255) / 255, (n & 255) / 255) for n in numbers)


def _palette(drawing: str, pigments: str, *, pull: float, saturation: float) -> Palette:
    ink, paper = _colors(drawing)
    return Palette(ink, paper, _colors(pigments), pull, saturation)


PALETTES: Mapping[str, Palette] = MappingProxyType(
    {
        "cool": _palette(
            "16263f f1f4f4", "0d1b3a 1f4e79 3a86a8 7fb7be d3e4e6 8a6f8f c98f7a f3efe2", pull=0.7, saturation=1.1
        ),
        "dusk": _palette(
            "2b1736 f7ece1", "1d1135 512d6d 9c3d6e e0666b f6a96c fbe3a9 4f6d8f", pull=0.75, saturation=1.1
        ),
        "earth": _palette(
            "5a2a1a f2e6cf", "2b1a12 6b3a20 a5622f cf9a4e e8d3a2 59623a 8a8d76 f6efe0", pull=0.75, saturation=1.0
        ),
        "muted": _palette(
            "33363b efece6", "2f3136 5d666b 8d9a96 b9b7a7 a68a7b d9d2c5 6c7d8c", pull=0.6, saturation=0.9
        ),
        "natural": _palette("26221f f8f5ee", "", pull=0.0, saturation=1.15),
        "vivid": _palette(
            "1a1438 fdf8ea", "13123b 1f4fb4 1aa6a6 36a64a f2c21a ef6a1f d4213d fbf3e0", pull=0.5, saturation=1.5
        ),
        "warm": _palette(
            "7a2e1c faefdc", "301212 7d2a1c c4552d e99a4a f7d58c 8c6a4f 5c6b4a fdf3de", pull=0.65, saturation=1.15
        ),
    }
)
