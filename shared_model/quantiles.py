"""Quantiles of samples, and monotone curves that move one distribution onto another.

One-dimensional optimal transport, the tool of :mod:`shared_model.color` and
:mod:`shared_model.surface`: the curve that moves quantiles onto quantiles is the cheapest map there is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Curve", "curve", "follow", "quantiles", "sample", "soften"]

#: Smallest input ``(C, 1)``, inputs per step ``(C, 1)``, and values at evenly spaced nodes ``(C, nodes)``.
Curve = tuple[Tensor, Tensor, Tensor]

_BINS = 1024
_SAMPLES = 1 << 13


def sample(rows: Tensor) -> Tensor:
    """Return at most about 8000 evenly spaced columns of ``(C, n)``, in odd steps that match no grid of patches."""
    return rows[:, :: rows.shape[1] // _SAMPLES // 2 * 2 + 1]


def quantiles(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` quantiles from smallest to largest of every row: ``(C, n)`` to ``(C, count)``."""
    ordered = rows.sort(1).values
    place = torch.linspace(0, rows.shape[1] - 1, count, device=rows.device)
    low = place.floor().long()
    high = (low + 1).clamp(max=rows.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], place - low)


def curve(own: Tensor, wanted: Tensor) -> Curve:
    """Return the piecewise linear, monotone curve that moves quantiles ``own`` onto ``wanted``, both ``(C, Q)``."""
    low = own[:, :1]
    width = (own[:, -1:] - low).clamp_min(1e-8)
    nodes = low + width * torch.linspace(0, 1, _BINS + 1, device=own.device)
    steady = own + width * 1e-6 * torch.arange(own.shape[1], device=own.device)  # strictly rising
    right = torch.searchsorted(steady, nodes).clamp(1, own.shape[1] - 1)
    x0, x1 = steady.gather(1, right - 1), steady.gather(1, right)
    y0, y1 = wanted.gather(1, right - 1), wanted.gather(1, right)
    return low, width / _BINS, torch.lerp(y0, y1, ((nodes - x0) / (x1 - x0).clamp_min(1e-12)).clamp(0, 1))


def soften(along: Curve, share: float) -> Curve:
    """Average a curve over a ``share`` of its inputs: still monotone, and nowhere steeper than twice ``1 / share``.

    Where many values are alike, the curve onto other quantiles is a step, and whatever noise lies
    around those values would be torn apart by it.
    """
    low, step, nodes = along
    reach = max(1, round(0.5 * share * _BINS))
    # Beyond its ends a curve goes on as its own mirror image turned over: a straight line stays what it is.
    before = 2 * nodes[:, :1] - nodes[:, 1 : reach + 1].flip(1)
    after = 2 * nodes[:, -1:] - nodes[:, -reach - 1 : -1].flip(1)
    padded = torch.cat([before, nodes, after], 1)
    return low, step, F.avg_pool1d(padded[None], 2 * reach + 1, 1)[0]


def follow(rows: Tensor, along: Curve) -> Tensor:
    """Move every value of ``(C, n)`` along its row's :func:`curve`; values outside end where the curve ends."""
    low, step, nodes = along
    bins = nodes.shape[1] - 1
    place = ((rows - low) / step).clamp(0, bins - 1e-3)
    cell = place.long().clamp(0, bins - 1)  # NaN has no cell: it stays NaN instead of leading out of the table
    return torch.lerp(nodes.gather(1, cell), nodes.gather(1, cell + 1), place - cell)
