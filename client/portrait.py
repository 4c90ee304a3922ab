"""What heads look like: small copies of their pictures beside a sample photo that they painted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.engine import Engine
from client.sheet import Tile, contact_sheet
from shared_model.errors import EaselError, InputError
from shared_model.files import write_atomic
from shared_model.head import Head
from shared_model.images import encode_picture, read_settings, to_uint8
from shared_model.samples import sample_photos

__all__ = ["portrait", "sheet", "write_sheet"]

Pixels = NDArray[np.uint8]
_SAMPLE = 0  # which of the sample photos is painted
_COPIES = 4  # small copies shown at most
_SIDE = 320


def portrait(name: str, head: Head, engine: Engine, *, note: str = "") -> list[Tile]:
    """Return a row for a sheet: the sample painted by ``head``, then small copies of the head's pictures."""
    try:
        painting = to_uint8(engine.stylize(sample_photos()[_SAMPLE], head))
    except EaselError as error:  # made for another backbone, say
        painting, note = _blank(), error.message
    pictures = "1 picture" if head.images == 1 else f"{head.images} pictures"
    caption = f"{name}: {note or 'made from ' + pictures}"
    copies = [Tile(copy.permute(1, 2, 0).cpu().numpy()) for copy in head.thumbnails[:_COPIES]]
    return [Tile(painting, caption), *copies]


def sheet(rows: Sequence[Sequence[Tile]]) -> Pixels:
    """Lay portraits out, the photo that was painted in the first row."""
    photo = Tile(to_uint8(sample_photos()[_SAMPLE]), "the photo; below, painted,\nbeside pieces of a head's pictures")
    return contact_sheet([[photo], *rows], tile_px=_SIDE)


def write_sheet(path: Path, pixels: Pixels, *, kind: str, overwrite: bool = False) -> Path:
    """Write a sheet as PNG that easel will not take for a photo; replaces only sheets of the same ``kind``.

    Raises
    ------
    InputError
        If something else has the name.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} does not end in .png", hint="sheets are PNG pictures")
    if path.exists() and not overwrite:
        try:
            ours = read_settings(path).get("sheet") == kind
        except EaselError:
            ours = False
        if not ours:
            raise InputError(f"{path} is there already", hint="choose another name, or move it away")
    return write_atomic(path, encode_picture(pixels, suffix=".png", settings={"sheet": kind}), mode=0o600)


def _blank() -> Pixels:
    return np.full((_SIDE, _SIDE, 3), 230, np.uint8)
