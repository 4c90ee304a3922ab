"""Content part of the quality score: the photo's structure is still there, whatever its new colors."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.metrics.filters import gaussian_pyramid, luminance, smooth, to_lab

__all__ = ["content_score"]


def edge_field(luma: Tensor) -> Tensor:
    """Locally normalised gradient in double-angle form (1x2xHxW)."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    gradient = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="reflect"), torch.stack([sobel, sobel.T])[:, None])
    gx, gy = gradient[:, :1], gradient[:, 1:]
    magnitude = (gx**2 + gy**2).sqrt()
    gain = 1.0 / (smooth(magnitude, 6.0) + 0.01)
    safe = magnitude + 1e-6
    return torch.cat([(gx**2 - gy**2) / safe, 2 * gx * gy / safe], 1) * gain


def edge_agreement(a: Tensor, b: Tensor) -> float:
    """Cosine between two double-angle edge fields; 0 for unrelated images."""
    x, y = edge_field(a), edge_field(b)
    return float((x * y).sum() / ((x**2).sum() * (y**2).sum()).sqrt().clamp(min=1e-9))


def local_correlation(a: Tensor, b: Tensor, sigma: float = 2.5, floor: float = 0.02) -> float:
    """Windowed correlation, weighted by the contrast of ``a`` (the photo)."""
    mean_a, mean_b = smooth(a, sigma), smooth(b, sigma)
    var_a = (smooth(a * a, sigma) - mean_a**2).clamp(min=0)
    var_b = (smooth(b * b, sigma) - mean_b**2).clamp(min=0)
    covariance = smooth(a * b, sigma) - mean_a * mean_b
    correlation = covariance / ((var_a + floor**2) * (var_b + floor**2)).sqrt()
    # The floor pulls identical flat windows below one; undo that for the photo's own share only.
    best = var_a / (var_a + floor**2)
    weight = var_a.sqrt() + 0.1 * var_a.sqrt().mean()
    return float((weight * correlation).sum() / (weight * best).sum().clamp(min=1e-9))


def layout_agreement(photo: Tensor, output: Tensor, cells: int = 20) -> float:
    """Return how far cells that look alike in the photo (nearest 5%) still look alike in the output."""

    def distances(rgb: Tensor) -> Tensor:
        height, width = rgb.shape[-2:]
        side = min(height, width) / cells
        grid = F.adaptive_avg_pool2d(to_lab(rgb), (round(height / side), round(width / side)))
        points = grid[0].flatten(1).T
        return torch.cdist(points, points)

    reference, other = distances(photo), distances(output)
    count = max(2, round(0.05 * len(reference)))
    near = reference.argsort(dim=1)[:, 1 : count + 1]

    def gain(matrix: Tensor) -> float:
        return 1.0 - float((matrix.gather(1, near).mean() + 0.5) / (matrix.mean() + 0.5))

    return max(0.0, gain(other)) / max(gain(reference), 1e-6)


def content_score(photo: Tensor, output: Tensor) -> dict[str, float]:
    """Return the three content parts and their mean."""
    a, b = gaussian_pyramid(luminance(photo), 4)[1:], gaussian_pyramid(luminance(output), 4)[1:]
    edges = float(np.mean([edge_agreement(x, y) for x, y in zip(a, b, strict=True)]))
    local = float(np.mean([local_correlation(x, y) for x, y in zip(a, b, strict=True)]))
    layout = layout_agreement(photo, output)
    parts = [min(1.0, max(0.0, v)) for v in (edges, local, layout)]
    return {
        "content": 0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2],
        "edges": edges,
        "local": local,
        "layout": layout,
    }
