"""The largest numbers of an update and where they stand, in bytes whose count says nothing about them.

How many numbers are kept follows from the public share and the length of the update alone, and so does the
length of what is sent: whoever sees sizes of messages learns nothing. Positions of k numbers among P are
written as a bitmap (P bits) or after Elias and Fano (1974): the lowest l bits of each position as they are,
the others as the bits of a unary code, k * (l + 1) + P / 2^l bits in all, whichever is shorter. That is
within a bit a number of the best that any code can do.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_model.errors import CompatibilityError

__all__ = ["Positions", "kept", "largest", "pack_positions", "positions_nbytes", "unpack_positions"]

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]


def kept(size: int, *, share: float) -> int:
    """Return how many of ``size`` numbers are kept: ``ceil(share * size)``, at least 1 and at most all of them."""
    return max(1, min(size, math.ceil(share * size)))


def largest(vector: Tensor, *, share: float) -> Tensor:
    """Return where the :func:`kept` largest magnitudes of a vector (P,) stand, ascending, int64."""
    return torch.topk(vector.abs(), kept(len(vector), share=share)).indices.sort().values


def positions_nbytes(size: int, *, count: int) -> int:
    """Return how many bytes ``count`` positions below ``size`` take; 0 where all are taken."""
    return 0 if count == size else -(-min(size, _coded_bits(size, count)) // 8)


def pack_positions(positions: Positions, *, size: int) -> Bytes:
    """Write positions as :func:`positions_nbytes` bytes.

    Parameters
    ----------
    positions
        Whole numbers from 0 to below ``size``, each larger than the one before it; at least one.
    size
        Length P of the update.
    """
    count = len(positions)
    if count == size:
        return np.zeros(0, np.uint8)
    if size <= _coded_bits(size, count):
        bits = np.zeros(size, np.uint8)
        bits[positions] = 1
        return np.packbits(bits)
    low = _low_bits(size, count)
    bits = np.zeros(_coded_bits(size, count), np.uint8)
    lowest = (positions[:, None] >> np.arange(low)) & 1
    bits[: count * low] = lowest.reshape(-1)
    bits[count * low + (positions >> low) + np.arange(count)] = 1
    return np.packbits(bits)


def unpack_positions(data: Bytes, *, size: int, count: int) -> Positions:
    """Read what :func:`pack_positions` wrote, from bytes that are not trusted.

    Guarantees
    ----------
    Exactly ``count`` positions, each below ``size`` and larger than the one before it, and written in the only
    way in which :func:`pack_positions` writes them. Memory is some bytes a number of the update, whatever came.

    Raises
    ------
    CompatibilityError
        For anything else.
    """
    if len(data) != positions_nbytes(size, count=count):
        raise CompatibilityError(f"{len(data)} bytes are not {count} positions of {size}")
    if count == size:
        return np.arange(size)
    coded = _coded_bits(size, count)
    bits = np.unpackbits(data)
    used = min(size, coded)
    low = 0 if size <= coded else _low_bits(size, count)
    marks = np.flatnonzero(bits[count * low : used])
    if bits[used:].any() or len(marks) != count:
        raise CompatibilityError(f"the bytes do not hold {count} positions")
    if size <= coded:
        return marks
    lowest = bits[: count * low].reshape(count, low).astype(np.int64) @ (1 << np.arange(low))
    positions: Positions = (marks - np.arange(count) << low) + lowest
    if positions[-1] >= size or (np.diff(positions) <= 0).any():
        raise CompatibilityError(f"the positions do not rise, or leave the {size} that there are")
    return positions


def _low_bits(size: int, count: int) -> int:
    """Return how many bits of each position are written as they are."""
    return (size // count).bit_length() - 1


def _coded_bits(size: int, count: int) -> int:
    """Return the length of the code of Elias and Fano."""
    low = _low_bits(size, count)
    return count * (low + 1) + ((size - 1) >> low)
