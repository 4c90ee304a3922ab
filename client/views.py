"""Pictures at the size of a page: shrunk, encoded small, and never larger than they must be."""

from __future__ import annotations

import io
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image

from shared_model.images import Picture

__all__ = ["encode_view", "shrink", "stem", "within"]

_QUALITY = 90
_PAPER = 255


def shrink(picture: Picture, longest_px: int) -> Picture:
    """Return ``picture`` with its longer side at most ``longest_px``; smaller ones stay as they are."""
    height, width = picture.rgb.shape[:2]
    return _scaled(picture, longest_px / max(height, width))


def within(picture: Picture, pixels: int) -> Picture:
    """Return ``picture`` with at most ``pixels`` pixels; smaller ones stay as they are."""
    height, width = picture.rgb.shape[:2]
    return _scaled(picture, (pixels / (height * width)) ** 0.5)


def encode_view(picture: Picture, *, opaque: bool = False) -> bytes:
    """Return a JPEG, or a PNG where something is transparent; ``opaque``: put it on white instead."""
    stream = io.BytesIO()
    if picture.alpha is not None and not opaque:
        Image.fromarray(np.dstack([picture.rgb, picture.alpha])).save(stream, "PNG", compress_level=3)
        return stream.getvalue()
    rgb = picture.rgb
    if picture.alpha is not None:
        opacity = picture.alpha[..., None].astype(np.float32) / 255
        rgb = np.rint(rgb * opacity + _PAPER * (1 - opacity)).astype(np.uint8)
    Image.fromarray(rgb).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def stem(name: str) -> str:
    r"""Return what a file is called: no folders, no suffix, nothing unprintable, at most 60 letters.

    Examples
    --------
    >>> stem("C:\\photos\\at the sea.JPG")
    'at the sea'
    """
    last = PurePosixPath(PureWindowsPath(name).name).stem
    kept = "".join(letter for letter in last if letter.isprintable() and letter not in '<>:"/\\|?*').strip(" .")
    return kept[:60] or "photo"


def _scaled(picture: Picture, scale: float) -> Picture:
    if scale >= 1:
        return picture
    height, width = picture.rgb.shape[:2]
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    rgb = np.asarray(Image.fromarray(picture.rgb).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
    alpha = picture.alpha
    if alpha is not None:
        alpha = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BILINEAR))
    return Picture(rgb=rgb, alpha=alpha)
