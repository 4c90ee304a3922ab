"""Small changes of a photo that move its painting as far as possible: one random, two by gradient, one by search.

All keep every channel of every pixel within ``epsilon`` (L-infinity) and in [0, 1], and end on whole 8-bit
levels, so that what is measured is a picture file. What counts is always the change of the true painting.

The draft is a nearest-neighbour look-up: its gradient is zero almost everywhere. PGD (Madry et al. 2018)
therefore takes its gradients from a stand-in (BPDA; Athalye et al. 2018): either with the strokes held
fixed, or straight through the look-up as if it returned the recolored photo. A gradient-free search in the
manner of the square attack (Andriushchenko et al. 2020) needs no stand-in: the painting reacts locally, so
every block of the photo is searched at the same time, and each keeps a proposal that moved its surroundings more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.head import Head
from shared_model.stylize import Options, stylize

__all__ = ["Target", "pgd", "random_signs", "search"]

BLOCK_PX = 32
_LEVELS = 255


@dataclass(frozen=True)
class Target:
    """What is attacked: a head and a backbone, painting with one seed that the attacker knows.

    Parameters
    ----------
    head, backbone, options
        As for :func:`shared_model.stylize.stylize`.
    """

    head: Head
    backbone: Backbone
    options: Options

    @torch.no_grad()
    def paint(self, photo: Tensor, scene: Tensor | None = None) -> Tensor:
        """Return the true painting of ``(1, 3, H, W) float in [0, 1]``, a frame of a ``scene`` if given."""
        return stylize(photo, head=self.head, backbone=self.backbone, options=self.options, scene=scene)

    def stand_in(self, photo: Tensor, *, through: bool) -> Tensor:
        """Return a painting that can be differentiated; its value is the true one up to rounding.

        Parameters
        ----------
        photo
            ``(1, 3, H, W)`` at canvas scale, both sides multiples of four.
        through
            Let the gradient pass the look-up as if it returned the recolored photo; otherwise the strokes are
            held fixed and only what the backbone does with the photo is differentiated. Strokes that the photo is
            laid in with pass it as if they were the recolored photo, too.
        """
        colored = self.head.colored(photo)
        draft = self.head.draft(photo.detach(), seed=self.options.seed, detail=self.options.detail)
        moved = colored - colored.detach()  # nothing, but for its gradient
        colored, painted = draft.colored + moved, draft.painted + (moved if through else 0)
        generator = torch.Generator().manual_seed(self.options.seed)
        noise = torch.randn(1, 1, *photo.shape[-2:], generator=generator)
        finished = self.backbone.paint(colored, painted, self.head.modulation[None], noise, self.head.change)
        return self.head.complete(torch.lerp(painted, finished, self.head.config.hand))


def random_signs(photo: Tensor, *, epsilon: int, generator: torch.Generator) -> Tensor:
    """Move every channel of every pixel by ``epsilon`` levels up or down at random."""
    signs = torch.randint(0, 2, photo.shape, generator=generator) * 2.0 - 1
    return (photo + signs * epsilon / _LEVELS).clamp(0, 1)


def pgd(
    photo: Tensor, target: Target, *, epsilon: int, steps: int, through: bool, generator: torch.Generator
) -> Tensor:
    """Projected gradient ascent on the mean absolute change of the painting, from a random start.

    Parameters
    ----------
    photo
        ``(1, 3, H, W)`` on whole 8-bit levels, at canvas scale, both sides multiples of four.
    epsilon
        Largest change of a channel, in levels of 255.
    steps
        Gradient steps, each of ``2.5 epsilon / steps`` (as in the paper's experiments).
    through
        See :meth:`Target.stand_in`.

    Returns
    -------
    Tensor
        The changed photo with the largest change of the true painting that was met on the way.
    """
    clean = target.paint(photo)
    bound, rate = epsilon / _LEVELS, 2.5 * epsilon / _LEVELS / max(1, steps)
    change = (torch.rand(photo.shape, generator=generator) * 2 - 1) * bound
    best, best_value = photo, 0.0
    for _ in range(steps):
        moved = (photo + change).clamp(0, 1).requires_grad_(True)
        loss = (target.stand_in(moved, through=through) - clean).abs().mean()
        (slope,) = torch.autograd.grad(loss, moved)
        change = ((moved.detach() - photo) + rate * slope.sign()).clamp(-bound, bound)
        candidate = _on_levels(photo, change, epsilon)
        value = float((target.paint(candidate) - clean).abs().mean())
        if value > best_value:
            best, best_value = candidate, value
    return best


def search(
    photo: Tensor,
    paint: Callable[[Tensor], Tensor],
    *,
    epsilon: int,
    trials: int,
    generator: torch.Generator,
    block_px: int = BLOCK_PX,
) -> Tensor:
    """Search without gradients, all blocks of the photo at once.

    A trial gives half of the blocks (at random) a new pattern of plus and minus ``epsilon``: stripes, squares,
    noise or all one way, with cells of 1, 2 or 4 pixels. A block keeps it if the painting now differs more from
    the clean one in that block and a margin around it. Neighbours disturb each other's verdicts a little, so
    the whole is checked in the end.

    Returns
    -------
    Tensor
        The changed photo with the largest total change that was met.
    """
    clean = paint(photo)
    rows, columns = (-(-size // block_px) for size in photo.shape[-2:])
    change = _patterns(photo.shape, rows, columns, block_px, generator) * epsilon / _LEVELS
    reached = _local(paint(_on_levels(photo, change, epsilon)) - clean, block_px)
    best, best_value = _on_levels(photo, change, epsilon), float(reached.mean())
    for _ in range(trials):
        tried = torch.rand(1, 1, rows, columns, generator=generator) < 0.5
        mask = _spread(tried.float(), photo, block_px) > 0.5
        pattern = _patterns(photo.shape, rows, columns, block_px, generator) * epsilon / _LEVELS
        candidate = torch.where(mask, pattern, change)
        difference = paint(_on_levels(photo, candidate, epsilon)) - clean
        value = float(difference.abs().mean())
        if value > best_value:
            best, best_value = _on_levels(photo, candidate, epsilon), value
        local = _local(difference, block_px)
        better = tried & (local > reached)
        change = torch.where(_spread(better.float(), photo, block_px) > 0.5, pattern, change)
        reached = torch.where(better, local, reached)
    last = _on_levels(photo, change, epsilon)
    return last if float((paint(last) - clean).abs().mean()) > best_value else best


def _on_levels(photo: Tensor, change: Tensor, epsilon: int) -> Tensor:
    """Return the photo with a change rounded to whole levels within the bound."""
    steps = (change * _LEVELS).round().clamp(-epsilon, epsilon)
    return ((photo * _LEVELS).round() + steps).clamp(0, _LEVELS) / _LEVELS


def _patterns(shape: torch.Size, rows: int, columns: int, block_px: int, generator: torch.Generator) -> Tensor:
    """Signs ``(1, 3, H, W)``: every block has one kind of pattern, and a sign of its own for every channel."""
    height, width = rows * block_px, columns * block_px
    cell = 1 << int(torch.randint(0, 3, (1,), generator=generator))  # 1, 2 or 4 px
    down = (torch.arange(height) // cell % 2 * 2.0 - 1)[:, None].expand(height, width)
    across = (torch.arange(width) // cell % 2 * 2.0 - 1)[None].expand(height, width)
    small = torch.randint(0, 2, (-(-height // cell), -(-width // cell)), generator=generator) * 2.0 - 1
    noise = small.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:height, :width]
    kinds = torch.stack([noise, across, down, across * down, torch.ones_like(noise)])  # the last: all one way
    chosen = torch.randint(0, len(kinds), (1, 1, rows, columns), generator=generator)
    signs = torch.randint(0, 2, (1, 3, rows, columns), generator=generator) * 2.0 - 1
    index = F.interpolate(chosen.float(), scale_factor=block_px, mode="nearest").long()[0]
    pattern = torch.gather(kinds, 0, index)[None] * F.interpolate(signs, scale_factor=block_px, mode="nearest")
    return pattern[:, :, : shape[2], : shape[3]]


def _spread(blocks: Tensor, photo: Tensor, block_px: int) -> Tensor:
    """Blocks ``(1, 1, rows, columns)`` to pixels."""
    return F.interpolate(blocks, scale_factor=block_px, mode="nearest")[:, :, : photo.shape[2], : photo.shape[3]]


def _local(difference: Tensor, block_px: int) -> Tensor:
    """Mean absolute difference around every block: ``(1, 1, rows, columns)``."""
    size = difference.abs().mean(1, keepdim=True)
    padded = F.pad(size, (0, -size.shape[3] % block_px, 0, -size.shape[2] % block_px))
    blocks = F.avg_pool2d(padded, block_px)
    return F.avg_pool2d(blocks, 3, stride=1, padding=1, count_include_pad=False) + blocks
