"""Contact sheets: pictures in rows and columns with a few words, never wider than 2000 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared_model.images import save_picture

__all__ = ["MAX_WIDTH", "SheetRow", "write_sheets"]

MAX_WIDTH = 2000  # pixels
_GAP, _LINE, _TALLEST = 6, 20, 1.25
_PAPER, _INK = (255, 255, 255), (30, 30, 30)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class SheetRow:
    """Pictures side by side; the first sets the row's height.

    Parameters
    ----------
    title
        Words above the row.
    pictures
        ``(H, W, 3) uint8`` each.
    notes
        A few words below each picture; may be empty.
    """

    title: str
    pictures: tuple[Bytes, ...]
    notes: tuple[str, ...] = ()


def write_sheets(
    folder: Path,
    stem: str,
    rows: Sequence[SheetRow],
    *,
    columns: Sequence[str],
    tile_px: int = 420,
    rows_per_sheet: int = 6,
) -> list[Path]:
    """Write ``STEM-1.png``, ``STEM-2.png`` ...; one file without a number if one is enough.

    Parameters
    ----------
    columns
        Heads of the columns, as many as each row has pictures.
    tile_px
        Width of a picture; less where the sheet would pass :data:`MAX_WIDTH`.
    rows_per_sheet
        How many rows a file holds.
    """
    tile = min(tile_px, (MAX_WIDTH - _GAP) // len(columns) - _GAP)
    written = []
    chunks = [rows[start : start + rows_per_sheet] for start in range(0, len(rows), rows_per_sheet)]
    for number, chunk in enumerate(chunks, start=1):
        name = f"{stem}.png" if len(chunks) == 1 else f"{stem}-{number}.png"
        written.append(save_picture(folder / name, np.asarray(_sheet(chunk, columns, tile))))
    return written


def _sheet(rows: Sequence[SheetRow], columns: Sequence[str], tile: int) -> Image.Image:
    heights = [_height(row, tile) for row in rows]
    font = ImageFont.load_default(14)
    notes = [[_wrapped(note, tile, font) for note in row.notes] for row in rows]
    below = [_LINE * max((len(lines) for lines in row if any(lines)), default=0) for row in notes]
    width = _GAP + len(columns) * (tile + _GAP)
    height = _LINE + sum(_LINE + h + b + _GAP for h, b in zip(heights, below, strict=True))
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, name in enumerate(columns):
        pen.text((_GAP + index * (tile + _GAP), 2), name, fill=_INK, font=font)
    top = _LINE
    for row, lines, tall, extra in zip(rows, notes, heights, below, strict=True):
        pen.text((_GAP, top + 2), row.title, fill=_INK, font=font)
        top += _LINE
        for index, picture in enumerate(row.pictures):
            left = _GAP + index * (tile + _GAP)
            sheet.paste(_fitted(picture, tile, tall), (left, top))
            for number, line in enumerate(lines[index] if index < len(lines) else ()):
                pen.text((left, top + tall + 2 + number * _LINE), line, fill=_INK, font=font)
        top += tall + extra + _GAP
    return sheet


def _wrapped(note: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break a note where two spaces are, so that no line is wider than a picture if it can be helped."""
    lines = [""]
    for part in note.split("  "):
        longer = f"{lines[-1]}  {part}" if lines[-1] else part
        if lines[-1] and font.getlength(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _height(row: SheetRow, tile: int) -> int:
    height, width = row.pictures[0].shape[:2]
    share: float = min(_TALLEST, height / width)
    return round(tile * share)


def _fitted(picture: Bytes, width: int, height: int) -> Image.Image:
    image = Image.fromarray(picture)
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
