"""Steady strokes in a clip: they belong to the scene, and the last painting is blended into the new one.

Painted one by one, the frames of a clip swim: strokes are chosen for each anew on a grid that is fixed to the frame.
Here the motion between two *photos* is estimated (:mod:`shared_model.motion`) and

- each frame is moved by less than a pixel, so that it lies on whole pixels of the *scene* (:func:`view`), and painted
  with the numbers that belong to its place there (:mod:`shared_model.scene`);
- the last painting is carried along the motion, and where the carried photo agrees with the new one most of the new
  painting is taken from the carried one (:func:`stabilise`; Lai et al. 2018 learn such a blend; here it is closed
  form, three numbers and no training). Where the camera only moves along, that is a whole number of pixels, so that
  nothing is resampled again and again. Where the photos disagree (uncovered ground, cuts, fast change) the new
  painting stands as it is;
- what is shown is moved back by that part of a pixel (:func:`shown`).

Guarantees: the first frame, and every frame after a cut, is the painting of that frame at the scene's origin. A state
holds one photo, one painting and where they lie, and nothing else. All is deterministic.

Limits: motion larger than about a quarter of the frame, transparency and flicker of the light are taken for
a cut or for disagreement, so they flicker as when painted one by one; the scene follows a camera that moves along,
not one that zooms or turns: there strokes swim and are carried as before, resampled once a frame, which softens them
(docs/model.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.errors import InputError
from shared_model.motion import flow, moved, warp
from shared_model.pyramid import box
from shared_model.scene import Origin

__all__ = ["Blend", "State", "View", "shown", "stabilise", "view"]

_EXACT = 0.02  # pixels by which a motion may miss a whole number and still be taken for it
_LINES, _BAND = 300, 0.45  # moving between pixels, this much is shown: as of so many lines, or this share if it is more
_PACE = 0.3  # how fast that comes and goes


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
        Of the last frame, on whole pixels of the scene: ``(1, 3, H, W)`` each.
    origin
        Where in the scene they lie.
    softness
        How much softer frames are shown, 0 to 1.
    """

    photo: Tensor
    painting: Tensor
    origin: Origin = (0, 0)
    softness: float = 0.0


@dataclass(frozen=True)
class View:
    """A frame on whole pixels of the scene, and what of the last painting it can keep.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]``: to be painted at ``origin``.
    origin
        Where in the scene its top left corner lies.
    rest
        By how much (down, across, at most half a pixel) the frame lies further than ``origin``.
    motion
        ``(1, 2, H, W)`` from the last photo, as :func:`shared_model.motion.warp` takes it; ``None`` after a cut.
    share
        ``(1, 1, H, W)``: how much of the last painting is kept where.
    """

    photo: Tensor
    origin: Origin = (0, 0)
    rest: tuple[float, float] = (0.0, 0.0)
    motion: Tensor | None = field(default=None, repr=False)
    share: Tensor | None = field(default=None, repr=False)


@torch.no_grad()
def view(last: State | None, frame: Tensor, *, blend: Blend | None = None) -> View:
    """Find where in the scene a frame lies.

    Parameters
    ----------
    last
        State after the frame before; ``None`` for the first frame.
    frame
        ``(1, 3, H, W) float in [0, 1]``.
    blend
        See :class:`Blend`.

    Returns
    -------
    View
        At the origin of a new scene if there is no last frame, it has another size, or shows something else.
    """
    blend = blend or Blend()
    if last is None or last.photo.shape != frame.shape:
        return View(frame)
    motion = _motion(last.photo, frame, blend.motion_px)
    way = [float(part.median()) for part in motion[0]]  # of most of the frame: the camera's
    whole = [round(part) for part in way]
    down, across = (0.0 if abs(part - near) < _EXACT else part - near for part, near in zip(way, whole, strict=True))
    photo = moved(frame, (-down, -across))
    motion = motion - motion.new_tensor([down, across]).view(1, 2, 1, 1)
    exact = motion.new_tensor(whole).view(1, 2, 1, 1)
    motion = torch.where((motion - exact).abs().amax(1, keepdim=True) < _EXACT, exact, motion)
    carried, inside = warp(last.photo, motion)
    difference = box((carried - photo).abs().mean(1, keepdim=True), 2)
    if float((difference * inside).sum() / inside.sum().clamp_min(1.0)) > blend.cut or float(inside.mean()) < 0.25:
        return View(frame)
    share = blend.keep * torch.exp(-((difference / blend.tolerance) ** 2)) * inside
    origin = (last.origin[0] + whole[0], last.origin[1] + whole[1])
    return View(photo, origin, (down, across), motion, share)


@torch.no_grad()
def stabilise(last: State | None, seen: View, painting: Tensor) -> State:
    """Blend the last painting of a clip into the new one.

    Parameters
    ----------
    last
        The state that ``seen`` was made with.
    seen
        The new frame.
    painting
        What was painted from ``seen.photo``, of the same size.

    Returns
    -------
    State
        For the next frame; :func:`shown` makes the frame to be seen of it.

    Raises
    ------
    InputError
        If photo and painting differ in size.
    """
    if seen.photo.shape != painting.shape:
        raise InputError("the photo and its painting must have the same size")
    if last is not None and seen.motion is not None and seen.share is not None:
        painting = torch.lerp(painting, warp(last.painting, seen.motion)[0], seen.share).clamp(0, 1)
    before = 0.0 if last is None or seen.motion is None else last.softness
    return State(seen.photo, painting, seen.origin, before + _PACE * (float(any(seen.rest)) - before))


def shown(seen: View, state: State) -> Tensor:
    """Return the painting as the frame shows it: ``(1, 3, H, W) float in [0, 1]``.

    Strokes as fine as pixels look different on every part of a pixel: they would flicker as they move, and more so
    once they are coded. So they are shown a little softer while the camera moves between pixels.
    """
    band = min(1.0, max(_BAND, _LINES / min(state.painting.shape[-2:])))
    return moved(state.painting, seen.rest, band=1 - state.softness * (1 - band))


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
