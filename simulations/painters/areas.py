"""Pictures built of areas and small pieces: cartoon, mosaic, pointillist, watercolor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from simulations.painters.canvas import Canvas
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
from simulations.painters.ink import contours
from simulations.painters.palette import Palette

__all__ = ["cartoon", "mosaic", "pointillist", "watercolor"]


def cartoon(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Fill flat areas of few bright colors and draw ink lines around them."""
    target = palette.apply(photo)
    flat = guided(guided(target, 3 * stroke, epsilon=0.004), 4 * stroke, epsilon=0.002)
    low, high = np.percentile(luminance(flat), (1, 99))
    flat = 0.03 + 0.97 * (flat - low) / max(high - low, 0.1)
    gray = luminance(flat)[..., None]
    flat = unit(gray + 1.3 * (flat - gray))
    filled = _flattened(flat, 20, sigma=1.5 * stroke, rng=rng)
    ink = contours(photo, 1.35 * stroke)
    ink = smoothstep(blur(ink, 0.7 * stroke), 0.25, 0.6)[..., None]
    return unit(filled + ink * (tint(palette.ink) * 0.55 - filled))


def watercolor(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Lay transparent washes on white paper: wandering borders, dark rims, granulation (Bousseau 2006)."""
    target = palette.apply(photo)
    height, width = target.shape[:2]
    target = _wobbled(target, 1.7 * stroke, rng)
    soft = guided(guided(target, 3 * stroke, epsilon=0.002), 4 * stroke, epsilon=0.0015)
    broad = _flattened(soft, 10, sigma=2.2 * stroke, rng=rng)
    fine = _flattened(soft, 24, sigma=0.8 * stroke, rng=rng)
    wash = 0.35 * blur(broad, 1.0) + 0.5 * fine + 0.15 * blur(soft, 6 * stroke)
    gray = luminance(wash)[..., None]
    wash = unit(gray + 1.35 * (wash - gray))
    wash = 1 - 0.9 * (1 - wash) ** 1.3  # thin paint: the lights are the paper
    rims = np.clip(np.abs(blur(broad, 0.7) - blur(broad, 2.4 * stroke)).mean(-1) * 5, 0, 0.5)
    rims += np.clip(np.abs(blur(fine, 0.5) - blur(fine, 1.4 * stroke)).mean(-1) * 3.5, 0, 0.35)
    flood = cloud(height, width, scale=50 * stroke, rng=rng) + 0.6 * cloud(height, width, scale=16 * stroke, rng=rng)
    tooth = paper(height, width, rng=rng)
    grains = 0.7 * (tooth - 0.5) + 0.16 * cloud(height, width, scale=2.5, rng=rng)
    density = np.clip(0.9 + 0.20 * flood + 0.32 * grains + 1.25 * rims, 0.3, 2.6)[..., None]
    sheet = tint(palette.paper) * (1 + 0.05 * (tooth[..., None] - 0.5))
    pigment = np.clip(wash, 0.02, 1)
    return unit(sheet * pigment**density)


def pointillist(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Set dots of nearly pure pigments whose mixture is the photo's color (Seurat)."""
    target = palette.apply(photo)
    height, width = target.shape[:2]
    gray = luminance(target)[..., None]
    target = unit(0.04 + 0.94 * (gray + 1.25 * (target - gray)))
    canvas = Canvas(unit(0.85 * blur(target, 5) + 0.15 * tint([0.94, 0.89, 0.78])))
    detail = unit(flow_of(target, 2).strength)
    for radius, spread, limit in ((3.6, 0.12, 0.0), (2.9, 0.15, 0.0), (1.7, 0.10, 0.3)):
        size = radius * stroke
        points = jittered_grid(height, width, spacing=2.0 * size, rng=rng, jitter=0.6)
        points = points[pick(detail, points) >= limit]
        colors = _divided(pick(blur(target, 0.4 * size), points), spread, rng)
        radii = size * rng.uniform(0.7, 1.1, len(points)).astype(np.float32)
        canvas.dots(points, colors, radii)
    return canvas.rgb()


def mosaic(photo: Array, *, palette: Palette, stroke: float, rng: np.random.Generator) -> Array:
    """Set square stones in rows along the edges (Hausner 2001), with gaps of mortar."""
    target = palette.apply(photo)
    height, width = target.shape[:2]
    size = 7.5 * stroke
    flow = flow_of(target, 2.5 * size)
    centers = _stones(flow, size, rng)
    owner, rim, tilt = _cells(flow, centers, rng)
    colors = pick(guided(blur(target, 0.3 * size), 3, epsilon=0.002), centers)
    gray = luminance(colors)[:, None]
    colors = gray + 1.3 * (colors - gray)
    colors = colors + rng.normal(0, 0.04, (len(colors), 1)) + rng.normal(0, 0.02, colors.shape)
    stones = unit(0.05 + 0.93 * colors)[owner]
    grain = 1 + 0.03 * cloud(height, width, scale=1.6, rng=rng) + np.clip(0.05 * tilt, -0.1, 0.1)
    mortar = (0.36 + 0.02 * cloud(height, width, scale=2, rng=rng))[..., None] * tint([1.0, 0.95, 0.88])
    mortar = 0.6 * mortar + 0.2 * blur(target, size)
    stone = smoothstep(rim, 0.5, 1.7)[..., None]
    return unit(mortar + stone * (stones * grain[..., None] - mortar))


def _flattened(rgb: Array, count: int, *, sigma: float, rng: np.random.Generator) -> Array:
    """Return the picture in ``count`` flat colors whose areas have smooth borders."""
    height, width = rgb.shape[:2]
    pixels = rgb.reshape(-1, 3)
    vivid = 0.05 + np.ptp(pixels, axis=-1).astype(np.float64) ** 2  # a small bright thing keeps its color
    sample = pixels[rng.choice(len(pixels), 4000, p=vivid / vivid.sum())] + rng.normal(0, 1e-4, (4000, 3))
    colors, _ = kmeans2(sample.astype(np.float64), min(count, len(sample)), minit="++", seed=rng, iter=12)
    colors = colors[np.isfinite(colors).all(-1)].astype(np.float32)
    _, nearest = cKDTree(colors).query(pixels)
    labels = nearest.reshape(height, width)
    size = (height * 2, width * 2)
    best = np.full(size, -1.0, dtype=np.float32)
    flat = np.zeros((*size, 3), dtype=np.float32)
    for i, color in enumerate(colors):
        share = blur((labels == i).astype(np.float32), sigma)
        fine = np.asarray(ndimage.zoom(share, 2, order=1, grid_mode=True, mode="nearest"), dtype=np.float32)
        wins = fine > best
        best[wins] = fine[wins]
        flat[wins] = color
    return np.asarray(flat.reshape(height, 2, width, 2, 3).mean((1, 3)), dtype=np.float32)


def _wobbled(rgb: Array, amount: float, rng: np.random.Generator) -> Array:
    """Shift every place a little, so that borders wander as a wet brush does."""
    height, width = rgb.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    for scale, share in ((26.0, 0.7), (7.0, 0.35)):
        xs = xs + share * amount * cloud(height, width, scale=scale, rng=rng)
        ys = ys + share * amount * cloud(height, width, scale=scale, rng=rng)
    moved = [ndimage.map_coordinates(rgb[..., i], [ys, xs], order=1, mode="nearest") for i in range(3)]
    return np.stack(moved, axis=-1).astype(np.float32)


def _divided(colors: Array, spread: float, rng: np.random.Generator) -> Array:
    """Split colors ``(S, 3)`` into purer neighbors on the color wheel; their mean stays near."""
    light = luminance(colors)[:, None]
    turn = rng.standard_normal((len(colors), 3)).astype(np.float32)
    turn -= turn.mean(-1, keepdims=True)
    pushed = colors + spread * (0.45 + light) * turn
    pushed += light - luminance(pushed)[:, None] + 0.05 * rng.standard_normal((len(colors), 1))
    gray = luminance(pushed)[:, None]
    return unit(gray + 1.15 * (pushed - gray))


def _stones(flow: Flow, size: float, rng: np.random.Generator) -> Array:
    """Return ``(S, 2)`` centers that spread until squares along the flow fit side by side."""
    height, width = flow.x.shape
    step = max(1.0, size / 5)
    ys, xs = np.meshgrid(np.arange(0, height, step), np.arange(0, width, step), indexing="ij")
    pixels = np.stack([xs.ravel(), ys.ravel()], axis=-1).astype(np.float32)
    centers = jittered_grid(height, width, spacing=size, rng=rng)
    for _ in range(14):
        owner = _nearest(flow, centers, pixels)[0][:, 0]
        count = np.bincount(owner, minlength=len(centers))
        sums = np.stack([np.bincount(owner, pixels[:, i], len(centers)) for i in (0, 1)], axis=-1)
        moved = sums / np.maximum(count, 1)[:, None]
        centers = np.where(count[:, None] > 0, moved, centers).astype(np.float32)
    return centers


def _cells(flow: Flow, centers: Array, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array, Array]:
    """Return for each pixel its stone, the distance to that stone's rim, and how much it faces the light."""
    height, width = flow.x.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels = np.stack([xs.ravel(), ys.ravel()], axis=-1)
    candidates, distances = _nearest(flow, centers, pixels)
    owner = candidates[:, 0]
    rim = distances[:, 1] - distances[:, 0] if distances.shape[1] > 1 else np.full(len(owner), 9.0)
    faces = rng.standard_normal((len(centers), 2)) * 0.25 - 0.25
    tilt = ((pixels - centers[owner]) * faces[owner]).sum(-1)
    shape = (height, width)
    return owner.reshape(shape), rim.reshape(shape).astype(np.float32), tilt.reshape(shape).astype(np.float32)


def _nearest(flow: Flow, centers: Array, pixels: Array) -> tuple[NDArray[np.int64], Array]:
    """Return ``(P, 2)`` nearest stones of each pixel and their distances, measured in squares along the flow."""
    count = min(5, len(centers))
    _, found = cKDTree(centers).query(pixels, k=count)
    candidates = np.asarray(found, dtype=np.int64).reshape(len(pixels), count)
    x, y = pick(flow.x, centers)[candidates], pick(flow.y, centers)[candidates]
    gap = pixels[:, None] - centers[candidates]
    ahead = np.abs(gap[..., 0] * x + gap[..., 1] * y)
    aside = np.abs(gap[..., 1] * x - gap[..., 0] * y)
    distance = np.maximum(ahead, aside)
    order = np.argsort(distance, axis=1)[:, :2]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(distance, order, axis=1)
