"""Photo in, painting out: pure, seeded, any size and aspect.

Painting happens on a canvas of about 512 px, the scale that heads and backbone know, so strokes keep
their size in the picture and time grows slowly with the pixels. What a larger photo has above that scale
is added and becomes dabs of paint (:mod:`shared_model.dabs`), unless the photo's own detail is asked for.
Nothing of it belongs into what is hatched, filled evenly or washed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.color import mapping
from shared_model.dabs import course, dabs, drawn, emphatic, fading, margin, share
from shared_model.errors import CompatibilityError, InputError
from shared_model.generator import MULTIPLE
from shared_model.head import Head
from shared_model.own_hand import check_change
from shared_model.pyramid import lattice, luminance, resize_like
from shared_model.weights import backbone_id

__all__ = ["MAX_SIDE", "ROWS", "Options", "Watch", "canvas_size", "check_match", "stylize"]

MAX_SIDE = 16384  # pixels of the longer side of an output
ROWS = 128  # of a large photo, finished at once
#: Is told the share in [0, 1] that is done; may raise to end the work.
Watch = Callable[[float], None]
_LONGEST = 4  # a canvas is at most this many times as long as it is short


def _unwatched(share: float) -> None:
    """Nobody waits for news."""


@dataclass(frozen=True)
class Options:
    """How to paint.

    Parameters
    ----------
    strength
        0 leaves the photo, 1 paints in full.
    keep_color
        Keep the photo's own colors and paint only light and strokes.
    detail
        How much of the photo's fine structure shows through: 0 to 1.
    size_px
        Short side of the output in pixels; ``None`` keeps the photo's size.
    seed
        Fixes the strokes, 0 to 2**31 - 1.
    """

    strength: float = 1.0
    keep_color: bool = False
    detail: float = 0.5
    size_px: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("strength", "detail"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} must be between 0 and 1, not {value:g}")
        if self.size_px is not None and not 16 <= self.size_px <= MAX_SIDE:
            raise InputError(f"size must be between 16 and {MAX_SIDE} pixels, not {self.size_px}")
        if not 0 <= self.seed < 1 << 31:
            raise InputError(f"seed must be between 0 and {(1 << 31) - 1}, not {self.seed}")


def check_match(head: Head, backbone: Backbone) -> None:
    """Refuse a head that was made for another backbone.

    Raises
    ------
    CompatibilityError
        If the head's modulation numbers belong to other weights.
    """
    if head.backbone != backbone_id(backbone):
        raise CompatibilityError(
            f"head {head.name or 'without a name'!r} was made for another backbone version",
            hint="fit it again: `easel personalize NAME IMAGES --overwrite`",
        )
    if head.change is not None:
        check_change(backbone.generator, head.change)


@torch.no_grad()
def stylize(
    photo: Tensor,
    *,
    head: Head,
    backbone: Backbone,
    options: Options | None = None,
    scene: Tensor | None = None,
    rows: int = ROWS,
    watch: Watch = _unwatched,
) -> Tensor:
    """Paint a photo with an owner's taste and the shared hand.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]``.
    head
        The owner's taste, on the same device as ``photo`` and ``backbone``.
    backbone
        The hand.
    options
        How to paint.
    scene
        ``(1, 2, H, W)``: where in a scene the photo's pixels lie, for frames of a clip; see
        :class:`shared_model.temporal.Step`.
    rows
        How many rows of a large photo are finished at once, at least 1. Fewer need less memory; the painting is
        the same but for rounding (below 1e-5).
    watch
        Called between two steps with the share that is done; an error that it raises ends the painting.

    Returns
    -------
    Tensor
        ``(1, 3, H', W') float in [0, 1]``; the same size as the photo unless ``size_px`` says otherwise.

    Raises
    ------
    CompatibilityError
        If head and backbone do not belong together.
    """
    options = options or Options()
    check_match(head, backbone)
    size = _output_size(photo, options.size_px)
    canvas = _resize(photo, canvas_size(photo, head.config.canvas_px))
    painted = _paint(canvas, head, backbone, options, scene=scene, watch=watch)
    target = _resize(photo, size)
    if size[0] * size[1] <= painted.shape[2] * painted.shape[3]:
        return _mixed(_resize(painted, size), target, options)
    return _enlarge(painted, canvas, target, head, options, rows=rows, watch=watch)


def _mixed(painted: Tensor, photo: Tensor, options: Options) -> Tensor:
    """Keep as much of the photo as the options ask for; in [0, 1]."""
    if options.keep_color:
        painted = photo + (luminance(painted) - luminance(photo))
    if options.strength < 1:
        painted = torch.lerp(photo, painted, options.strength)
    return painted.clamp(0, 1)


def _paint(
    canvas: Tensor,
    head: Head,
    backbone: Backbone,
    options: Options,
    *,
    scene: Tensor | None = None,
    watch: Watch = _unwatched,
) -> Tensor:
    """Draft and finish at canvas scale."""
    height, width = canvas.shape[-2:]
    border = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    padded = F.pad(canvas, border, mode="replicate")
    places = None
    if scene is not None:
        moved = F.interpolate(scene - lattice(scene), size=(height, width), mode="bilinear") * (width / scene.shape[-1])
        moved = F.avg_pool2d(F.pad(moved, border, mode="replicate"), 2) / 2
        places = lattice(moved) + moved
    watch(0.0)
    draft = head.draft(padded, seed=options.seed, detail=options.detail, places=places)
    watch(0.3)
    generator = torch.Generator().manual_seed(options.seed)
    noise = torch.randn(1, 1, *padded.shape[-2:], generator=generator).to(canvas.device)
    painted = backbone.paint(draft.colored, draft.painted, head.modulation[None], noise, head.change)
    watch(0.5)
    painted = torch.lerp(draft.painted, painted, head.config.hand)
    return head.complete(painted[:, :, :height, :width])


def _enlarge(
    painted: Tensor,
    canvas: Tensor,
    photo: Tensor,
    head: Head,
    options: Options,
    *,
    rows: int,
    watch: Watch = _unwatched,
) -> Tensor:
    """Bring a painting to the size of ``photo``; what the photo has above canvas scale is added, if any is to be.

    Row by row, so that a large photo needs little more memory than itself and the result.
    """
    recolor = mapping(canvas, head.color)
    plain = head.config.graphic
    height, width = photo.shape[-2:]
    scale = height / canvas.shape[2]
    amount = fading(scale) * share(head.config, detail=options.detail)
    around = margin(scale) if amount > 0 else 0
    # what painting did, smooth enough to be enlarged; even lines and areas would have halos if they were emphatic
    change = painted if plain else emphatic(painted, amount) - recolor(canvas)
    across = _bicubic(change, (change.shape[2], width))
    down = _bicubic(torch.eye(change.shape[2], device=photo.device)[None, None], (height, change.shape[2]))[0, 0]
    ways = None
    if amount > 0:
        kept = torch.zeros_like(painted[:, :1]) if plain else drawn(photo, canvas)
        ways = _Rows(resize_like(torch.cat([course(painted), kept], 1), across), height)
    result = torch.empty_like(photo)
    for start in range(0, height, rows):
        watch(0.6 + 0.4 * start / height)
        stop = min(start + rows, height)
        seen = slice(max(start - around, 0), min(stop + around, height))
        used = down[seen].abs().sum(0).nonzero()
        first, last = int(used.min()), int(used.max()) + 1
        enlarged = torch.einsum("rh,nchw->ncrw", down[seen, first:last], across[:, :, first:last])
        part = photo[:, :, seen]
        enlarged = enlarged if plain else recolor(part) + enlarged
        if ways is not None:
            way, kept = ways.at(seen).split([2, 1], 1)
            enlarged = torch.lerp(enlarged, dabs(enlarged, way, scale), amount * (1 - kept))
        band = slice(start - seen.start, stop - seen.start)
        result[:, :, start:stop] = _mixed(enlarged[:, :, band], part[:, :, band], options)
    return result


class _Rows:
    """A picture ``(1, C, h, W)`` enlarged to ``height`` rows, some at a time, each the same whichever are asked for."""

    def __init__(self, picture: Tensor, height: int) -> None:
        self._picture = picture
        place = (torch.arange(height, device=picture.device) + 0.5) * (picture.shape[2] / height) - 0.5
        self._place = place.clamp(0, picture.shape[2] - 1)

    def at(self, rows: slice) -> Tensor:
        """Return these rows, each a mixture of the two nearest."""
        place = self._place[rows]
        above = place.floor()
        below = (above + 1).clamp(max=self._picture.shape[2] - 1)
        first, second = (self._picture.index_select(2, row.long()) for row in (above, below))
        return torch.lerp(first, second, (place - above)[:, None])


def _output_size(photo: Tensor, size_px: int | None) -> tuple[int, int]:
    height, width = photo.shape[-2:]
    if size_px is not None:
        scale = size_px / min(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
    if max(height, width) > MAX_SIDE:
        raise InputError(f"an output of {width}x{height} pixels is too large", hint="choose a smaller --size")
    return height, width


def canvas_size(photo: Tensor, canvas_px: int) -> tuple[int, int]:
    """Short side ``canvas_px``, unless the photo is so long that the canvas would be unreasonable."""
    height, width = photo.shape[-2:]
    scale = min(canvas_px / min(height, width), _LONGEST * canvas_px / max(height, width))
    return max(MULTIPLE, round(height * scale)), max(MULTIPLE, round(width * scale))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    return _bicubic(x, size).clamp(0, 1)


def _bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
