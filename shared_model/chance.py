"""What is drawn by chance lies where the scene is, so that it goes with a moving camera."""

from __future__ import annotations

import torch
from torch import Tensor

from shared_model.pyramid import lattice

__all__ = ["doubled", "scattered"]


def scattered(
    picture: Tensor, count: int, *, generator: torch.Generator, places: Tensor | None, tile: int = 512
) -> Tensor:
    """Draw standard normal numbers for every pixel.

    Parameters
    ----------
    picture
        ``(1, C, H, W)``: only its size and device count.
    count
        Numbers for a pixel.
    places
        ``(1, 2, H, W)``: where in a scene the pixels lie, down and across; ``None``: where they lie in the picture.
    tile
        Pixels after which chance repeats itself.

    Returns
    -------
    Tensor
        ``(1, count, H, W)``.
    """
    draws = torch.randn(count, tile * tile, generator=generator).to(picture.device)
    row, column = (lattice(picture) if places is None else places.round())[0].long().remainder(tile)
    return draws.index_select(1, (row * tile + column).flatten()).view(1, count, *picture.shape[-2:])


def doubled(places: Tensor | None, picture: Tensor) -> Tensor | None:
    """Return where the pixels of ``picture`` ``(1, C, H, W)`` lie if ``places`` are those of half its size."""
    if places is None:
        return None
    fine = places.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : picture.shape[2], : picture.shape[3]]
    return 2 * fine + lattice(picture).remainder(2)
