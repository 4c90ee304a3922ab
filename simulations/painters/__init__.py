"""easel's own classical painters: they turn a photo into a painting without any learning.

Simulated people paint with them, each with one painter, palette, stroke size and hand (seed), so
that every device of a simulated fleet has a style of its own. The same style gives the same picture.

>>> picture = paint(photo, "oil", palette="warm", stroke=1.2, seed=7)

The ideas: curved strokes in layers (Hertzmann 1998), dabs along edges (Litwinowicz 1997), coherent
ink lines (Kang 2007), tiles (Hausner 2001), watercolor (Bousseau 2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import InputError
from simulations.painters.areas import cartoon, mosaic, pointillist, watercolor
from simulations.painters.fields import Array
from simulations.painters.ink import chalk, sketch, woodcut
from simulations.painters.palette import PALETTES, Palette
from simulations.painters.strokes import impressionist, oil

__all__ = ["PAINTERS", "PALETTES", "Painter", "Palette", "Style", "paint"]

_SMALLEST = 16  # pixels; below this no stroke fits
_STROKES = (0.3, 4.0)


class Painter(Protocol):
    """Turns a photo ``(H, W, 3) float32`` in [0, 1] into a painting of the same shape and range."""

    def __call__(self, photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
        """Paint; all chance comes from ``rng``."""
        ...


PAINTERS: Mapping[str, Painter] = MappingProxyType(
    {
        "cartoon": cartoon,
        "chalk": chalk,
        "impressionist": impressionist,
        "mosaic": mosaic,
        "oil": oil,
        "pointillist": pointillist,
        "sketch": sketch,
        "watercolor": watercolor,
        "woodcut": woodcut,
    }
)


@dataclass(frozen=True)
class Style:
    """How one person paints.

    Parameters
    ----------
    painter
        A key of `PAINTERS`.
    palette
        A key of `PALETTES`; drawings and prints take only its ink and paper.
    stroke
        Size of the strokes, 0.3 to 4; 1 is the painter's own, made for pictures of about 512 pixels.
    seed
        The hand: where exactly each stroke falls.

    Raises
    ------
    InputError
        For an unknown painter or palette, or a stroke out of range.
    """

    painter: str
    palette: str = "natural"
    stroke: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, name, known in (("painter", self.painter, PAINTERS), ("palette", self.palette, PALETTES)):
            if name not in known:
                raise InputError(f"there is no {kind} '{name}'", hint=f"choose one of {', '.join(sorted(known))}")
        if not _STROKES[0] <= self.stroke <= _STROKES[1]:
            raise InputError(f"stroke {self.stroke} is out of range", hint="choose one from 0.3 to 4")

    def paint(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Paint a photo; see `paint`."""
        return paint(rgb, self.painter, palette=self.palette, stroke=self.stroke, seed=self.seed)


def paint(
    rgb: NDArray[np.uint8], painter: str, *, palette: str = "natural", stroke: float = 1.0, seed: int = 0
) -> NDArray[np.uint8]:
    """Paint a photo.

    Parameters
    ----------
    rgb
        ``(H, W, 3) uint8``, at least 16 pixels on each side.
    painter, palette, stroke, seed
        See `Style`.

    Returns
    -------
    ndarray
        ``(H, W, 3) uint8``; the same arguments always give the same picture.

    Raises
    ------
    InputError
        For an unknown style or a picture that is too small.
    """
    style = Style(painter, palette, stroke, seed)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    if min(rgb.shape[:2]) < _SMALLEST:
        size = f"{rgb.shape[1]} x {rgb.shape[0]}"
        raise InputError(f"a photo of {size} pixels is too small to paint", hint="each side needs 16 pixels or more")
    photo = rgb.astype(np.float32) / 255
    rng = np.random.default_rng(style.seed)
    painted = PAINTERS[painter](photo, palette=PALETTES[palette], stroke=stroke, rng=rng)
    return np.rint(np.clip(painted, 0, 1) * 255).astype(np.uint8)
