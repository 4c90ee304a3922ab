"""Six photographs that easel brings along, cut from pictures that scikit-image ships (public domain or CC0)."""

from __future__ import annotations

import functools

from torch import Tensor

from shared_model.assets import find_asset
from shared_model.images import load_picture, to_tensor

__all__ = ["sample_photos"]

_SIDE = 320


@functools.cache
def sample_photos() -> tuple[Tensor, ...]:
    """Return the photos, each ``(1, 3, 320, 320) float in [0, 1]``: people, an animal, things, the open air.

    They stand for "photos in general" where a device has none at hand: when a head learns how often
    each of its patches is asked for, and when it practises.
    """
    sheet = to_tensor(load_picture(find_asset("data/calibration.jpg")).rgb)
    corners = [(y, x) for y in (0, _SIDE) for x in (0, _SIDE, 2 * _SIDE)]
    return tuple(sheet[:, :, y : y + _SIDE, x : x + _SIDE] for y, x in corners)
