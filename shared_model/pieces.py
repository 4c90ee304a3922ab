"""Random pieces of an owner's pictures: patches for a dictionary, crops to read a hand from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared_model.images import resize_short

__all__ = ["crops", "patches"]


def patches(pictures: Sequence[Tensor], side: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut ``count`` random patches, shared evenly over the pictures.

    Returns
    -------
    tuple
        The patches ``(count, 3, side, side)`` and where each is from: ``(count, 3) int32``.
    """
    share = -(-count // len(pictures))
    cut, origin = [], []
    for index, picture in enumerate(pictures):
        if min(picture.shape[-2:]) < side:
            picture = resize_short(picture, side)
        rows = torch.randint(0, picture.shape[2] - side + 1, (share,), generator=generator)
        columns = torch.randint(0, picture.shape[3] - side + 1, (share,), generator=generator)
        cut.append(picture[0].unfold(1, side, 1).unfold(2, side, 1)[:, rows, columns].transpose(0, 1))
        origin.append(torch.stack([torch.full_like(rows, index), rows, columns], 1))
    return torch.cat(cut)[:count], torch.cat(origin)[:count].to(torch.int32)


def crops(picture: Tensor, count: int, side: int, generator: torch.Generator) -> list[Tensor]:
    """Return ``count`` random square crops, smaller where the picture is."""
    side = min(side, *picture.shape[-2:])
    top = torch.randint(0, picture.shape[2] - side + 1, (count,), generator=generator).tolist()
    left = torch.randint(0, picture.shape[3] - side + 1, (count,), generator=generator).tolist()
    return [picture[:, :, y : y + side, x : x + side] for y, x in zip(top, left, strict=True)]
