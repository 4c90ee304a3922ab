"""What a head remembers of where it came from, so that a painting can be explained.

All of it is optional in a head file: the place that each patch was cut from, and a small copy of every
picture. Heads made by earlier versions have none of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared_model.images import resize_short

if TYPE_CHECKING:
    from shared_model.head import Head

__all__ = ["check_origin", "forget", "read_copies", "thumbnail"]

_SHORT_PX, _LONGEST_PX = 64, 256  # short and longest side of a small copy


def thumbnail(picture: Tensor) -> Tensor:
    """Return a small copy of ``(1, 3, H, W) float in [0, 1]`` as ``(3, h, w) uint8``."""
    short, longest = min(picture.shape[-2:]), max(picture.shape[-2:])
    small = resize_short(picture, min(_SHORT_PX, max(1, _LONGEST_PX * short // longest)))
    return (small[0, :, :_LONGEST_PX, :_LONGEST_PX] * 255).round().to(torch.uint8)


def forget(head: Head) -> Head:
    """Return a head that paints the same but remembers neither pictures nor places: what may be handed out.

    It still holds the patches that it paints with.
    """
    levels = tuple(replace(level, origin=None) for level in head.levels)
    return replace(head, levels=levels, thumbnails=())


def check_origin(origin: Tensor, *, count: int, images: int) -> None:
    """Refuse an origin that is no ``(count, 3) int32`` of places in ``images`` pictures.

    Raises
    ------
    ValueError
        If it is not.
    """
    if origin.shape != (count, 3) or origin.dtype != torch.int32 or bool((origin < 0).any()):
        raise ValueError("wrong origin")
    if int(origin[:, 0].max()) >= images:
        raise ValueError("a patch of a picture that is not there")


def read_copies(tensors: Mapping[str, Tensor], *, images: int) -> tuple[Tensor, ...]:
    """Return the small copies of a head's pictures, where it has them.

    Raises
    ------
    ValueError
        If they do not fit the rest of the head.
    """
    known = itertools.takewhile(lambda name: name in tensors, (f"thumbnails.{i}" for i in range(images)))
    copies = tuple(tensors[name] for name in known)
    if not all(c.dtype == torch.uint8 and c.shape[:-2] == (3,) and c.numel() > 0 for c in copies):
        raise ValueError("wrong small copies")
    return copies
