"""Small bar and line charts of rounds as inline SVG; colors come from the page's style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

__all__ = ["bars", "line", "thinned"]

WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 50, 8, 10, 22
MOST = 120  # points; more than this cannot be told apart

Words = Callable[[float], str]


def thinned(rounds: Sequence[int]) -> list[int]:
    """Return the places of at most `MOST` rounds, evenly spread, the newest always among them."""
    count = len(rounds)
    if count <= MOST:
        return list(range(count))
    return sorted({round((count - 1) * place / (MOST - 1)) for place in range(MOST)})


def bars(title: str, rounds: Sequence[int], parts: Sequence[Sequence[float]], *, words: Words) -> str:
    """Draw one bar per round.

    Parameters
    ----------
    title
        Read out instead of the picture.
    rounds
        Numbers of the rounds, rising.
    parts
        From the whole to a part of it: bars that are drawn over one another, with the classes ``p0``, ``p1`` ...
    words
        Writes a value at the axis.
    """
    top = _top(max((value for part in parts for value in part), default=0.0))
    places = thinned(rounds)
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(places))
    wide = max(1.0, min(26.0, slot * 0.72))
    drawn = []
    for number, part in enumerate(parts):
        for index, place in enumerate(places):
            height = part[place] / top * (HEIGHT - TOP - BOTTOM)
            x, y = LEFT + slot * (index + 0.5) - wide / 2, HEIGHT - BOTTOM - height
            drawn.append(f'<rect class="p{number}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{height:.1f}"/>')
    return _framed(title, rounds, places, drawn, top=top, words=words)


def line(title: str, rounds: Sequence[int], values: Sequence[float | None], *, words: Words) -> str:
    """Draw one line; a value of None leaves a gap."""
    known = [value for value in values if value is not None]
    top = _top(max(known, default=0.0))
    places = thinned(rounds)
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(places))
    runs: list[list[str]] = [[]]
    for index, place in enumerate(places):
        value = values[place]
        if value is None:
            runs.append([])
        else:
            height = value / top * (HEIGHT - TOP - BOTTOM)
            runs[-1].append(f"{LEFT + slot * (index + 0.5):.1f},{HEIGHT - BOTTOM - height:.1f}")
    drawn = [f'<polyline class="l0" points="{" ".join(points)}"/>' for points in runs if len(points) > 1]
    if len(places) <= 30:
        dots = [point.split(",") for points in runs for point in points]
        drawn += [f'<circle class="d0" cx="{x}" cy="{y}" r="2.5"/>' for x, y in dots]
    return _framed(title, rounds, places, drawn, top=top, words=words)


def _framed(
    title: str, rounds: Sequence[int], places: Sequence[int], drawn: Sequence[str], *, top: float, words: Words
) -> str:
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for share in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(words(share * top))}</text>')
    parts += drawn
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(places))
    for index in sorted({0, (len(places) - 1) // 2, len(places) - 1}) if places else ():
        x = LEFT + slot * (index + 0.5)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{rounds[places[index]]}</text>')
    return "".join([*parts, "</svg>"])


def _top(highest: float) -> float:
    """Return a round number at or a little above the highest value, never 0."""
    if not (math.isfinite(highest) and highest > 0.0):
        return 1.0
    unit = 10.0 ** math.floor(math.log10(highest))
    return next(
        (unit * step for step in (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0) if highest <= unit * step),
        unit * 10.0,
    )
