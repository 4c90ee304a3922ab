"""Fields over a picture: blurs, directions along its structure, noise and paper.

Pictures are ``(H, W, 3) float32`` in [0, 1]; points are ``(..., 2) float32`` as (x, y) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "Array",
    "Flow",
    "blur",
    "cloud",
    "flow_of",
    "guided",
    "jittered_grid",
    "luminance",
    "paper",
    "pick",
    "smoothstep",
    "tint",
    "unit",
]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Flow:
    """Directions along the structure of a picture.

    Parameters
    ----------
    x, y
        ``(H, W)``, unit vector along the edges (its sign has no meaning).
    strength
        ``(H, W)`` in [0, 1]: 0 is flat, 1 a strong edge of one clear direction.
    """

    x: Array
    y: Array
    strength: Array


def tint(color: Sequence[float]) -> Array:
    """Return one color as ``(3,) float32``."""
    return np.array(color, dtype=np.float32)


def unit(x: Array) -> Array:
    """Clip to [0, 1]."""
    return np.asarray(np.clip(x, 0, 1), dtype=np.float32)


def luminance(rgb: Array) -> Array:
    """Return ``(H, W)`` perceived lightness in [0, 1] of sRGB values (Rec. 709 weights on the coded values)."""
    return np.asarray(rgb @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32), dtype=np.float32)


def blur(field: Array, sigma: float) -> Array:
    """Gaussian blur over the first two axes; a wide one is three box blurs."""
    if sigma <= 0:
        return field
    if sigma > 3:
        size = (2 * round(sigma) + 1, 2 * round(sigma) + 1) + (1,) * (field.ndim - 2)
        for _ in range(3):
            field = np.asarray(ndimage.uniform_filter(field, size, mode="nearest"), dtype=np.float32)
        return field
    sigmas = (sigma, sigma) + (0,) * (field.ndim - 2)
    return np.asarray(ndimage.gaussian_filter(field, sigmas, mode="nearest", truncate=3), dtype=np.float32)


def smoothstep(x: Array, low: float, high: float) -> Array:
    """Rise smoothly from 0 at ``low`` to 1 at ``high`` (which may be the smaller of the two)."""
    t = unit((x - low) / (high - low))
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def guided(rgb: Array, radius: float, *, epsilon: float) -> Array:
    """Smooth a picture and keep its edges (He, Sun, Tang 2010, guided by its own luminance)."""
    guide = luminance(rgb)[..., None]
    size = (2 * max(1, round(radius)) + 1,) * 2 + (1,)

    def mean(x: Array) -> Array:
        return np.asarray(ndimage.uniform_filter(x, size, mode="nearest"), dtype=np.float32)

    center, average = mean(guide), mean(rgb)
    slope = (mean(guide * rgb) - center * average) / (mean(guide * guide) - center * center + epsilon)
    return unit(mean(slope) * guide + mean(average - slope * center))


def flow_of(rgb: Array, sigma: float) -> Flow:
    """Find the direction of edges (structure tensor); flat places take it from edges farther away.

    Parameters
    ----------
    rgb
        ``(H, W, 3)``.
    sigma
        Smoothness of the field in pixels.
    """
    soft = blur(rgb, max(1.0, sigma / 4))
    gx = np.asarray(ndimage.sobel(soft, axis=1, mode="nearest"), dtype=np.float32) / 8
    gy = np.asarray(ndimage.sobel(soft, axis=0, mode="nearest"), dtype=np.float32) / 8
    tensor = np.stack([(gx * gx).sum(-1), (gy * gy).sum(-1), (gx * gy).sum(-1)], axis=-1)
    near = blur(tensor, sigma)
    a, b, c = np.moveaxis(near + 0.1 * blur(tensor, 4 * sigma) + 0.01 * blur(tensor, 16 * sigma), -1, 0)
    angle = 0.5 * np.arctan2(2 * c, a - b) + np.pi / 2
    anisotropy = np.hypot(near[..., 0] - near[..., 1], 2 * near[..., 2])
    strength = unit(np.sqrt(anisotropy) / 0.12)
    return Flow(np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32), strength.astype(np.float32))


def jittered_grid(height: int, width: int, *, spacing: float, rng: np.random.Generator, jitter: float = 1.0) -> Array:
    """Return ``(S, 2)`` points in random order, one in each cell, anywhere in its middle part of size ``jitter``."""
    ys, xs = np.meshgrid(np.arange(0, height, spacing), np.arange(0, width, spacing), indexing="ij")
    points = np.stack([xs.ravel(), ys.ravel()], axis=-1) + (0.5 + jitter * (rng.random((xs.size, 2)) - 0.5)) * spacing
    points = np.minimum(points, [width - 1, height - 1]).astype(np.float32)
    return points[rng.permutation(len(points))]


def pick(field: Array, points: Array) -> Array:
    """Look up ``(H, W)`` or ``(H, W, C)`` at the nearest pixels of ``(..., 2)`` points."""
    x = np.clip(points[..., 0].astype(np.int64), 0, field.shape[1] - 1)
    y = np.clip(points[..., 1].astype(np.int64), 0, field.shape[0] - 1)
    return field[y, x]


def cloud(height: int, width: int, *, scale: float, rng: np.random.Generator) -> Array:
    """Smooth noise ``(H, W)`` with mean 0 and deviation 1, whose spots are about ``scale`` pixels wide."""
    factor = max(1, int(scale / 2))
    shape = (height // factor + 4, width // factor + 4)
    coarse = blur(rng.standard_normal(shape, dtype=np.float32), scale / factor / 2)
    fine = np.asarray(ndimage.zoom(coarse, factor, order=1), dtype=np.float32)[:height, :width]
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), dtype=np.float32)


def paper(height: int, width: int, *, rng: np.random.Generator) -> Array:
    """Tooth of a rough paper: ``(H, W)`` in [0, 1], high where the paper rises and takes the chalk."""
    tooth = cloud(height, width, scale=1.6, rng=rng) + 0.4 * cloud(height, width, scale=3, rng=rng)
    return unit(0.5 + 0.3 * tooth)
