"""The paintings between which an owner chooses: one photo, one head, several manners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.engine import Engine
from client.order import Order, with_manner
from client.preferences import Manner
from client.store import Home
from shared_model.images import load_picture, resize_short, to_tensor, to_uint8
from shared_model.stylize import Options
from shared_model.weights import default_backbone

__all__ = ["paint_candidates", "paint_manner"]


def paint_candidates(
    home: Home,
    name: str,
    manners: Sequence[Manner],
    *,
    photo: Path,
    partner: str = "",
    size_px: int = 512,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[NDArray[np.uint8]]:
    """Paint one photo in several manners, with the same strokes' seed.

    Returns
    -------
    list
        ``(H, W, 3) uint8`` each; the short side is ``size_px``, or the photo's own if that is smaller.

    Raises
    ------
    PictureError
        If the photo cannot be read.
    MissingError, StorageError, CompatibilityError
        If a head is not there, damaged or made for another backbone.
    """
    picture = to_tensor(load_picture(photo).rgb)
    picture = resize_short(picture, min(size_px, *picture.shape[-2:]))
    engine = Engine(default_backbone(), device=device)
    painted = []
    for number, manner in enumerate(manners):
        progress(number / len(manners))
        painted.append(to_uint8(paint_manner(engine, home, name, manner, picture, partner=partner, seed=seed)))
    return painted


def paint_manner(
    engine: Engine, home: Home, name: str, manner: Manner, photo: Tensor, *, partner: str = "", seed: int = 0
) -> Tensor:
    """Paint ``(1, 3, H, W) float in [0, 1]`` in one manner; same shape and range."""
    heads, options, look = with_manner(name, manner, partner=partner, options=Options(seed=seed))
    head, recipe = Order(heads, options, look).load(home)
    return engine.stylize(photo, head, options=recipe.options)
