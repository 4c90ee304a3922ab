"""Motion between two pictures of a clip: the camera's, and what moves by itself.

The camera's by phase correlation and an affine fit, the rest by pyramidal Lucas-Kanade; pictures are carried along it
by :func:`warp`, and moved by a part of a pixel, without becoming softer, by :func:`moved`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.pyramid import box, luminance, pyramid, resize_like

__all__ = ["flow", "moved", "shift", "warp"]

_SMALL = 8  # smallest side of the coarsest level on which motion is looked for
_ROUNDS = 3  # Lucas-Kanade steps per level
_WINDOW = 4  # radius of its window
_TAPS = 4  # pixels each way that a moved pixel is made of


def warp(picture: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Carry a picture along a motion field.

    Parameters
    ----------
    picture
        ``(1, C, H, W)``.
    motion
        ``(1, 2, H, W)``: for every pixel of the result, how far (down, across, in pixels) from it lies the
        pixel of ``picture`` that it shows.

    Returns
    -------
    tuple
        The carried picture (bicubic; a whole number of pixels moves exactly) and ``(1, 1, H, W)``: 1 where it
        came from inside, else 0.
    """
    height, width = picture.shape[-2:]
    rows = torch.arange(height, dtype=motion.dtype, device=motion.device)[:, None] + motion[0, 0]
    columns = torch.arange(width, dtype=motion.dtype, device=motion.device)[None] + motion[0, 1]
    inside = (rows >= -0.01) & (rows <= height - 0.99) & (columns >= -0.01) & (columns <= width - 0.99)
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)[None]
    carried = F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return carried, inside[None, None].to(picture.dtype)


def moved(picture: Tensor, by: tuple[float, float], *, band: float = 1.0) -> Tensor:
    """Move a picture in [0, 1] by less than a pixel.

    Parameters
    ----------
    picture
        ``(1, C, H, W) float in [0, 1]``.
    by
        How far (down, across, -1 to 1) from each pixel of the result lies what it shows.
    band
        Up to which share of the finest frequencies the picture is kept.

    Returns
    -------
    Tensor
        Same shape and range (Lanczos' kernel); itself where nothing is asked for.
    """
    if not any(by) and band == 1:
        return picture
    result = picture.transpose(0, 1)
    taps = torch.arange(-_TAPS, _TAPS + 1, dtype=torch.float64)
    for way, amount in enumerate(by):
        apart = taps - amount
        weights = torch.sinc(apart * band) * torch.sinc(apart / _TAPS) * (apart.abs() < _TAPS)
        kernel = (weights / weights.sum()).to(picture).view((1, 1, -1, 1) if way == 0 else (1, 1, 1, -1))
        sides = (0, 0, _TAPS, _TAPS) if way == 0 else (_TAPS, _TAPS, 0, 0)
        result = F.conv2d(F.pad(result, sides, mode="replicate"), kernel)
    return result.transpose(0, 1).clamp(0, 1)


@torch.no_grad()
def flow(before: Tensor, after: Tensor) -> Tensor:
    """Estimate the motion from one photo to the next.

    The camera first: a shift (:func:`shift`), refined to an affine motion of the whole frame. Then what moves
    differently, from coarse to fine down to half resolution, by Lucas & Kanade 1981 with a ridge that
    holds flat areas at the motion of the coarser level.

    Parameters
    ----------
    before, after
        ``(1, 3, H, W) float in [0, 1]``.

    Returns
    -------
    Tensor
        ``(1, 2, H, W)``, as :func:`warp` takes it.
    """
    light = [luminance(before), luminance(after)]
    camera = _camera(light[0], light[1])
    levels = 1
    while min(light[0].shape[-2:]) >> levels >= _SMALL and levels < 4:
        levels += 1
    old, new = (pyramid(x, levels) for x in light)
    motion = camera
    for level in reversed(range(min(1, levels - 1), levels)):
        motion = _resized(motion, old[level])
        for _ in range(_ROUNDS):
            motion = motion + _step(old[level], new[level], motion)
    return _where_better(_resized(motion, light[0]), camera, light[0], light[1])


def _resized(motion: Tensor, like: Tensor) -> Tensor:
    """Bring a motion field to the size of a picture; its unit is that picture's pixel."""
    return resize_like(motion, like) * (like.shape[-1] / motion.shape[-1])


def shift(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return the shift (down, across) in pixels, exact to a few hundredths, between two grey frames ``(1, 1, H, W)``.

    Phase correlation (Kuglin & Hines 1975) under a Hann window finds the whole pixels, Gauss-Newton steps over
    the whole frame the rest. A frame without structure has no shift.
    """
    height, width = before.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(before.device)
    a, b = ((x[0, 0] - x.mean()) * window for x in (before, after))
    cross = torch.fft.rfft2(a) * torch.fft.rfft2(b).conj()
    surface = torch.fft.irfft2(cross / (cross.abs() + 1e-3 * cross.abs().mean() + 1e-12), s=(height, width))
    peak = int(surface.argmax())
    found = [float(v) for v in (peak // width, peak % width)]
    found = [v - size if v > size / 2 else v for v, size in zip(found, (height, width), strict=True)]
    starts = [_uniform(start, before) for start in ((0.0, 0.0), (found[0], found[1]))]
    fields = [*(_fit(before, after, start, affine=False) for start in starts), starts[0]]
    best = min(fields, key=lambda motion: _error(before, after, motion))
    return float(best[0, 0, 0, 0]), float(best[0, 1, 0, 0])


def _camera(before: Tensor, after: Tensor) -> Tensor:
    """Return the motion of the whole frame: a shift, or an affine motion where that explains the frame better."""
    start = _uniform(shift(before, after), before)
    affine = _fit(before, after, start, affine=True)
    return affine if _error(before, after, affine) < 0.97 * _error(before, after, start) else start


def _uniform(motion: tuple[float, float], like: Tensor) -> Tensor:
    return torch.tensor(motion).view(1, 2, 1, 1).expand(1, 2, *like.shape[-2:]).to(like)


def _fit(before: Tensor, after: Tensor, motion: Tensor, *, affine: bool) -> Tensor:
    """Improve a motion of the whole frame by Gauss-Newton steps: two numbers, or six if ``affine``."""
    height, width = before.shape[-2:]
    ones = torch.ones_like(before)
    forms = [ones]
    if affine:
        rows = torch.linspace(-1, 1, height).view(1, 1, -1, 1).to(before) * ones
        columns = torch.linspace(-1, 1, width).view(1, 1, 1, -1).to(before) * ones
        forms += [rows, columns]
    for _ in range(6):
        carried, inside = warp(before, motion)
        error = (after - carried) * inside
        trust = inside / (error.abs() + 0.02)  # what moves by itself counts less
        columns_of = [slope * form for slope in _slopes(carried) for form in forms]
        jacobian = torch.cat([c.flatten(1) for c in columns_of])  # (2 or 6, H W)
        weighted = jacobian * trust.flatten(1)
        matrix = weighted @ jacobian.T
        ridge = (1e-6 + 1e-4 * matrix.diagonal().mean()) * torch.eye(len(matrix)).to(matrix)
        step = torch.linalg.solve(matrix + ridge, weighted @ error.flatten()).clamp(-2, 2)
        count = len(forms)
        moves = [sum(step[i * count + j] * forms[j] for j in range(count)) for i in (0, 1)]
        motion = motion + torch.cat([torch.as_tensor(m) for m in moves], 1)
    return motion


def _error(before: Tensor, after: Tensor, motion: Tensor) -> float:
    """Mean absolute difference under a motion, with a small price on its length; infinite where little overlaps."""
    carried, inside = warp(before, motion)
    if float(inside.mean()) < 0.25:
        return float("inf")
    return float(((carried - after).abs() * inside).sum() / inside.sum()) + 1e-6 * float(motion.abs().mean())


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences (down, across)."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2, (
        padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    ) / 2


def _step(before: Tensor, after: Tensor, motion: Tensor) -> Tensor:
    """One Lucas-Kanade step for every pixel: ``(1, 2, H, W)``."""
    carried, inside = warp(before, motion)
    down, across = _slopes(carried)
    error = (after - carried) * inside
    yy, xx, xy = (box(p, _WINDOW) for p in (down * down, across * across, down * across))
    ye, xe = box(down * error, _WINDOW), box(across * error, _WINDOW)
    ridge = 1e-4 + 0.02 * (yy + xx).mean()
    yy, xx = yy + ridge, xx + ridge
    determinant = yy * xx - xy * xy
    step = torch.cat([(xx * ye - xy * xe) / determinant, (yy * xe - xy * ye) / determinant], 1)
    return box(step.clamp(-1, 1), 2)


def _where_better(motion: Tensor, camera: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Keep the camera's motion wherever the local one explains the new frame no better.

    A pan is one motion: taking it as it is keeps straight what small local errors would wobble.
    """
    errors = []
    for field in (motion, camera):
        carried, inside = warp(before, field)
        errors.append(box((carried - after).abs() * inside + (1 - inside), 4))
    better = box((errors[0] < 0.9 * errors[1] - 0.002).to(motion.dtype), 8)
    return torch.lerp(camera, motion, better)
