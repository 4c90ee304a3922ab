"""Destylise, restylise: training pairs from paintings alone, without labels or a pretrained network.

A crop of a painting is turned into a pseudo-photo (strokes smoothed away by median and guided
filters, tones bent), a head made from the *rest* of that painting drafts it, and the generator
learns to bring the real painting back.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from shared_model.pyramid import box, luminance, pad_reflect

__all__ = ["destylise"]


def destylise(painting: Tensor, random_state: random.Random) -> Tensor:
    """Return a pseudo-photo of ``painting`` ``(1, 3, H, W) float in [0, 1]``, same shape and range."""
    x = painting
    if random_state.random() < 0.6:
        x = _median(x, random_state.choice((3, 5, 7)))
    for _ in range(random_state.choice((1, 2))):
        x = _guided(x, random_state.choice((3, 5, 7)), random_state.choice((0.002, 0.006, 0.015)))
    exponent = math.exp(random_state.uniform(-0.4, 0.4))
    return x.clamp(0, 1) ** exponent


def _median(x: Tensor, side: int) -> Tensor:
    """Median over a square window, per channel."""
    padded = pad_reflect(x, side // 2)
    windows = padded.unfold(2, side, 1).unfold(3, side, 1)
    return windows.reshape(*x.shape, side * side).median(-1).values


def _guided(x: Tensor, radius: int, epsilon: float) -> Tensor:
    """Edge-preserving smoothing with the luminance as guide (He et al. 2013, eq. 5 to 8)."""
    guide = luminance(x)
    mean_guide, mean = box(guide, radius), box(x, radius)
    slope = (box(guide * x, radius) - mean_guide * mean) / (box(guide * guide, radius) - mean_guide**2 + epsilon)
    return torch.addcmul(box(mean - slope * mean_guide, radius), box(slope, radius), guide)
