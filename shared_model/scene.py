"""Random numbers that belong to places of a scene, not of a frame: strokes that move with what a clip shows.

A painter's noise and the jitter of its look-ups are drawn for a square tile of the scene that repeats, and read
where the frame lies. Two frames that show the same place draw the same numbers for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Origin", "Window", "filled", "jitter", "normal"]

#: Row and column of the scene that a picture's top left corner shows, in the picture's own pixels.
Origin = tuple[int, int]
_TILE = 512  # side of a tile of noise, in pixels
_STRETCH = 0.01  # by which a clip's canvas may differ from a photo's
_CELLS = 256  # side of a tile of jitter, in look-ups


def normal(size: tuple[int, int], origin: Origin | None, generator: torch.Generator) -> Tensor:
    """Return standard normal noise ``(1, 1, H, W)``; without an origin that of the frame."""
    if origin is None:
        return torch.randn(1, 1, *size, generator=generator)
    tile = torch.randn(1, 1, _TILE, _TILE, generator=generator)
    return _read(tile, size, origin)


def jitter(grid: tuple[int, int], stride: int, origin: Origin | None, generator: torch.Generator) -> Tensor:
    """Return offsets ``(2, rows * columns) int64`` below ``stride`` for a grid whose first cell is ``origin``."""
    if origin is None:
        return torch.randint(0, stride, (2, grid[0] * grid[1]), generator=generator)
    tile = torch.randint(0, stride, (2, _CELLS, _CELLS), generator=generator)
    return _read(tile, grid, origin).flatten(1)


def _read(tile: Tensor, size: tuple[int, int], origin: Origin) -> Tensor:
    rows, columns = (
        torch.arange(start, start + count).remainder(side)
        for start, count, side in zip(origin, size, tile.shape[-2:], strict=True)
    )
    return tile[..., rows, :][..., columns]


@dataclass(frozen=True)
class Window:
    """How a frame of a clip becomes a canvas whose pixels are the scene's.

    Parameters
    ----------
    sides
        Pixels that the frame is filled up by: left, right, top, bottom.
    canvas
        Height and width of its canvas.
    origin
        Of the canvas, in its own pixels.
    """

    sides: tuple[int, int, int, int]
    canvas: tuple[int, int]
    origin: Origin

    @staticmethod
    def of(size: tuple[int, int], *, canvas: tuple[int, int], origin: Origin) -> Window:
        """Return the window of a frame of this size at ``origin`` that should have about this ``canvas``.

        Frame and canvas have corners in common every few pixels: the scale is a ratio of small numbers, at most
        1 % from the one asked for, and the frame is filled up to the nearest such corners.
        """
        scale = canvas[0] / size[0] if size[0] >= size[1] else canvas[1] / size[1]
        step = next(n for n in range(1, 1000) if abs(max(1, round(n * scale)) / (n * scale) - 1) <= _STRETCH)
        far = max(1, round(step * scale))
        before = [place % step for place in origin]
        after = [-(length + first) % step for length, first in zip(size, before, strict=True)]
        whole = [length + first + last for length, first, last in zip(size, before, after, strict=True)]
        top, left = ((place - first) // step * far for place, first in zip(origin, before, strict=True))
        return Window(
            (before[1], after[1], before[0], after[0]),
            (whole[0] // step * far, whole[1] // step * far),
            (top, left),
        )


def filled(picture: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """Fill a picture up (left, right, top, bottom) by its own reflection, or repetition where it is too small."""
    height, width = picture.shape[-2:]
    fits = max(sides[:2]) < width and max(sides[2:]) < height
    return F.pad(picture, sides, mode="reflect" if fits else "replicate") if any(sides) else picture
