"""Drawings and prints of one ink on paper: sketch, chalk, woodcut."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import fft, ndimage

from simulations.painters.canvas import Strokes, trace
from simulations.painters.fields import (
    Array,
    Flow,
    blur,
    cloud,
    flow_of,
    guided,
    jittered_grid,
    luminance,
    paper,
    pick,
    smoothstep,
    tint,
    unit,
)
from simulations.painters.palette import Palette

__all__ = ["chalk", "contours", "sketch", "woodcut"]

_SCALE = 2


def sketch(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Draw with a pencil: searching contour lines, hatching in up to four directions by tone, paper tooth."""
    gray = _even_tone(photo)
    height, width = gray.shape
    flow = flow_of(photo, 4.0)
    hand = np.float32(np.deg2rad(rng.uniform(-62, -48)))
    graphite: Array = np.zeros((height, width), dtype=np.float32)
    shades = ((0.70, 0.0, 0.34), (0.52, 0.3, 0.40), (0.34, -0.4, 0.46), (0.2, 1.1, 0.5))
    for limit, turn, weight in shades:
        field = _leaning(flow, hand + np.float32(turn))
        spacing = 4.4 * stroke
        starts = jittered_grid(height, width, spacing=spacing, rng=rng)
        dark = limit - pick(gray, starts)
        starts, dark = starts[dark > 0], dark[dark > 0]
        wash = np.repeat(gray[..., None], 3, axis=-1)
        lines = trace(field, starts, length=26 * stroke, step=2.0, reference=wash, tolerance=0.16, stiffness=0.8)
        tone = weight * unit(0.45 + 2.2 * dark) * rng.uniform(0.55, 1.2, len(dark)).astype(np.float32)
        graphite = 1 - (1 - graphite) * (1 - _lines(lines, tone, (height, width), thick=0.9 * stroke))
    edge = contours(photo, 1.1) * smoothstep(-gray, -1.0, -0.5)
    graphite = 1 - (1 - graphite) * (1 - _contour_lines(photo, flow, stroke, rng)) * (1 - 0.55 * edge)
    tooth = paper(height, width, rng=rng)
    graphite = unit(graphite * (0.84 + 0.34 * tooth)) * smoothstep(graphite + 0.2 * tooth, 0.06, 0.24)
    return _on_paper(0.96 * graphite, palette, 0.03 * (tooth - 0.5))


def chalk(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Draw with broad soft chalk on toned paper: dark chalk for shadows, white for lights."""
    gray = _even_tone(photo)
    height, width = gray.shape
    flow = flow_of(photo, 7.0)
    field = _leaning(flow, np.float32(np.deg2rad(rng.uniform(-58, -46))))
    soft = blur(gray, 1.2)
    tooth = paper(height, width, rng=rng)
    dark: Array = np.zeros((height, width), dtype=np.float32)
    light: Array = np.zeros((height, width), dtype=np.float32)
    starts = jittered_grid(height, width, spacing=3.4 * stroke, rng=rng)
    wash = np.repeat(soft[..., None], 3, axis=-1)
    for layer, amount, reach in ((dark, 0.56 - soft, 30), (dark, 0.32 - soft, 18), (light, 1.4 * (soft - 0.72), 20)):
        press = pick(amount, starts)
        chosen, press = starts[press > 0], press[press > 0]
        lines = trace(field, chosen, length=reach * stroke, step=2.5, reference=wash, tolerance=0.12, stiffness=0.7)
        tone = np.clip(0.16 + 1.5 * press, 0, 0.95) * rng.uniform(0.6, 1.1, len(press)).astype(np.float32)
        layer[...] = 1 - (1 - layer) * (1 - _lines(lines, tone, (height, width), thick=2.2 * stroke))
    dark = 1 - (1 - dark) * (1 - 1.1 * _contour_lines(photo, flow, 1.5 * stroke, rng))
    dark = unit(dark * 1.25) * smoothstep(tooth + 1.05 * dark, 0.42, 1.05)
    light = unit(light * 1.3) * smoothstep(tooth + 0.9 * light, 0.55, 1.0)
    ink, ground = tint(palette.ink), tint(palette.paper) * tint([0.86, 0.82, 0.75])
    sheet = ground * (1 + 0.07 * (tooth[..., None] - 0.5) + 0.012 * cloud(height, width, scale=40, rng=rng)[..., None])
    drawn = sheet + light[..., None] * (tint([0.99, 0.98, 0.94]) - sheet)
    return unit(drawn + 0.94 * dark[..., None] * (ink - drawn))


def woodcut(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Cut lines along the structure, thick in the shadows and thin in the light, and print them."""
    gray = _even_tone(guided(photo, 3, epsilon=0.002))
    height, width = gray.shape
    flow = flow_of(photo, 9.0)
    ridges = _furrows(flow, period=5.6 * stroke, rng=rng)
    shadow = unit((0.97 - gray) / 0.9) ** 0.95
    wave = np.arcsin(np.clip(ridges, -1, 1)) / np.pi  # -0.5 .. 0.5, evenly spread
    cut = smoothstep(shadow - 0.5 - wave, -0.07, 0.07)
    cut = np.where(shadow < 0.08, 0, np.where(shadow > 0.93, 1, cut))
    ink = np.maximum(cut, contours(photo, 1.3))
    ink = smoothstep(blur(ink.astype(np.float32), 0.6), 0.3, 0.7)
    grain = cloud(height, width, scale=1.6, rng=rng) + 0.6 * cloud(height, width, scale=20, rng=rng)
    ink = ink * (1 - 0.8 * smoothstep(grain, 2.3, 2.9))  # where the block did not take the ink
    return _on_paper(0.97 * ink, palette, 0.012 * cloud(height, width, scale=3, rng=rng))


def contours(photo: Array, sigma: float) -> Array:
    """Return ``(H, W)`` in [0, 1]: clean dark lines along edges (flow-based difference of Gaussians, Kang 2007)."""
    gray = luminance(guided(photo, 3, epsilon=0.0015))
    flow = flow_of(photo, 3 * sigma)
    height, width = gray.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    narrow, wide, total_n, total_w = gray.copy(), gray.copy(), 1.0, 1.0
    for k in range(1, round(4 * sigma) + 1):
        n, w = np.exp(-(k**2) / (2 * sigma**2)), np.exp(-(k**2) / (2 * (1.6 * sigma) ** 2))
        pair = _shifted(gray, xs + k * -flow.y, ys + k * flow.x) + _shifted(gray, xs - k * -flow.y, ys - k * flow.x)
        narrow, wide, total_n, total_w = narrow + n * pair, wide + w * pair, total_n + 2 * n, total_w + 2 * w
    difference = narrow / total_n - 0.985 * wide / total_w
    along, weight = difference.copy(), 1.0
    for k in range(1, 6):
        step = np.float32(1.3 * k)
        part = np.exp(-(k**2) / 12.0)
        along += part * _shifted(difference, xs + step * flow.x, ys + step * flow.y)
        along += part * _shifted(difference, xs - step * flow.x, ys - step * flow.y)
        weight += 2 * part
    return smoothstep(-(along / weight), 0.0, 0.016).astype(np.float32)


def _shifted(field: Array, xs: Array, ys: Array) -> Array:
    return np.asarray(ndimage.map_coordinates(field, [ys, xs], order=1, mode="nearest"), dtype=np.float32)


def _even_tone(photo: Array) -> Array:
    """Return luminance stretched to the whole range, with a little local contrast."""
    gray = luminance(photo)
    low, high = np.percentile(gray, (1.5, 98.5))
    gray = unit((gray - low) / max(high - low, 0.05))
    return unit(gray + 0.35 * (gray - blur(gray, 20)))


def _leaning(flow: Flow, hand: np.float32) -> Flow:
    """Mix the directions of a picture with the direction that the hand likes; edges win."""
    x, y = np.cos(hand), np.sin(hand)
    sign = np.where(flow.x * x + flow.y * y < 0, -1, 1).astype(np.float32)
    share = (0.75 * blur(flow.strength, 4)).astype(np.float32)
    mixed_x = share * sign * flow.x + (1 - share) * x
    mixed_y = share * sign * flow.y + (1 - share) * y
    norm = np.hypot(mixed_x, mixed_y) + np.float32(1e-6)
    return Flow(mixed_x / norm, mixed_y / norm, flow.strength)


def _lines(strokes: Strokes, tones: Array, shape: tuple[int, int], *, thick: float) -> Array:
    """Return coverage ``(H, W)`` in [0, 1] of single lines; where they cross, the darker one stays."""
    image = Image.new("L", (shape[1] * _SCALE, shape[0] * _SCALE), 0)
    draw = ImageDraw.Draw(image)
    order = np.argsort(tones, kind="stable")
    paths = (strokes.points * _SCALE).tolist()
    counts, levels = strokes.counts.tolist(), (unit(tones) * 255).astype(int).tolist()
    wide = max(1, round(thick * _SCALE))
    for i in order.tolist():
        draw.line([tuple(point) for point in paths[i][: counts[i]]], fill=levels[i], width=wide)
    return np.asarray(image.reduce(_SCALE), dtype=np.float32) / 255


def _contour_lines(photo: Array, flow: Flow, stroke: float, rng: np.random.Generator) -> Array:
    """Return coverage ``(H, W)``: edges searched by several long, slightly wrong lines."""
    edge = contours(photo, 1.4) * unit(flow_of(photo, 2.0).strength)
    height, width = edge.shape
    starts = jittered_grid(height, width, spacing=2.6, rng=rng)
    starts = starts[pick(edge, starts) > 0.45]
    near = flow_of(photo, 2.5)
    lines = trace(
        near, starts + rng.normal(0, 0.5, starts.shape).astype(np.float32), length=24 * stroke, step=2.0, stiffness=0.45
    )
    tone = (0.5 * pick(edge, starts) * rng.uniform(0.5, 1.1, len(starts))).astype(np.float32)
    first = _lines(lines, tone, (height, width), thick=0.55 * stroke)
    return 1 - (1 - first) * (1 - 0.35 * blur(edge, 0.5))


def _furrows(flow: Flow, *, period: float, rng: np.random.Generator) -> Array:
    """Grow evenly spaced lines along the flow out of noise: oriented band-pass filters, again and again."""
    height, width = flow.x.shape
    tall, long = (fft.next_fast_len(n + 32, real=True) for n in (height, width))
    fy, fx = np.meshgrid(np.fft.fftfreq(tall), np.fft.rfftfreq(long), indexing="ij")
    count = 12
    angles = np.arange(count) * np.pi / count
    across = np.arctan2(flow.x, -flow.y) % np.pi  # direction in which the lines alternate
    nearest = np.rint(across / (np.pi / count)).astype(np.int64) % count
    spread = 0.30 / period
    banks = []
    for angle in angles:
        bank = np.zeros(fx.shape, dtype=np.float32)
        for sign in (1, -1):
            distance = (fx - sign * np.cos(angle) / period) ** 2 + (fy - sign * np.sin(angle) / period) ** 2
            bank += np.exp(-distance / (2 * spread**2)).astype(np.float32)
        banks.append(bank)
    wave = rng.standard_normal((height, width), dtype=np.float32)
    for _ in range(7):
        spectrum = fft.rfft2(np.pad(wave, ((0, tall - height), (0, long - width))))
        grown = np.zeros_like(wave)
        for i, bank in enumerate(banks):
            here = nearest == i
            if here.any():
                grown[here] = fft.irfft2(spectrum * bank, s=(tall, long))[:height, :width][here]
        power = np.sqrt(blur(grown * grown, period)) + 1e-6
        wave = np.tanh(1.2 * grown / power).astype(np.float32)
    power = np.sqrt(2 * blur(grown * grown, 0.8 * period)) + 1e-6
    return np.clip(grown / power, -1, 1).astype(np.float32)


def _on_paper(ink: Array, palette: Palette, relief: Array) -> Array:
    ground = tint(palette.paper) * (1 + relief[..., None])
    return unit(ground + ink[..., None] * (tint(palette.ink) - ground))
