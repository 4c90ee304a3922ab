"""The plots of an experiment as inline SVG: colors come from the page's style sheet.

Markup carries classes (``mark s0``, ``band s0``, ``grid``, ``tick``) and no colors, so one style sheet
serves light and dark pages and print.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from simulations.charts import nice_ticks

__all__ = ["Curve", "Dot", "Point", "bars", "curves", "forest", "scatter", "standalone"]

_WIDE, _ROW = 420, 26
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 30
_LIGHT = (
    "#2c4f93 #b9791a #4a7650 #b23c26 #7a4a9c #16807f #a33a6d #6d6f1f #4f6f94 #8a5a3c #2f7d4f #5a5a5a".split()
)  # those of templates/experiment.css


@dataclass(frozen=True)
class Curve:
    """A line with a band around it.

    Parameters
    ----------
    name
        In words.
    color
        Number of its color; negative: gray, without a band, to compare with.
    points
        Round, mean, low and high.
    """

    name: str
    color: int
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True)
class Dot:
    """A row of a forest plot: a mean with its interval."""

    name: str
    color: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A dot with two coordinates and an interval in the second; ``x`` may be infinite."""

    name: str
    color: int
    x: float
    mean: float
    low: float
    high: float


def curves(lines: Sequence[Curve], *, title: str, high: int = 200, span: tuple[float, float] | None = None) -> str:
    """Draw lines over rounds, each with its interval as a band.

    Parameters
    ----------
    lines
        At least one.
    title
        Read aloud by screen readers.
    high
        Height in units of the view box, which is 420 wide.
    span
        Ends of the y axis, where several plots share them.
    """
    points = [point for line in lines for point in line.points]
    least, most = span or (min(p[2] for p in points), max(p[3] for p in points))
    ticks = nice_ticks(least, most, count=3)
    last = max(1, *(point[0] for point in points))

    def x_of(number: float) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * number / last

    def y_of(value: float) -> float:
        return _TOP + (high - _TOP - _BOTTOM) * (1 - (value - ticks[0]) / (ticks[-1] - ticks[0]))

    parts = [_open(_WIDE, high, title)]
    for tick in ticks:
        parts.append(_line("grid", _LEFT, y_of(tick), _WIDE - _RIGHT, y_of(tick)))
        parts.append(_text("tick", _LEFT - 6, y_of(tick) + 4, f"{tick:g}", "end"))
    every = max(1, math.ceil(last / 8))
    for number in range(0, last + 1, every):
        parts.append(_text("tick", x_of(number), high - 10, str(number) if number else "start", "middle"))
    for line in sorted(lines, key=lambda item: item.color >= 0):
        name = f"s{line.color}" if line.color >= 0 else "other"
        if line.color >= 0:
            edge = [(x_of(n), y_of(hi)) for n, _, _, hi in line.points]
            edge += [(x_of(n), y_of(lo)) for n, _, lo, _ in reversed(line.points)]
            parts.append(f'<polygon class="band {name}" points="{_points(edge)}"/>')
        middle = [(x_of(n), y_of(mean)) for n, mean, _, _ in line.points]
        parts.append(
            f'<polyline class="line {name}" points="{_points(middle)}"><title>{_safe(line.name)}</title></polyline>'
        )
        if line.color >= 0:
            parts += [
                f'<circle class="mark {name}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>'
                f"{_safe(f'{line.name}, round {n}: {mean:.4f} [{lo:.4f}, {hi:.4f}]')}</title></circle>"
                for (x, y), (n, mean, lo, hi) in zip(middle, line.points, strict=True)
            ]
    return "".join([*parts, "</svg>"])


def forest(dots: Sequence[Dot], *, title: str, line: float | None = None, names: int = 150) -> str:
    """Draw a row per method: its mean as a dot, its interval as a bar, and a dashed line to compare with.

    Parameters
    ----------
    names
        Width kept for the names.
    """
    values = [value for dot in dots for value in (dot.low, dot.high)] + ([line] if line is not None else [])
    ticks = nice_ticks(min(values), max(values), count=3)
    high = _TOP + _ROW * len(dots) + _BOTTOM

    def x_of(value: float) -> float:
        return names + (_WIDE - names - _RIGHT) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [_open(_WIDE, high, title)]
    for tick in ticks:
        parts.append(_line("grid", x_of(tick), _TOP, x_of(tick), high - _BOTTOM))
        parts.append(_text("tick", x_of(tick), high - 10, f"{tick:g}", "middle"))
    if line is not None:
        parts.append(_line("limit", x_of(line), _TOP, x_of(line), high - _BOTTOM))
    for number, dot in enumerate(dots):
        y, name = _TOP + _ROW * (number + 0.5), f"s{dot.color}"
        parts.append(_text("label", names - 10, y + 4, _short(dot.name, names // 7), "end"))
        parts.append(_line(f"whisker {name}", x_of(dot.low), y, x_of(dot.high), y))
        parts.append(
            f'<circle class="mark {name}" cx="{x_of(dot.mean):.1f}" cy="{y:.1f}" r="5"><title>'
            f"{_safe(f'{dot.name}: {dot.mean:.4f} [{dot.low:.4f}, {dot.high:.4f}]')}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def scatter(points: Sequence[Point], *, title: str, x_name: str, high: int = 260) -> str:
    """Draw points over a logarithmic x axis; those with infinite ``x`` stand apart at its right end."""
    points = [dataclasses.replace(point, x=float(f"{point.x:.2g}")) for point in points]
    finite = [math.log10(point.x) for point in points if 0 < point.x < math.inf] or [0.0]
    room = 0.1 + 0.25 * (max(finite) - min(finite))
    least, most = min(finite) - room, max(finite) + room
    apart = 70.0 if any(math.isinf(point.x) for point in points) else 0.0
    ticks = nice_ticks(min(p.low for p in points), max(p.high for p in points), count=3)
    right = _WIDE - _RIGHT - apart

    def x_of(value: float) -> float:
        if math.isinf(value):
            return _WIDE - _RIGHT - apart / 2
        return _LEFT + (right - _LEFT) * (math.log10(value) - least) / (most - least)

    def y_of(value: float) -> float:
        return _TOP + (high - _TOP - 2 * _BOTTOM + 8) * (1 - (value - ticks[0]) / (ticks[-1] - ticks[0]))

    floor = y_of(ticks[0])
    parts = [_open(_WIDE, high, title)]
    for tick in ticks:
        parts.append(_line("grid", _LEFT, y_of(tick), _WIDE - _RIGHT, y_of(tick)))
        parts.append(_text("tick", _LEFT - 6, y_of(tick) + 4, f"{tick:g}", "end"))
    for value in sorted({point.x for point in points}):
        words = "none" if math.isinf(value) else f"{value:.3g}"
        parts.append(_text("tick", x_of(value), floor + 18, words, "middle"))
    parts.append(_text("tick", (_LEFT + _WIDE) / 2, high - 6, x_name, "middle"))
    if apart:
        parts.append(_line("grid", right, _TOP, right, floor))
    seen: dict[float, int] = {}
    for point in points:
        shift = 12.0 * (seen.get(point.x, 0) - (sum(p.x == point.x for p in points) - 1) / 2)
        seen[point.x] = seen.get(point.x, 0) + 1
        x = x_of(point.x) + shift
        parts.append(_line(f"whisker s{point.color}", x, y_of(point.low), x, y_of(point.high)))
        parts.append(
            f'<circle class="mark s{point.color}" cx="{x:.1f}" cy="{y_of(point.mean):.1f}" r="5"><title>'
            f"{_safe(f'{point.name}: {point.mean:.4f} [{point.low:.4f}, {point.high:.4f}]')}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def bars(rows: Sequence[tuple[str, int, float, str]], *, title: str, names: int = 150) -> str:
    """Draw a horizontal bar per method: name, color, value from 0, and the value in words."""
    most = max((value for _, _, value, _ in rows), default=0.0) or 1.0
    high = _ROW * len(rows) + 8
    parts = [_open(_WIDE, high, title)]
    for number, (name, color, value, words) in enumerate(rows):
        y = 4 + _ROW * number
        wide = (_WIDE - names - 84) * value / most
        parts.append(_text("label", names - 10, y + 16, _short(name, names // 7), "end"))
        parts.append(
            f'<rect class="bar-fill s{color}" x="{names}" y="{y + 5}" width="{max(1.0, wide):.1f}" height="14" rx="3"/>'
        )
        parts.append(_text("tick", names + max(1.0, wide) + 7, y + 16, words, "start"))
    return "".join([*parts, "</svg>"])


def standalone(svg: str) -> str:
    """Return a plot as a file of its own, in light colors on paper."""
    rules = [f".s{number}{{--own:{color}}}" for number, color in enumerate(_LIGHT)]
    style = (
        ".chart{background:#fffdf8}text{font:12px system-ui,sans-serif;fill:#6c6357}.label{fill:#25201a}"
        ".grid{stroke:#e1d8c7}.limit{stroke:#b23c26;stroke-width:1.5;stroke-dasharray:5 4}"
        ".mark{fill:var(--own);stroke:#fffdf8;stroke-width:1.5}.whisker{stroke:var(--own);stroke-width:2.5}"
    ) + "".join(rules)
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="640"><style>{style}</style>{rest}\n'


def _open(wide: int, high: float, title: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {wide} {high:g}" role="img" aria-label="{_safe(title)}">'


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(name: str, x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_safe(words)}</text>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def _safe(words: str) -> str:
    return html.escape(words)
