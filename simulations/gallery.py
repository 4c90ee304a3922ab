"""The pictures of the shipped heads, of their mixes and of a large painting: the README's and those of docs/heads.md.

``python -m simulations.gallery`` writes ``docs/images/heads.jpg``, ``mixes.jpg`` and ``large.jpg`` below the current
folder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from shared_model.head import Head
from shared_model.images import resize_short, save_picture, to_tensor, to_uint8
from shared_model.mix import mix
from shared_model.stylize import Options, stylize
from shared_model.weights import default_backbone, default_heads
from simulations.pictures import default_photos

__all__ = ["large", "main", "mixes", "sheet"]

_ROWS = (("astronaut_face", ("sketch", "oil", "impressionist")), ("chelsea", ("cartoon", "watercolor", "woodcut")))
_TILE_PX = 360
_PAIRS = (("impressionist", "sketch"), ("oil", "woodcut"), ("cartoon", "watercolor"))
_SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the second head
_MIX_PX = 200
_LARGE, _LARGE_PX, _PART_PX = ("oil", "impressionist", "woodcut", "cartoon"), 1536, 420
_PART = (420, 760)  # row and column of the large painting's part that is shown


def sheet() -> Tensor:
    """Paint two photos, each with three heads: a row per photo, the photo first, ``(1, 3, H, W)``."""
    backbone, paths, photos = default_backbone(), default_heads(), default_photos()
    rows = []
    for name, heads in _ROWS:
        photo = _square(resize_short(to_tensor(photos[name]), 512))
        painted = [
            stylize(photo, head=Head.from_bytes(paths[head].read_bytes()), backbone=backbone, options=Options())
            for head in heads
        ]
        rows.append(torch.cat([resize_short(tile, _TILE_PX) for tile in (photo, *painted)], dim=3))
    return torch.cat(rows, dim=2)


def mixes() -> Tensor:
    """Paint a photo with mixes of two heads, a row per pair, from one to the other: ``(1, 3, H, W)``."""
    backbone, photo = default_backbone(), _square(resize_short(to_tensor(default_photos()["astronaut"]), 512))
    rows = []
    for pair in _PAIRS:
        heads = [Head.from_bytes(default_heads()[name].read_bytes()) for name in pair]
        painted = [
            stylize(photo, head=mix(heads, [1 - share, share]), backbone=backbone, options=Options())
            for share in _SHARES
        ]
        rows.append(torch.cat([resize_short(tile, _MIX_PX) for tile in painted], dim=3))
    return torch.cat(rows, dim=2)


def large() -> Tensor:
    """Paint a photo at three times the canvas's size, with four heads, and show a part of each at full size."""
    backbone, photo = default_backbone(), to_tensor(default_photos()["chelsea"])
    top, left = _PART
    parts = []
    for name in _LARGE:
        head = Head.from_bytes(default_heads()[name].read_bytes())
        painted = stylize(photo, head=head, backbone=backbone, options=Options(size_px=_LARGE_PX))
        parts.append(painted[:, :, top : top + _PART_PX, left : left + _PART_PX])
    return torch.cat(parts, dim=3)


def _square(picture: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[:, :, top : top + side, left : left + side]


def main() -> None:
    """Write the pictures."""
    save_picture(Path("docs/images/heads.jpg"), to_uint8(sheet()))
    save_picture(Path("docs/images/mixes.jpg"), to_uint8(mixes()))
    save_picture(Path("docs/images/large.jpg"), to_uint8(large()))


if __name__ == "__main__":
    main()
