"""The few PyTorch functions that ONNX cannot express, as equal ones that it can.

The originals in :mod:`shared_model` are exported as they are; while :class:`Lowering` is entered, these
take the place of what does not export, and :class:`Patches` and :class:`Marks` that of the two parts of
a head that loop over chunks or read a number out of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from shared_model.color import ColorStats
from shared_model.dictionary import Dictionary, hop_of
from shared_model.surface import Surface

__all__ = ["Lowering", "Marks", "Palette", "Patches", "as_tensor", "eigh3", "fold", "searchsorted"]

_SWEEPS = 5  # of Jacobi's method; three are enough for a 3 x 3 matrix in float32


def eigh3(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues ``(3,)``, in no order, and eigenvectors in columns (Jacobi 1846).

    Parameters
    ----------
    matrix
        ``(3, 3)``, symmetric.
    """
    vectors = one = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    for _ in range(_SWEEPS):
        for p, q in ((0, 1), (0, 2), (1, 2)):
            plane, turn = one[p].outer(one[p]) + one[q].outer(one[q]), one[p].outer(one[q]) - one[q].outer(one[p])
            off, apart = matrix[p, q], matrix[q, q] - matrix[p, p]
            sign = torch.where(apart < 0, -1.0, 1.0)
            tangent = 2 * off * sign / (apart.abs() + (apart.square() + 4 * off.square()).sqrt() + 1e-30)
            cosine = (1 + tangent.square()).rsqrt()
            rotation = one + (cosine - 1) * plane + cosine * tangent * turn
            matrix = rotation.T @ matrix @ rotation
            vectors = vectors @ rotation
    return matrix.diagonal(), vectors


def searchsorted(ordered: Tensor, values: Tensor) -> Tensor:
    """Count, row by row, what lies below each value: ``(C, Q)`` and ``(C, n)`` to ``(C, n) int64``."""
    return (ordered[:, None, :] < values[:, :, None]).to(torch.int64).sum(2)


def fold(
    columns: Tensor, size: tuple[int, int], kernel: int, *, stride: int, dilation: int = 1, padding: int = 0
) -> Tensor:
    """Add up overlapping tiles: ``torch.nn.functional.fold`` for square tiles, without padding.

    Parameters
    ----------
    columns
        ``(1, C kernel kernel, rows columns)``.
    size
        Of the result: ``(count - 1) * stride + kernel`` both ways.
    """
    if (dilation, padding) != (1, 0):
        raise NotImplementedError("tiles with holes or a border")
    rows, across = ((length - kernel) // stride + 1 for length in size)
    steps = -(-kernel // stride)
    room = steps * stride - kernel
    tiles = columns.view(-1, kernel, kernel, rows, across)
    tiles = F.pad(tiles, (0, 0, 0, 0, 0, room, 0, room))
    tiles = tiles.view(-1, steps, stride, steps, stride, rows, across)
    total = None
    for y in range(steps):
        for x in range(steps):
            part = tiles[:, y, :, x].permute(0, 3, 1, 4, 2).reshape(-1, rows * stride, across * stride)
            right, below = (steps - 1 - x) * stride, (steps - 1 - y) * stride
            part = F.pad(part, (x * stride, right, y * stride, below))
            total = part if total is None else total + part
    assert total is not None
    return total[None, :, : size[0], : size[1]]


def _whole(x: Tensor, size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Do not split: chunks only save memory."""
    return (x,)


def _clamp(x: Tensor, min: float | None = None, max: Any = None) -> Tensor:
    """With bounds of one kind (a whole number beside a fraction does not export), the upper one of any size."""
    if isinstance(max, torch.SymInt):
        return torch.minimum(x if min is None else _clamp(x, min), as_tensor(max, x).to(x.dtype))
    if not x.is_floating_point():
        return torch.clamp(x, min, max)
    return torch.clamp(x, None if min is None else float(min), None if max is None else float(max))


def _getitem(x: Tensor, key: Any) -> Tensor:
    """Take columns in steps that depend on the size by their places."""
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], slice) and isinstance(key[1].step, torch.SymInt):
        step: Any = key[1].step
        return x[key[0]].index_select(1, torch.arange(0, x.shape[1], step, device=x.device))
    return x[key]


def _repeat_interleave(x: Tensor, times: Any) -> Tensor:
    """Repeat each of ``(n,)``; the exporter's own translation fails for a number that depends on the size."""
    return x[:, None].expand(x.shape[0], times).flatten()


def _repeat(x: Tensor, times: Any) -> Tensor:
    """Repeat all of ``(n,)``."""
    return x[None].expand(times, x.shape[0]).flatten() if x.dim() == 1 else x.repeat(times)


def _remainder(x: Tensor, period: Any) -> Tensor:
    """Divide by a number that depends on the size as by a tensor: as a plain number it does not export."""
    return torch.remainder(x, as_tensor(period, x) if isinstance(period, torch.SymInt) else period)


def as_tensor(number: Any, like: Tensor) -> Tensor:
    """Make a tensor of a positive number that depends on the size, without fixing it."""
    return torch.arange(number + 1, device=like.device).amax(0)


def _lerp(start: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Mix as one line; the exporter's own translation computes two and chooses."""
    mixed: Tensor = start + weight * (end - start)
    return mixed


def _diag(x: Tensor) -> Tensor:
    return x * torch.eye(len(x), dtype=x.dtype, device=x.device)


_LOWERED: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.linalg.eigh: eigh3,
    torch.searchsorted: searchsorted,
    torch.diag: _diag,
    torch.lerp: _lerp,
    Tensor.clamp: _clamp,
    Tensor.__getitem__: _getitem,
    Tensor.remainder: _remainder,
    Tensor.repeat: _repeat,
    Tensor.repeat_interleave: _repeat_interleave,
    Tensor.split: _whole,
}


class Lowering(TorchFunctionMode):
    """While entered, what ONNX cannot express is computed in ways that it can."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take the place of the functions above and leave all others as they are."""
        return _LOWERED.get(func, func)(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Patches(Dictionary):
    """A dictionary that looks its windows and tiles up row by row, and compares everything at once."""

    def project(self, picture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Like the original."""
        k, height, width = self.side, picture.shape[2], picture.shape[3]
        channel, down, across = (torch.arange(count, device=picture.device) for count in (3, k, k))
        around = channel[:, None, None] * (height * width) + down[:, None] * width + across
        places = (rows * width + columns)[:, None] + around.flatten()
        windows = picture.flatten().index_select(0, places.flatten()).view(-1, 3 * k * k)
        return windows @ self.basis - self.center @ self.basis

    def _tiles(self, which: Tensor, *, stride: int, crisp: bool) -> Tensor:
        """Like the original, from a table with a row per tile: slices that are assigned are slow in ONNX."""
        weighted, last, places = self._weighted(crisp=crisp), stride - 1, range(0, stride, hop_of(stride))
        shifted = [F.pad(weighted, (x, last - x, y, last - y)) for y in places for x in places]
        return torch.cat(shifted).flatten(1).index_select(0, which).T

    def nearest(self, queries: Tensor) -> Tensor:
        """Like the original."""
        lengths = self.keys.square().sum(1)
        scores = (queries @ (-2 * self.keys).T + lengths + queries.square().sum(1, keepdim=True)) * self.price
        return scores.argmin(1)


@dataclass(frozen=True)
class Marks(Surface):
    """A surface that knows its bands' deviations, and how its strokes vary, as plain numbers."""

    deviations: tuple[float, ...] = ()
    varied: float = 0.0
    hues: float | None = None

    @staticmethod
    def known(surface: Surface) -> tuple[tuple[float, ...], float, float | None]:
        """Return these numbers of a surface."""
        deviations = tuple(surface.deviation(band) for band in range(len(surface.values)))
        return deviations, surface.variety(), surface.mottled()

    def deviation(self, band: int) -> float:
        """Like the original."""
        return self.deviations[band]

    def variety(self) -> float:
        """Like the original."""
        return self.varied

    def mottled(self) -> float | None:
        """Like the original."""
        return self.hues


@dataclass(frozen=True)
class Palette(ColorStats):
    """Colors that know their share of ink, how gray and colorful they are, and how hues vary, as plain numbers."""

    ink: float = 0.0
    gray: float = 0.0
    hues: float = 0.0
    mottles: Tensor = field(default_factory=lambda: torch.zeros(3, 3))

    def ink_share(self) -> float:
        """Like the original."""
        return self.ink

    def grayness(self) -> float:
        """Like the original."""
        return self.gray

    def colorfulness(self) -> float:
        """Like the original."""
        return self.hues

    def mottling(self, *, own: bool = True) -> Tensor:
        """Like the original, for the one ``own`` that was asked for when they were read."""
        return self.mottles
