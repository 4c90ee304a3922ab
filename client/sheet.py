"""Contact sheets and bar charts as pictures: tiles with captions, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["INK", "PAPER", "Tile", "bar_chart", "color_of", "contact_sheet", "heat", "text"]

Pixels = NDArray[np.uint8]
PAPER, INK, FAINT = (255, 255, 255), (34, 34, 34), (214, 214, 214)
_GAP, _LINE, _SIZE = 10, 20, 15
# Okabe & Ito's palette: told apart by color-blind people too.
_COLORS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))


@dataclass(frozen=True)
class Tile:
    """One picture on a sheet.

    Parameters
    ----------
    pixels
        ``(H, W, 3) uint8``.
    caption
        Lines below it, split at newlines.
    """

    pixels: Pixels
    caption: str = ""


def color_of(index: int) -> tuple[int, int, int]:
    """Return the color of thing number ``index``; after the palette's seven, darker ones of the same."""
    red, green, blue = _COLORS[index % len(_COLORS)]
    shade = 0.62 ** (index // len(_COLORS))
    return round(red * shade), round(green * shade), round(blue * shade)


def heat(values: NDArray[np.floating], *, top: float) -> Pixels:
    """Color ``(H, W)`` from black (0) over red and yellow to white (``top`` and more)."""
    share = np.clip(values / max(top, 1e-9), 0, 1)[..., None] * 3 - np.array([0, 1, 2])
    colored: Pixels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return colored


def contact_sheet(rows: Sequence[Sequence[Tile]], *, tile_px: int = 320, title: str = "") -> Pixels:
    """Lay tiles out in rows: each is shrunk or enlarged into a square of ``tile_px``, captions right below it.

    Returns
    -------
    ndarray
        ``(H, W, 3) uint8``.
    """
    lines = [max((tile.caption.count("\n") + 1 if tile.caption else 0 for tile in row), default=0) for row in rows]
    fitted = [[_fit(tile.pixels, tile_px) for tile in row] for row in rows]
    heights = [max((image.height for image in row), default=0) for row in fitted]
    top = _GAP + (_LINE + _GAP if title else 0)
    width = _GAP + max((len(row) for row in rows), default=0) * (tile_px + _GAP)
    height = top + sum(h + n * _LINE + _GAP for h, n in zip(heights, lines, strict=True))
    sheet = Image.new("RGB", (max(width, 2 * _GAP), height), PAPER)
    if title:
        text(sheet, (_GAP, _GAP), title, width - 2 * _GAP)
    for row, images, tall, count in zip(rows, fitted, heights, lines, strict=True):
        for column, (tile, image) in enumerate(zip(row, images, strict=True)):
            left = _GAP + column * (tile_px + _GAP)
            sheet.paste(image, (left, top))
            for number, line in enumerate(tile.caption.split("\n")):
                text(sheet, (left, top + image.height + 2 + number * _LINE), line, tile_px)
        top += tall + count * _LINE + _GAP
    return np.array(sheet)


def text(image: Image.Image, at: tuple[int, int], line: str, room: int) -> None:
    """Write one line, cut to ``room`` pixels."""
    font = ImageFont.load_default(_SIZE)
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    while line and font.getlength(line) > room:
        line = line[:-2] + "…" if len(line) > 1 else ""
    ImageDraw.Draw(image).text(at, line, fill=INK, font=font)


def bar_chart(groups: Mapping[str, Mapping[str, tuple[float, float, float]]], *, title: str = "") -> Pixels:
    """Draw grouped bars with whiskers, from 0 to 1.

    Parameters
    ----------
    groups
        For each group (along the axis) the bars by name: value, low end and high end. Every group has the same bars.

    Returns
    -------
    ndarray
        ``(H, W, 3) uint8``.
    """
    names = list(next(iter(groups.values())))
    bar, space, left, top, tall = 38, 34, 56, 78, 300
    width = left + len(groups) * (len(names) * bar + space) + space
    image = Image.new("RGB", (max(width, 420), top + tall + 40), PAPER)
    draw = ImageDraw.Draw(image)
    text(image, (_GAP, _GAP), title, image.width - 2 * _GAP)
    at = _GAP
    for index, name in enumerate(names):
        draw.rectangle((at, 42, at + 13, 55), fill=color_of(index))
        text(image, (at + 20, 39), name, 200)
        at += 34 + round(ImageFont.load_default(_SIZE).getlength(name))

    def y_of(value: float) -> int:
        return top + round(tall * (1 - min(1.0, max(0.0, value))))

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line((left, y_of(tick), image.width - _GAP, y_of(tick)), fill=FAINT)
        text(image, (_GAP, y_of(tick) - 9), f"{tick:.2f}", left)
    for group, (label, bars) in enumerate(groups.items()):
        start = left + space // 2 + group * (len(names) * bar + space)
        for index, name in enumerate(names):
            value, low, high = bars[name]
            x = start + index * bar
            draw.rectangle((x, y_of(value), x + bar - 7, top + tall), fill=color_of(index))
            if low == high:
                continue
            middle = x + (bar - 7) // 2
            draw.line((middle, y_of(low), middle, y_of(high)), fill=INK, width=2)
            for end in (low, high):
                draw.line((middle - 4, y_of(end), middle + 4, y_of(end)), fill=INK, width=2)
        text(image, (start, top + tall + 8), label, len(names) * bar + space)
    return np.array(image)


def _fit(pixels: Pixels, side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
