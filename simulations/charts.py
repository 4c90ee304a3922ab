"""Line charts as small inline SVG: no library, colors from the page's style sheet.

The markup carries classes (``grid``, ``axis``, ``line s0``, ``dot s0`` ...) and no colors of its
own, so one style sheet serves light and dark pages and print.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Series", "line_chart", "nice_ticks", "side_by_side"]

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 18, 34  # the left margin grows with the labels
_DIGIT = 7  # width of a digit of a label

_COLORS = ("#2c4f93", "#b9791a", "#4a7650", "#b23c26")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#6c6357}.title{font-weight:600;font-size:14px;fill:#25201a}"
    ".grid{stroke:#e1d8c7}.line{fill:none;stroke-width:2.5}.limit{stroke:#b23c26;stroke-dasharray:5 4}"
    ".limit-name{fill:#b23c26}"
) + "".join(f".line.s{number}{{stroke:{color}}}.dot.s{number}{{fill:{color}}}" for number, color in enumerate(_COLORS))


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Parameters
    ----------
    name
        What the line shows, in plain words.
    values
        One finite value per x position; ``None`` leaves a gap.
    """

    name: str
    values: tuple[float | None, ...]


def nice_ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten) that cover ``[low, high]``.

    Parameters
    ----------
    low, high
        Ends of the data; equal ends are widened first.
    count
        About how many steps are wanted.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    if high - low < 1e-9 * max(1.0, abs(high)):
        margin = 0.1 * abs(high) or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    labels: Sequence[str],
    title: str,
    limit: tuple[str, float] | None = None,
    from_zero: bool = False,
) -> str:
    """Draw lines over equally spaced positions.

    Parameters
    ----------
    series
        Lines of ``len(labels)`` values each.
    labels
        Names of the x positions.
    title
        Read aloud by screen readers.
    limit
        A dashed horizontal line with its name, such as a budget.
    from_zero
        Start the y axis at 0.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    known = [value for item in series for value in item.values if value is not None and math.isfinite(value)]
    extent = [*known, *([limit[1]] if limit and math.isfinite(limit[1]) else []), *([0.0] if from_zero else [])]
    ticks = nice_ticks(min(extent, default=0.0), max(extent, default=1.0))
    left = max(LEFT, 8 + _DIGIT * max(len(f"{tick:g}") for tick in ticks))

    def x_of(index: int) -> float:
        return left + (WIDTH - left - RIGHT) * (index / max(1, len(labels) - 1))

    def y_of(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - ticks[0]) / (ticks[-1] - ticks[0]))

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    every = max(1, math.ceil(len(labels) / 8))
    for index, label in enumerate(labels):
        if index % every == 0 or index == len(labels) - 1:
            anchor = "middle" if 0 < index < len(labels) - 1 else ("start" if index == 0 else "end")
            x = x_of(index) if len(labels) > 1 else (left + WIDTH - RIGHT) / 2
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{html.escape(label)}</text>'
            )
    if limit and math.isfinite(limit[1]):
        y = y_of(limit[1])
        parts.append(f'<line class="limit" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="limit-name" x="{left + 6}" y="{y - 6:.1f}">{html.escape(limit[0])}</text>')
    for number, item in enumerate(series):
        parts.extend(_line(item, number, labels, x_of, y_of))
    parts.append("</svg>")
    return "".join(parts)


def _line(item: Series, number: int, labels: Sequence[str], x_of, y_of) -> list[str]:  # type: ignore[no-untyped-def]
    points = [
        (x_of(index), y_of(value), label, value)
        for index, (label, value) in enumerate(zip(labels, item.values, strict=True))
        if value is not None and math.isfinite(value)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    parts = [f'<polyline class="line s{number}" points="{path}"/>']
    parts.extend(
        f'<circle class="dot s{number}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{html.escape(f'{item.name}, {label}: {value:.3g}')}</title></circle>"
        for x, y, label, value in points
    )
    return parts


def side_by_side(charts: Sequence[tuple[str, str]], *, keys: Sequence[str]) -> str:
    """Put charts of :func:`line_chart` with their titles into one picture that needs no page around it.

    Parameters
    ----------
    charts
        Title and ``<svg>`` element of each.
    keys
        Names of the lines, in order; they must be the same in every chart.

    Returns
    -------
    str
        An SVG document with its own light colors.
    """
    top, wide, high = 58, WIDTH * len(charts), HEIGHT + 58
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{wide}" height="{high}" fill="#fffdf8"/>',
    ]
    for number, name in enumerate(keys):
        x = LEFT + 130 * number
        parts.append(f'<circle class="dot s{number}" cx="{x + 5}" cy="16" r="5"/>')
        parts.append(f'<text class="name" x="{x + 16}" y="20">{html.escape(name)}</text>')
    for number, (title, svg) in enumerate(charts):
        x = WIDTH * number
        parts.append(f'<text class="title" x="{x + LEFT}" y="48">{html.escape(title)}</text>')
        inner = svg.replace("<svg ", f'<svg x="{x}" y="{top}" width="{WIDTH}" height="{HEIGHT}" ', 1)
        parts.append(inner)
    parts.append("</svg>\n")
    return "\n".join(parts)
