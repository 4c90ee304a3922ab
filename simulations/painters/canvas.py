"""Strokes that follow a field of directions, and a canvas to lay them on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from simulations.painters.fields import Array, Flow, blur, pick, unit

__all__ = ["Canvas", "Strokes", "trace"]

_SCALE = 2  # the canvas is this many times finer than the picture, which smooths every stroke's rim


@dataclass(frozen=True, eq=False)
class Strokes:
    """Center lines of S strokes with up to K points each.

    Parameters
    ----------
    points
        ``(S, K, 2)``.
    normals
        ``(S, K, 2)``, unit vectors across the stroke.
    counts
        ``(S,)``, how many of the K points are in use (at least 2).
    """

    points: Array
    normals: Array
    counts: NDArray[np.int64]


def trace(
    flow: Flow,
    starts: Array,
    *,
    length: float,
    step: float,
    reference: Array | None = None,
    tolerance: float = 0.1,
    stiffness: float = 0.3,
    turn: float = 0.0,
) -> Strokes:
    """Let strokes run along the flow to both sides of their starts.

    Parameters
    ----------
    flow
        The field to follow.
    starts
        ``(S, 2)``.
    length, step
        Longest length of a stroke and distance of its points, in pixels.
    reference
        ``(H, W, 3)``; a stroke ends where this differs from its start by more than ``tolerance``.
    stiffness
        0 follows the flow at once, towards 1 the stroke stays straight.
    turn
        Angle in radians between the stroke and the flow.
    """
    count = max(1, round(length / step / 2))
    first = _directions(flow, starts, turn)
    halves = []
    for sign in (1.0, -1.0):
        points, directions = [starts], [first * sign]
        alive, alives = np.ones(len(starts), dtype=bool), []
        for _ in range(count):
            nearby = _directions(flow, points[-1], turn)
            nearby *= np.where((nearby * directions[-1]).sum(-1, keepdims=True) < 0, -1, 1)
            ahead = stiffness * directions[-1] + (1 - stiffness) * nearby
            ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True) + 1e-9
            moved = points[-1] + step * ahead
            if reference is not None:
                change = np.abs(pick(reference, moved) - pick(reference, starts)).mean(-1)
                alive = alive & (change <= tolerance)
            alives.append(alive)
            points.append(np.where(alive[:, None], moved, points[-1]))
            directions.append(ahead)
        halves.append((points, directions, np.sum(alives, axis=0)))
    return _joined(halves[0], halves[1])


_Half = tuple[list[Array], list[Array], NDArray[np.int64]]


def _joined(ahead: _Half, behind: _Half) -> Strokes:
    points = np.stack(behind[0][:0:-1] + ahead[0], axis=1)
    directions = np.stack([-d for d in behind[1][:0:-1]] + ahead[1], axis=1)
    size = points.shape[1]
    lead = len(behind[0]) - 1 - behind[2]  # unused points at the front
    order = np.minimum(np.arange(size)[None] + lead[:, None], size - 1)[..., None]
    points = np.take_along_axis(points, order, axis=1)
    directions = np.take_along_axis(directions, order, axis=1)
    normals = np.stack([-directions[..., 1], directions[..., 0]], axis=-1)
    return Strokes(points, normals, np.maximum(2, ahead[2] + behind[2] + 1))


def _directions(flow: Flow, points: Array, turn: float) -> Array:
    x, y = pick(flow.x, points), pick(flow.y, points)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return np.stack([c * x - s * y, s * x + c * y], axis=-1)


class Canvas:
    """A canvas of paint with color and relief, finer than the picture.

    Parameters
    ----------
    ground
        ``(H, W, 3)``, what is on the canvas before the first stroke.
    """

    def __init__(self, ground: Array) -> None:
        self.height, self.width = ground.shape[:2]
        relief = np.full((*ground.shape[:2], 1), 0.5, dtype=np.float32)
        pixels = (np.concatenate([ground, relief], axis=-1) * 255).astype(np.uint8)
        image = Image.fromarray(pixels, mode="CMYK")  # four plain channels; RGBA would weigh colors by the fourth
        self._image = image.resize((self.width * _SCALE, self.height * _SCALE), Image.Resampling.BILINEAR)
        self._draw = ImageDraw.Draw(self._image)

    def brush(
        self,
        strokes: Strokes,
        colors: Array,
        *,
        width: float,
        rng: np.random.Generator,
        streak: float = 0.05,
        ragged: float = 0.5,
        bristle: float = 1.0,
    ) -> None:
        """Lay opaque strokes, each made of parallel bristles, the later over the earlier.

        Parameters
        ----------
        strokes
            Where they run.
        colors
            ``(S, 3)``.
        width
            Width of the brush in pixels.
        streak
            How much the lightness differs between the bristles of one stroke.
        ragged
            How unevenly the bristles end, as a part of the width.
        bristle
            Thickness of one bristle in pixels.
        """
        if not len(strokes.points):
            return
        lines = max(1, round(width / bristle))
        across = np.linspace(-1, 1, lines, dtype=np.float32) if lines > 1 else np.zeros(1, dtype=np.float32)
        paths = _bristles(strokes, across * (width - bristle) / 2, width, ragged=ragged, rng=rng)
        tone = rng.standard_normal((len(colors), lines, 1), dtype=np.float32)
        tints = colors[:, None] * (1 + streak * tone) + 0.3 * streak * tone
        ridge = (
            0.55
            + 3 * streak * tone
            - 0.3 * (across[None, :, None] ** 6)
            + 0.08 * rng.standard_normal((len(colors), 1, 1))
        )
        inks = (unit(np.concatenate([tints, ridge], axis=-1)) * 255).astype(np.uint8)
        flat = (paths * _SCALE).reshape(len(colors) * lines, -1).tolist()
        thickness = max(1, round(_SCALE * bristle + 0.6))
        for path, ink in zip(flat, inks.reshape(-1, 4).tolist(), strict=True):
            self._draw.line(path, fill=tuple(ink), width=thickness)

    def dots(self, centers: Array, colors: Array, radii: Array) -> None:
        """Lay opaque round dots: ``(S, 2)`` centers, ``(S, 3)`` colors, ``(S,)`` radii in pixels."""
        boxes = (np.concatenate([centers - radii[:, None], centers + radii[:, None]], axis=-1) * _SCALE).tolist()
        for box, ink in zip(boxes, _opaque(colors), strict=True):
            self._draw.ellipse(box, fill=ink)

    def polygons(self, corners: Array, colors: Array) -> None:
        """Lay opaque polygons: ``(S, K, 2)`` corners, ``(S, 3)`` colors."""
        flat = (corners * _SCALE).reshape(len(corners), -1).tolist()
        for path, ink in zip(flat, _opaque(colors), strict=True):
            self._draw.polygon(path, fill=ink)

    def rgb(self) -> Array:
        """Return the colors ``(H, W, 3)``."""
        return self._pixels()[..., :3]

    def lit(self, depth: float) -> Array:
        """Return the colors ``(H, W, 3)`` with light from the upper left on the relief."""
        pixels = self._pixels()
        relief = blur(pixels[..., 3], 0.6)
        slope = np.gradient(relief, axis=0) + np.gradient(relief, axis=1)
        light = np.clip(depth * slope, -0.25, 0.25)[..., None]
        return unit(pixels[..., :3] * (1 + light) + 0.35 * np.maximum(light, 0))

    def _pixels(self) -> Array:
        small = self._image.reduce(_SCALE)
        return np.asarray(small, dtype=np.float32) / 255


def _opaque(colors: Array) -> list[tuple[int, ...]]:
    inks = (unit(colors) * 255).astype(np.uint8)
    return [(*ink, 128) for ink in inks.tolist()]


def _bristles(strokes: Strokes, offsets: Array, width: float, *, ragged: float, rng: np.random.Generator) -> Array:
    """Return ``(S, B, K, 2)``: parallels of the center lines with rounded, uneven ends."""
    total, size = strokes.points.shape[:2]
    lengths = np.linalg.norm(np.diff(strokes.points, axis=1), axis=-1).sum(1)[:, None] + 1e-3
    round_off = width / 2 - np.sqrt(np.maximum(0, (width / 2) ** 2 - offsets**2))
    ends = round_off[None, None] + ragged * width * rng.random((2, total, len(offsets)))
    ends = np.minimum(ends / lengths[None], 0.45).astype(np.float32)  # (2, S, B) parts of the length
    along = np.linspace(0, 1, size, dtype=np.float32)
    place = (ends[0][..., None] + (1 - ends.sum(0))[..., None] * along) * (strokes.counts[:, None, None] - 1)
    low = np.minimum(place.astype(np.int64), size - 2)
    part = (place - low)[..., None].astype(np.float32)
    rows = np.arange(total)[:, None, None]
    points = strokes.points[rows, low] * (1 - part) + strokes.points[rows, low + 1] * part
    return np.asarray(points + strokes.normals[rows, low] * offsets[None, :, None, None], dtype=np.float32)
