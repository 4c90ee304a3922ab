"""Random numbers that every runtime draws alike: a hash of seed, draw and place, in whole numbers.

PyTorch's generators cannot be part of an exported graph. :class:`Draws` therefore takes the place of
``torch.randn`` and ``torch.randint`` while it is entered, so that the originals in :mod:`shared_model`
paint with numbers that a graph can make for any size. The strokes are others than those of
``easel stylize`` with the same seed, as if another seed had been chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Draws", "hashed", "normal"]

_MASK = 0xFFFFFFFF
_SPREAD, _FIRST, _SECOND = 0x9E3779B1, 0x7FEB352D, 0x31848BAB  # Fibonacci hashing; "lowbias32" (Wellons 2018)


def hashed(places: Tensor, stream: int, seed: Tensor) -> Tensor:
    """Mix whole numbers into evenly spread ones.

    Parameters
    ----------
    places
        ``int64``, any shape: which number of the draw.
    stream
        Which draw.
    seed
        ``() int64``.

    Returns
    -------
    Tensor
        ``int64`` in 0 .. 2**32 - 1, the shape of ``places``.
    """
    x = places + _mix((seed * _SPREAD + stream * 2 + 1) & _MASK)
    return _mix(x & _MASK)


def _mix(x: Tensor) -> Tensor:
    x = ((x ^ (x // 65536)) * _FIRST) & _MASK
    x = ((x ^ (x // 32768)) * _SECOND) & _MASK
    return x ^ (x // 65536)


def normal(count: int, stream: int, seed: Tensor) -> Tensor:
    """Return ``(count,) float32``, standard normal (Box & Muller 1958)."""
    bits = hashed(torch.arange(2 * count, device=seed.device), stream, seed).view(2, count)
    even = (bits // 256).to(torch.float32)  # 24 bits, exact in float32
    radius = (-2 * ((even[0] + 1) * 2.0**-24).log()).sqrt()
    return radius * (even[1] * (2 * math.pi * 2.0**-24)).cos()


class Draws(TorchFunctionMode):
    """While entered, ``torch.randn`` and ``torch.randint`` draw from :func:`hashed`.

    Parameters
    ----------
    seed
        ``() int64``; an input of the graph while one is exported.
    """

    def __init__(self, seed: Tensor) -> None:
        super().__init__()
        self._seed = seed
        self._stream = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take the place of the two functions and leave all others as they are."""
        if func is torch.randn:
            self._stream += 1
            return normal(math.prod(args), self._stream, self._seed).view(*args)
        if func is torch.randint:
            self._stream += 1
            low, high, shape = args
            places = torch.arange(math.prod(shape), device=self._seed.device)
            return low + (hashed(places, self._stream, self._seed) // 256).remainder(high - low).view(*shape)
        return func(*args, **(kwargs or {}))
