"""Line plots as PNG: a few series over numbers, with a legend; no plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared_model.images import save_picture
from simulations.charts import nice_ticks

__all__ = ["Line", "write_plot"]

_WIDTH, _HEIGHT = 900, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 230, 74, 60
_COLORS = ("#0b62a4", "#d1495b", "#2f9e44", "#e08e0b", "#7048a8", "#5f6b76", "#12a5a5", "#8c4a2f")


@dataclass(frozen=True)
class Line:
    """One series.

    Parameters
    ----------
    name
        For the legend.
    points
        ``(x, y)`` with finite numbers, in order.
    bars
        ``(low, high)`` around each point; may be empty.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    bars: tuple[tuple[float, float], ...] = ()


def write_plot(path: Path, lines: Sequence[Line], *, title: str, x_name: str, y_name: str, log_x: bool = False) -> Path:
    """Draw lines with dots and write a PNG.

    Parameters
    ----------
    log_x
        Space x logarithmically; 0 is drawn at 1.
    """
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    xs = [_at(x, log_x) for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + [end for line in lines for bar in line.bars for end in bar]
    ticks = nice_ticks(min(ys), max(ys), count=5)
    low, high = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (_at(x, log_x) - low) / ((high - low) or 1.0)
        up = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    pen.text((_LEFT, 14), title, fill="black", font=ImageFont.load_default(18))
    for tick in ticks:
        y = place(lines[0].points[0][0], tick)[1]
        pen.line((_LEFT, y, _WIDTH - _RIGHT, y), fill="#dddddd")
        pen.text((_LEFT - 10, y), f"{tick:g}", fill="black", font=font, anchor="rm")
    for x in _x_ticks([x for line in lines for x, _ in line.points], log_x):
        pen.text((place(x, ticks[0])[0], _HEIGHT - _BOTTOM + 8), f"{x:g}", fill="black", font=font, anchor="ma")
    pen.text((_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, _HEIGHT - 12), x_name, fill="black", font=font, anchor="mb")
    pen.text((8, 44), y_name, fill="black", font=font)
    for number, line in enumerate(lines):
        color = _COLORS[number % len(_COLORS)]
        dots = [place(x, y) for x, y in line.points]
        pen.line(dots, fill=color, width=2, joint="curve")
        aside = 4 * (number - (len(lines) - 1) / 2)  # bars of several lines stand next to each other
        for (x, _), (bottom, top) in zip(line.points, line.bars, strict=False):
            (across, low_end), (_, high_end) = place(x, bottom), place(x, top)
            pen.line((across + aside, low_end, across + aside, high_end), fill=color)
        if len(dots) <= 30:
            for x, y in dots:
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)
        height = _TOP + 24 * number
        pen.line((_WIDTH - _RIGHT + 20, height, _WIDTH - _RIGHT + 50, height), fill=color, width=3)
        pen.text((_WIDTH - _RIGHT + 58, height), line.name, fill="black", font=font, anchor="lm")
    return save_picture(path, np.asarray(image))


def _at(x: float, log_x: bool) -> float:
    return math.log10(max(1.0, x)) if log_x else x


def _x_ticks(values: Sequence[float], log_x: bool) -> list[float]:
    distinct = sorted(set(values))
    if log_x or len(distinct) <= 6:
        return distinct
    return [tick for tick in nice_ticks(distinct[0], distinct[-1], count=6) if distinct[0] <= tick <= distinct[-1]]
