"""Clips made from one photo, whose motion is known exactly: a pan, a pan between pixels, a zoom, a noisy still.

Every frame is a window of the photo under a similarity (scale and shift), resampled once from the
photo, then sensor noise is added and the frame is rounded to 8 bits. So the motion between two frames is known to
floating-point accuracy and frames can be compared in each other's coordinates without any estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.errors import InputError
from shared_model.temporal import warp

__all__ = ["KINDS", "Clip", "flicker", "make_clip"]

KINDS = ("still", "pan", "subpixel", "zoom")
_SPEEDS = {"still": (0.0, 0.0), "pan": (1.0, 3.0), "subpixel": (0.4, 1.3), "zoom": (0.0, 0.0)}
_ZOOM = 1.01  # per frame


@dataclass(frozen=True)
class Clip:
    """Frames and the motion between them.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    frames
        Each ``(1, 3, S, S) float in [0, 1]`` on whole 8-bit levels.
    motions
        For each frame but the first, the motion from the one before, as :func:`shared_model.temporal.warp` takes it.
    """

    kind: str
    frames: tuple[Tensor, ...]
    motions: tuple[Tensor, ...]


def make_clip(photo: Tensor, kind: str, *, frames: int, size_px: int, noise: float = 2.0, seed: int = 0) -> Clip:
    """Make a clip of square windows.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]``, larger than the window by the whole way of the pan.
    kind
        ``still``; ``pan`` (1 px down and 3 px across per frame); ``subpixel`` (0.4 and 1.3); ``zoom`` (1 % per
        frame, towards the middle).
    frames
        How many, at least 2.
    size_px
        Side of a frame.
    noise
        Standard deviation of the sensor's noise, in levels of 255, fresh in every frame.
    seed
        Of the noise.

    Raises
    ------
    InputError
        If the kind is unknown, there are too few frames, or the photo is too small.
    """
    if kind not in KINDS or frames < 2:
        raise InputError(f"no clip of kind {kind!r} with {frames} frames", hint=f"kinds: {', '.join(KINDS)}; 2 or more")
    down, across = _SPEEDS[kind]
    reach = [size_px + speed * (frames - 1) + 2 for speed in (down, across)]
    if photo.shape[2] < reach[0] or photo.shape[3] < reach[1]:
        raise InputError(f"the photo is too small for a clip of {frames} frames of {size_px} pixels")
    generator = torch.Generator().manual_seed(seed)
    scales = [_ZOOM**index if kind == "zoom" else 1.0 for index in range(frames)]
    made = []
    for index in range(frames):
        window = _window(photo, (down * index, across * index), scales[index], size_px)
        noisy = window + torch.randn(window.shape, generator=generator) * noise / 255
        made.append((noisy.clamp(0, 1) * 255).round() / 255)
    steps = [_motion((down, across), scales[i - 1] / scales[i], size_px) for i in range(1, frames)]
    return Clip(kind, tuple(made), tuple(steps))


def flicker(frames: tuple[Tensor, ...] | list[Tensor], motions: tuple[Tensor, ...], *, margin: int = 8) -> float:
    """Mean absolute difference of each frame to the one before carried along the known motion, in [0, 1].

    Pixels that were outside the frame before, and a margin around them and at the border, are left out.
    """
    values = []
    for before, after, motion in zip(frames[:-1], frames[1:], motions, strict=True):
        moved, inside = warp(before, motion)
        inside = inside.clone()
        for edge in (inside[..., :margin, :], inside[..., -margin:, :], inside[..., :margin], inside[..., -margin:]):
            edge.zero_()
        values.append(float(((moved - after).abs().mean(1, keepdim=True) * inside).sum() / inside.sum()))
    return sum(values) / len(values)


def _window(photo: Tensor, corner: tuple[float, float], scale: float, size_px: int) -> Tensor:
    """Sample a window whose pixel (y, x) shows the photo at ``corner + middle + ((y, x) - middle) / scale``."""
    middle = (size_px - 1) / 2
    along = (torch.arange(size_px, dtype=torch.float64) - middle) / scale + middle
    height, width = photo.shape[-2:]
    rows = (2 * (along + corner[0] + 1) + 1) / height - 1
    columns = (2 * (along + corner[1] + 1) + 1) / width - 1
    grid = torch.stack(torch.broadcast_tensors(columns[None, :], rows[:, None]), -1)[None].float()
    return F.grid_sample(photo, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def _motion(speed: tuple[float, float], ratio: float, size_px: int) -> Tensor:
    """Where in the frame before the pixels of a frame were: a shift against the pan, or a move to the middle."""
    middle = (size_px - 1) / 2
    along = (torch.arange(size_px, dtype=torch.float32) - middle) * (ratio - 1)
    down = (along + speed[0])[:, None].expand(size_px, size_px)
    across = (along + speed[1])[None].expand(size_px, size_px)
    return torch.stack([down, across])[None]
