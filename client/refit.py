"""Bringing a head up to date with a new backbone, from its pictures or from what the head itself still knows.

A head's modulation numbers are read off its pictures by the backbone's style encoder, so they mean nothing to
another backbone. Everything else in a head stays right. With the pictures the numbers are read again, and tuned
again if there is time. Without them the head paints easel's sample photos by itself, and the numbers are read off
those paintings: same strokes, same palette, but other subjects; close, not equal (docs/heads.md has figures).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.head import Head
from shared_model.images import resize_short
from shared_model.samples import sample_photos

__all__ = ["refit"]


def refit(head: Head, backbone: Backbone, *, pictures: Sequence[Tensor] = (), seed: int = 0) -> Head:
    """Return the head with modulation numbers for ``backbone``; a tuning for another backbone is lost.

    Parameters
    ----------
    pictures
        Those that the head was made from, each ``(1, 3, H, W) float in [0, 1]``; none: the head's own paintings.
    seed
        Fixes strokes and crops.
    """
    canvas = head.config.canvas_px
    styles = [resize_short(picture.float(), canvas) for picture in pictures]
    if not styles:
        styles = [head.draft(resize_short(photo, canvas), seed=seed).painted for photo in sample_photos()]
    return head.attuned(backbone, styles, seed=seed)
