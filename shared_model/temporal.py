"""Steady strokes in a clip: the last painted frame, carried along the motion, blended into the new one.

Strokes are chosen for each frame anew and their grid is fixed to the frame, so in a pan they swim and on
sensor noise they boil. Here the motion between two *photos* is estimated (the camera's, by phase correlation
and an affine fit, then pyramidal Lucas-Kanade for what moves by itself), the last *painting* is carried
along it, and where the carried photo agrees with the new one most of the new painting is taken from the
carried one (Lai et al. 2018 learn such a blend; here it is closed form, three numbers and no training).
Where it disagrees (uncovered ground, cuts, fast change) the new painting stands as it is.

Strokes that a photo is laid in with (:mod:`shared_model.laying_in`) belong to the scene: :func:`follow` says for every
pixel of the new frame where in the scene it lies, and what chance decides about a stroke is decided there.

Guarantees: the first frame, and every frame after a cut, is exactly the painting given. A state holds
one photo, one painting and the places of its pixels, and nothing else. All is deterministic.

Limits: motion larger than about a quarter of the frame, transparency and flicker of the light are taken for
a cut or for disagreement, so they flicker as before; a carried painting is resampled once a frame, which
softens strokes a little in motion that is no whole number of pixels (docs/model.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.errors import InputError
from shared_model.pyramid import box, lattice, luminance, pyramid, resize_like

__all__ = ["Blend", "State", "Step", "flow", "follow", "shift", "stabilise", "warp"]

_SMALL = 8  # smallest side of the coarsest level on which motion is looked for
_ROUNDS = 3  # Lucas-Kanade steps per level
_WINDOW = 4  # radius of its window
_SEEN = 0.1  # agreement from which on a pixel shows what was seen before


@dataclass(frozen=True)
class Blend:
    """How much of the carried painting is kept.

    Parameters
    ----------
    keep
        Its share where the photos agree perfectly: 0 nothing is carried, 0.95 the default, below 1.
    tolerance
        Mean difference of the photos, in [0, 1], at which the share has fallen to 1/e of that; noise of the
        sensor lies well below, a moved edge above.
    cut
        Mean difference of the whole frame above which the clip is taken to begin anew.
    motion_px
        Short side at which motion is looked for; larger frames are reduced for it, which saves time.
    """

    keep: float = 0.95
    tolerance: float = 0.06
    cut: float = 0.12
    motion_px: int = 512

    def __post_init__(self) -> None:
        if not 0.0 <= self.keep < 1.0:
            raise InputError(f"keep must be at least 0 and below 1, not {self.keep:g}")
        if not (self.tolerance > 0.0 and self.cut > 0.0):
            raise InputError("tolerance and cut must be positive")
        if self.motion_px < 16:
            raise InputError(f"motion_px must be at least 16, not {self.motion_px}")


@dataclass(frozen=True)
class State:
    """What a clip remembers between two frames.

    Parameters
    ----------
    photo, painting
        The last ones, ``(1, 3, H, W)`` each.
    scene
        Where in the scene the frame's pixels lie; see :class:`Step`.
    """

    photo: Tensor
    painting: Tensor
    scene: Tensor


@dataclass(frozen=True)
class Step:
    """What happened from one frame to the next.

    Parameters
    ----------
    scene
        ``(1, 2, H, W)``: where in the scene every pixel of the new frame lies (down, across, in pixels of the frame
        with which the clip began). It goes with what is seen; uncovered ground goes with the camera.
    motion
        As :func:`warp` takes it; ``None`` where a clip begins anew.
    share
        ``(1, 1, H, W)``: how much of the carried painting is to be kept.
    """

    scene: Tensor
    motion: Tensor | None = None
    share: Tensor | None = None


@torch.no_grad()
def follow(last: State | None, photo: Tensor, *, blend: Blend | None = None) -> Step:
    """Find out how a clip goes on, before its new frame ``(1, 3, H, W) float in [0, 1]`` is painted."""
    blend, still = blend or Blend(), lattice(photo)
    if last is None or last.photo.shape != photo.shape or blend.keep == 0.0:
        return Step(still)
    motion = _motion(last.photo, photo, blend.motion_px)
    both, inside = warp(torch.cat([last.photo, last.scene - still], 1), motion)
    difference = box((both[:, :3] - photo).abs().mean(1, keepdim=True), 2)
    if float((difference * inside).sum() / inside.sum().clamp_min(1.0)) > blend.cut or float(inside.mean()) < 0.25:
        return Step(still)
    agreement = torch.exp(-((difference / blend.tolerance) ** 2)) * inside
    moved = motion + both[:, 3:]  # since the clip began
    camera = (moved * agreement).sum((2, 3), keepdim=True) / agreement.sum().clamp_min(1.0)
    scene = still + torch.where(agreement > _SEEN, moved, camera)
    return Step(scene, motion, blend.keep * agreement)


@torch.no_grad()
def stabilise(
    last: State | None, photo: Tensor, painting: Tensor, *, blend: Blend | None = None, step: Step | None = None
) -> tuple[Tensor, State]:
    """Blend the last painting of a clip into the new one.

    Parameters
    ----------
    last
        State after the frame before; ``None`` for the first frame.
    photo, painting
        The new frame and what was painted from it, both ``(1, 3, H, W) float in [0, 1]``.
    blend
        See :class:`Blend`.
    step
        What :func:`follow` found for this frame, if the painting was made by it.

    Returns
    -------
    tuple
        The steady painting, and the state for the next frame.

    Raises
    ------
    InputError
        If photo and painting differ in size.
    """
    if photo.shape != painting.shape:
        raise InputError("the photo and its painting must have the same size")
    step = step or follow(last, photo, blend=blend)
    if last is None or step.motion is None or step.share is None:
        return painting, State(photo, painting, step.scene)
    steady = torch.lerp(painting, warp(last.painting, step.motion)[0], step.share).clamp(0, 1)
    return steady, State(photo, steady, step.scene)


def _motion(before: Tensor, after: Tensor, most_px: int) -> Tensor:
    """Estimate motion on frames of at most ``most_px``, in pixels of the frames given."""
    height, width = after.shape[-2:]
    scale = most_px / min(height, width)
    if scale >= 1:
        return flow(before, after)
    size = (round(height * scale), round(width * scale))
    small = [F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1) for x in (before, after)]
    field = F.interpolate(flow(small[0], small[1]), size=(height, width), mode="bilinear")
    return field * field.new_tensor([height / size[0], width / size[1]]).view(1, 2, 1, 1)


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
    moved = F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return moved, inside[None, None].to(picture.dtype)


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
        moved, inside = warp(before, motion)
        error = (after - moved) * inside
        trust = inside / (error.abs() + 0.02)  # what moves by itself counts less
        columns_of = [slope * form for slope in _slopes(moved) for form in forms]
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
    moved, inside = warp(before, motion)
    if float(inside.mean()) < 0.25:
        return float("inf")
    return float(((moved - after).abs() * inside).sum() / inside.sum()) + 1e-6 * float(motion.abs().mean())


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences (down, across)."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2, (
        padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    ) / 2


def _step(before: Tensor, after: Tensor, motion: Tensor) -> Tensor:
    """One Lucas-Kanade step for every pixel: ``(1, 2, H, W)``."""
    moved, inside = warp(before, motion)
    down, across = _slopes(moved)
    error = (after - moved) * inside
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
        moved, inside = warp(before, field)
        errors.append(box((moved - after).abs() * inside + (1 - inside), 4))
    better = box((errors[0] < 0.9 * errors[1] - 0.002).to(motion.dtype), 8)
    return torch.lerp(camera, motion, better)
