"""Copying and artefacts: the painting pasted in, clipped colors, weaves, seams."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.metrics.filters import local_normalise, luminance

__all__ = ["checker_peak", "clipped_share", "copy_correlation", "seam_jump"]

# Grid artefacts looked for, as (vertical, horizontal) cycles per 24 px: periods of 2, 3, 4, 6 and 8 px.
WEAVES = [(y, x) for y in (0, 3, 4, 6, 8, 12) for x in (0, 3, 4, 6, 8, 12) if x or y]


def copy_correlation(output: Tensor, style: Tensor) -> float:
    """Peak correlation with any shift of the painting: as is, mirrored, turned, or stretched to fit."""
    small = local_normalise(F.interpolate(luminance(output), scale_factor=0.25, mode="area"), 4.0)
    height, width = small.shape[-2:]
    size = (2 * height, 2 * width)
    energy_map = torch.fft.rfft2(small, s=size)
    source = luminance(style)
    quarter = F.interpolate(source, scale_factor=0.25, mode="area")
    best = 0.0
    for turn in range(4):
        turned = torch.rot90(quarter, turn, (2, 3))
        cover = max(height / turned.shape[2], width / turned.shape[3])
        shapes = {
            (turned.shape[2], turned.shape[3]),
            (height, width),
            (max(height, round(turned.shape[2] * cover)), max(width, round(turned.shape[3] * cover))),
        }
        for shape in sorted(shapes):
            candidate = F.interpolate(turned, size=shape, mode="bilinear", align_corners=False, antialias=True)
            candidate = local_normalise(candidate[:, :, :height, :width], 4.0)
            for mirrored in (candidate, candidate.flip(3)):
                surface = torch.fft.irfft2(energy_map * torch.fft.rfft2(mirrored, s=size).conj(), s=size)
                # Overlap of at least half in each direction, normalised by the overlap's area.
                dy = torch.fft.fftfreq(size[0], 1 / size[0]).abs().view(-1, 1)
                dx = torch.fft.fftfreq(size[1], 1 / size[1]).abs().view(1, -1)
                h, w = mirrored.shape[-2:]
                overlap = (min(h, height) - dy) * (min(w, width) - dx)
                allowed = (dy <= min(h, height) / 2) & (dx <= min(w, width) / 2)
                power = math.sqrt(float((small**2).mean()) * float((mirrored**2).mean())) + 1e-9
                value = torch.where(allowed, surface[0, 0] / overlap.clamp(min=1) / power, torch.zeros(()))
                best = max(best, float(value.max()))
    return best


def clipped_share(rgb: Tensor) -> float:
    """Share of pixels with a channel at either end of the 8-bit range."""
    return float(((rgb <= 0.5 / 255) | (rgb >= 254.5 / 255)).any(1).float().mean())


def checker_peak(rgb: Tensor) -> float:
    """Largest spectral peak at a period of 2, 3, 4, 6 or 8 px above its neighbourhood, in dB."""
    luma = luminance(rgb)[0, 0]
    height, width = (n - n % 24 for n in luma.shape)
    luma = luma[:height, :width]
    window = torch.hann_window(height).view(-1, 1) * torch.hann_window(width).view(1, -1)
    power = torch.fft.fft2((luma - luma.mean()) * window).abs() ** 2 + 1e-9
    worst = 0.0
    for fy, fx in WEAVES:
        rows = torch.arange(fy * height // 24 - 16, fy * height // 24 + 17) % height
        columns = torch.arange(fx * width // 24 - 16, fx * width // 24 + 17) % width
        patch = power[rows][:, columns]
        away = (torch.arange(33) - 16).abs() > 4
        # Straight edges put a ridge along the axes, so each line is compared with itself.
        ridge = torch.maximum(patch[away, 15:18].median(), patch[15:18, away].median())
        worst = max(worst, float(10 * torch.log10(patch[15:18, 15:18].mean() / ridge)))
    return worst


def seam_jump(rgb: Tensor) -> float:
    """Largest jump across one complete row or column, relative to the image's typical jump."""
    luma = luminance(rgb)[0, 0]
    worst = 0.0
    for jumps in ((luma[1:] - luma[:-1]).abs().mean(1), (luma[:, 1:] - luma[:, :-1]).abs().mean(0)):
        padded = F.pad(jumps.view(1, 1, -1), (4, 4), mode="reflect")[0, 0]
        around = padded.unfold(0, 9, 1).median(1).values
        worst = max(worst, float((jumps - around).max() / (jumps.median() + 1e-4)))
    return worst
