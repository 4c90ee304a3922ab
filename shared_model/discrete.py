"""Gaussian noise in whole numbers: a lattice, and an exact sampler of the discrete Gaussian on it.

Noise that is added in floating point can betray what it hides: the low bits of ``x + noise`` tell
which ``x`` are possible at all (Mironov 2012). Here whatever is noised is first put on a lattice,
the multiples of a power of two about 2^24 times finer than the noise, and the noise is a whole
number of lattice steps, drawn by comparing random integers. Their sum is exact in float64, so what
is released is a function of one integer vector, and nothing else.

Why the accounting of continuous noise holds: for a contribution on the lattice,
rounding the *continuous* Gaussian mechanism to the lattice is post-processing: (eps, delta) carry
over. The discrete Gaussian differs from that rounded one, coordinate by coordinate, by a factor of
exp(((z/w)^2 - 1) / (24 w^2)) up to terms in w^-4, with ``w`` >= 2^24 steps per deviation: the midpoint
rule's error. Over P coordinates that is between exp(-P / (24 w^2)) and exp(P / (24 w^2)) except with a
probability below exp(-P/8), nothing for a backbone (:func:`discrete_slack`). The normalizing
constants agree to exp(-19 w^2). As concentrated differential privacy both guarantee exactly the
same (Canonne, Kamath and Steinke 2020, Theorem 4). Noise is drawn wider than asked by 2^-16 to pay
for this, and for a clip checked to 1e-6.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_model.errors import PrivacyError

__all__ = [
    "MARGIN",
    "Entropy",
    "add_toward_zero",
    "discrete_normal",
    "discrete_slack",
    "lattice",
    "to_lattice",
    "toward_zero",
    "widened",
    "width",
]

Entropy = Callable[[int], bytes]
"""Returns that many random bytes; ``os.urandom`` outside tests."""

MARGIN = 2.0**-16
"""How much wider than asked noise is drawn, relative; see the module's text."""

_FINENESS = 24
_LARGEST_WIDTH = 1 << 26
_CHUNK = 1 << 17
_BLOCK = 1 << 16  # numbers that stay in the processor's cache
_BUFFER = 512  # numbers that NumPy widens at a time: they stay in its nearest cache
_PATIENCE = 1000
_STAIRS = 14  # exp(-14^2 / 2) is below 2^-128

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Coin = Callable[[npt.NDArray[np.intp]], Flags]


def lattice(std: float) -> float:
    """Return the step of the lattice for noise of this deviation: the largest power of two <= std / 2^24.

    Raises
    ------
    PrivacyError
        If ``std`` is not between 1e-200 and 1e200: its lattice would leave float64.
    """
    if not 1e-200 <= std <= 1e200:
        raise PrivacyError(f"noise of deviation {std} has no lattice in float64")
    return math.ldexp(1.0, math.frexp(std)[1] - 1 - _FINENESS)


def width(std: float) -> int:
    """Return the deviation that is drawn, in steps of ``lattice(std)``: ``std`` with `MARGIN`, rounded up."""
    return math.ceil(std / lattice(std) * (1.0 + MARGIN))


def discrete_slack(parameters: int, *, rounds: int) -> float:
    """Bound what discreteness adds to epsilon over so many releases; far below what `MARGIN` gains."""
    return 2.0 * rounds * parameters / (24.0 * 4.0**_FINENESS)


def widened(std: float, *, noise_multiplier: float, parameters: int) -> float:
    """Return the deviation that also covers rounding a *sum* to its lattice.

    Rounding moves two neighboring sums apart by up to sqrt(P) steps, at most
    ``std * sqrt(P) * 2^-24``; noise of multiplier m for that is m times as much. Doubled, since the
    wider noise may have the next coarser lattice.
    """
    return std * (1.0 + noise_multiplier * math.sqrt(parameters) * 2.0 ** (1 - _FINENESS))


def add_toward_zero(total: Tensor, vector: Tensor | npt.NDArray[np.floating], *, step: float) -> None:
    """Add ``toward_zero(vector, step=step)`` to ``total`` in place: the same bits in a third of the time.

    Parameters
    ----------
    total
        (P,) float64, contiguous, on the processor.
    vector
        (P,) of any floating type; only looked at.
    step
        As in `toward_zero`.
    """
    values = _numbers(vector)
    sums = total.numpy()
    with np.errstate():  # gives the buffer's size back
        np.setbufsize(_BUFFER)
        if step == 0.0:
            np.add(sums, values, out=sums)
            return
        block = np.empty(min(len(values), _BLOCK))
        for start in range(0, len(values), _BLOCK):
            part = block[: len(values) - start]
            np.multiply(values[start : start + _BLOCK], 1.0 / step, out=part, dtype=np.float64)  # exact: a power of two
            np.trunc(part, out=part)
            part *= step
            sums[start : start + _BLOCK] += part


def _numbers(vector: Tensor | npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the numbers of a vector as NumPy can read them; bfloat16 and others that it does not know as float64."""
    if isinstance(vector, np.ndarray):
        return vector
    plain = vector.detach().to(device="cpu")
    found: npt.NDArray[np.floating] = (
        plain if plain.dtype in (torch.float32, torch.float64) else plain.double()
    ).numpy()
    return found


def toward_zero(vector: Tensor, *, step: float) -> Tensor:
    """Put a vector on the lattice, each number cut towards zero.

    Guarantees
    ----------
    Exact. No number grows, so the L2 norm does not either: a clipped vector stays clipped. With
    ``step`` of `lattice` a number loses less than 2^-24 of the noise's deviation.

    Parameters
    ----------
    vector
        Any shape, floating point.
    step
        A power of two, or 0 to leave the numbers as they are.

    Returns
    -------
    Tensor
        float64, multiples of ``step``.
    """
    exact = vector.double()
    return exact if step == 0.0 else torch.trunc(exact / step).mul_(step)


def to_lattice(vector: Tensor, *, step: float) -> Tensor:
    """Put a vector on the lattice, each number rounded to the nearest multiple of ``step``; float64.

    Of two vectors that differ by at most C, the rounded ones differ by at most C + step * sqrt(P).
    """
    exact = vector.double()
    return exact if step == 0.0 else torch.round(exact / step).mul_(step)


def discrete_normal(count: int, *, width: int, entropy: Entropy = os.urandom) -> Integers:
    """Draw whole numbers with probability proportional to exp(-x^2 / (2 width^2)).

    After Canonne, Kamath and Steinke (2020) and Karney (2016): ``x = s (u + width v)`` with a sign
    s, u uniform on {0 ... width-1}, v with weight exp(-v^2 / 2), kept with probability
    exp(-(u/width)^2 / 2) exp(-v u/width); coins of probability exp(-g) come from von Neumann's
    series. Only integers are compared; there is no floating-point number in it.

    Guarantees
    ----------
    Exact but for v, whose 14 thresholds are cut to 128 bits: all draws of a call together are
    within count * 2^-123 of the true distribution. No seed reproduces or predicts them.

    Assumes
    -------
    ``entropy`` is a cryptographic generator. Time depends on what was drawn: whoever can time a
    single draw of one coordinate learns about it; a whole vector's time averages over it.

    Edge cases
    ----------
    ``count=0`` draws nothing; the largest number that can come out is 15 widths.

    Parameters
    ----------
    count
        How many numbers, at least 0.
    width
        1 to 2^26: the deviation, in steps (for a small one the true deviation is a little less).
    entropy
        Source of random bytes.

    Raises
    ------
    PrivacyError
        If ``width`` is out of range, or ``entropy`` repeats itself.
    """
    if not 1 <= width <= _LARGEST_WIDTH:
        raise PrivacyError(f"discrete noise has a width of 1 to {_LARGEST_WIDTH} steps, not {width}")
    result = np.empty(count, dtype=np.int64)
    filled = idle = 0
    while filled < count:
        wanted = count - filled
        found = _accepted(min(_CHUNK, wanted + wanted // 2 + 16), width, entropy)[:wanted]
        result[filled : filled + len(found)] = found
        filled += len(found)
        idle = 0 if len(found) else _next(idle)
    return result


def _accepted(count: int, width: int, entropy: Entropy) -> Integers:
    """Make ``count`` proposals and return those that are kept, about 7 in 10."""
    stairs = _stairs(count, entropy)
    offset = _uniform(count, width, entropy)
    kept = _exponential_coin(count, _square_coin(offset, width, entropy), entropy)
    for turn in range(1, _STAIRS):  # exp(-v u/width) is v coins of exp(-u/width)
        waiting = np.flatnonzero(kept & (stairs >= turn))
        if not len(waiting):
            break
        kept[waiting] = _exponential_coin(len(waiting), _step_coin(offset[waiting], width, entropy), entropy)
    magnitude = offset.astype(np.int64) + width * stairs
    negative = _coin(count, entropy)
    kept &= ~(negative & (magnitude == 0))  # there is only one zero
    return np.where(negative, -magnitude, magnitude)[kept]


def _exponential_coin(count: int, coin: Coin, entropy: Entropy) -> Flags:
    """Show True with probability exp(-g) each, where ``coin(indices)`` shows True with probability g <= 1.

    Count how often in a row ``coin`` and a coin of 1/k both show True, k = 1, 2, ...: the run ends
    at an even length with probability 1 - g + g^2/2! - ... (von Neumann 1951).
    """
    result = np.ones(count, dtype=np.bool_)
    active = np.arange(count)
    turn = 1
    while len(active):
        hit = coin(active)
        if turn > 1:
            hit = hit & (_uniform(len(active), turn, entropy) == 0)
        result[active[~hit]] = turn % 2 == 1
        active = active[hit]
        turn = _next(turn)
    return result


def _step_coin(offset: npt.NDArray[np.uint32], width: int, entropy: Entropy) -> Coin:
    """Return coins that show True with probability offset/width."""

    def flip(some: npt.NDArray[np.intp]) -> Flags:
        return np.asarray(_uniform(len(some), width, entropy) < offset[some])

    return flip


def _square_coin(offset: npt.NDArray[np.uint32], width: int, entropy: Entropy) -> Coin:
    """Return coins that show True with probability (offset/width)^2 / 2: three that all show True."""
    step = _step_coin(offset, width, entropy)

    def flip(some: npt.NDArray[np.intp]) -> Flags:
        result = _coin(len(some), entropy)
        for _ in range(2):
            left = np.flatnonzero(result)
            result[left] = step(some[left])
        return result

    return flip


def _coin(count: int, entropy: Entropy) -> Flags:
    """Flip fair coins."""
    packed = np.frombuffer(entropy((count + 7) // 8), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(np.bool_)


def _uniform(count: int, bound: int, entropy: Entropy) -> npt.NDArray[np.uint32]:
    """Draw from {0 ... bound-1} without bias: words above the last whole multiple are drawn again."""
    limit = (1 << 32) // bound * bound
    words = np.frombuffer(entropy(4 * count), dtype=np.uint32).copy()
    turn = 0
    while limit < 1 << 32 and len(again := np.flatnonzero(words >= limit)):
        words[again] = np.frombuffer(entropy(4 * len(again)), dtype=np.uint32)
        turn = _next(turn)
    return words % np.uint32(bound)


def _stairs(count: int, entropy: Entropy) -> Integers:
    """Draw v = 0, 1, ... with probability proportional to exp(-v^2 / 2), by 128-bit thresholds."""
    high, thresholds = _thresholds()
    words = np.frombuffer(entropy(8 * count), dtype=np.uint64)
    result = np.searchsorted(high, words, side="right").astype(np.int64)
    for index in np.flatnonzero(np.isin(words, high)):  # undecided by 64 bits: about once in 10^18 draws
        value = int(words[index]) << 64 | int.from_bytes(entropy(8), "little")
        result[index] = sum(threshold <= value for threshold in thresholds)
    return result


def _next(turn: int) -> int:
    """Count a turn of a loop that true randomness ends within a few dozen turns."""
    if turn >= _PATIENCE:
        raise PrivacyError("the source of random bytes repeats itself; no noise can be drawn from it")
    return turn + 1


@lru_cache(maxsize=1)
def _thresholds() -> tuple[npt.NDArray[np.uint64], tuple[int, ...]]:
    """Return the cumulative probabilities of v times 2^128, and their upper 64 bits."""
    with localcontext(prec=60):
        weights = [(Decimal(-v * v) / 2).exp() for v in range(_STAIRS)]
        total = sum(weights, Decimal(0))
        sums = [sum(weights[: v + 1], Decimal(0)) for v in range(_STAIRS - 1)]
        whole = tuple(int(value / total * 2**128) for value in sums)
    return np.array([value >> 64 for value in whole], dtype=np.uint64), whole
