"""Paintings of opaque brush strokes: oil and impressionist."""

from __future__ import annotations

import numpy as np

from simulations.painters.canvas import Canvas, trace
from simulations.painters.fields import Array, blur, flow_of, jittered_grid, luminance, pick, tint, unit
from simulations.painters.palette import Palette

__all__ = ["impressionist", "oil"]


def oil(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Paint in layers of curved strokes, coarse to fine (Hertzmann 1998), lit from the upper left.

    A finer brush works only where the coarser ones are still wrong.
    """
    target = palette.apply(photo)
    height, width = target.shape[:2]
    ground = tint([0.45, 0.33, 0.22]) * 0.5 + blur(target, 24 * stroke) * 0.5
    canvas = Canvas(ground)
    for radius, limit in ((9.0, 0.0), (5.0, 0.028), (2.7, 0.05), (1.5, 0.08)):
        size = max(1.0, radius * stroke)
        reference = blur(target, 0.45 * size)
        flow = flow_of(reference, 2 * size + 2)
        starts = jittered_grid(height, width, spacing=1.2 * size, rng=rng)
        wrong = _error(canvas, reference, size)
        starts = starts[pick(wrong, starts) > limit] if limit else starts
        strokes = trace(
            flow,
            starts,
            length=7 * size,
            step=max(1.0, 0.8 * size),
            reference=reference,
            tolerance=0.055,
            stiffness=0.35,
        )
        colors = pick(reference, starts)
        colors = colors + 0.016 * rng.standard_normal(colors.shape, dtype=np.float32)
        colors = colors + 0.03 * rng.standard_normal((len(colors), 1), dtype=np.float32)
        canvas.brush(strokes, colors, width=2 * size, rng=rng, streak=0.04, ragged=0.6, bristle=max(1.1, 0.16 * size))
    return canvas.lit(0.9)


def impressionist(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Paint short thick dabs along the edges (Litwinowicz 1997) in broken color.

    Neighbors differ in hue and average to the photo's color; shadows turn blue, light turns warm.
    """
    target = palette.apply(photo)
    height, width = target.shape[:2]
    light = blur(luminance(target), 2)[..., None]
    target = target + 0.10 * (light - 0.5) * tint([1.0, 0.45, -1.3]) + 0.03
    gray = luminance(target)[..., None]
    target = unit(gray + 1.35 * (target - gray))
    canvas = Canvas(unit(0.6 * blur(target, 12) + 0.4 * tint([0.86, 0.78, 0.66])))
    for size, length, limit, break_up in (
        (11.0, 26, 0.0, 0.08),
        (7.5, 17, 0.0, 0.12),
        (4.5, 11, 0.06, 0.08),
        (2.5, 8, 0.075, 0.03),
    ):
        wide = max(1.5, size * stroke)
        reference = blur(target, 0.35 * wide)
        flow = flow_of(reference, 2.5 * wide)
        starts = jittered_grid(height, width, spacing=1.3 * wide, rng=rng)
        wrong = _error(canvas, reference, 1.1 * wide)
        starts = starts[pick(wrong, starts) > limit] if limit else starts
        strokes = trace(
            flow, starts, length=length * stroke, step=2.5, reference=reference, tolerance=0.1, stiffness=0.7, turn=0.12
        )
        colors = _broken(pick(reference, starts), break_up, rng)
        canvas.brush(strokes, colors, width=wide, rng=rng, streak=0.015, ragged=0.15, bristle=1.4)
    return canvas.lit(0.9)


def _broken(colors: Array, amount: float, rng: np.random.Generator) -> Array:
    """Move colors ``(S, 3)`` across the hues without changing their lightness much."""
    shift = rng.standard_normal(colors.shape, dtype=np.float32) * amount * (0.4 + luminance(colors)[:, None])
    shift -= 0.8 * luminance(shift)[:, None]
    return unit(colors + shift + 0.03 * rng.standard_normal((len(colors), 1), dtype=np.float32))


def _error(canvas: Canvas, reference: Array, sigma: float) -> Array:
    """Return ``(H, W)``: how far the canvas is from the reference, the scatter of single strokes averaged out."""
    return np.asarray(np.abs(blur(canvas.rgb() - reference, sigma)).mean(-1), dtype=np.float32)
