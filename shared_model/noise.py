"""Randomness that protects people, and the clip that bounds what noise must hide.

Noise for differential privacy comes from the operating system, never from a seeded generator: a
seed that someone else knows (a federation sends the same one to every device) would let them
subtract the noise again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_model.errors import PrivacyError

__all__ = ["Entropy", "check_bound", "clip", "norm", "secure_bernoulli", "secure_normal", "secure_uniform"]

Entropy = Callable[[int], bytes]
"""Returns that many random bytes; ``os.urandom`` outside tests."""

_CHUNK = 1 << 18
_DRAWS = 4


def secure_normal(shape: Sequence[int], *, std: float, entropy: Entropy = os.urandom) -> Tensor:
    """Draw Gaussian noise from the operating system's random bytes.

    Each number is half the sum of four independent Box-Muller draws in float64, each from 53-bit
    uniforms.

    Guarantees
    ----------
    No seed reproduces or predicts it: neither ``torch.manual_seed`` nor numpy's. Every number is
    finite. The low bits of one output no longer point to one input: recovering the draws behind
    it takes about 2^159 trials (Holohan and Braghin 2021, after Mironov 2012).

    Assumes
    -------
    ``entropy`` is a cryptographic generator. The rest of the mechanism still adds and rounds in
    floating point: a discrete mechanism with a proof in integers is not claimed.

    Edge cases
    ----------
    ``std=0`` gives exact zeros and draws nothing; an empty shape element gives an empty tensor;
    uniforms lie in (0, 1], so the logarithm is never of zero; one draw reaches at most 8.7
    deviations, which truncates a probability of about 1e-17.

    Parameters
    ----------
    shape
        Shape of the result.
    std
        Standard deviation, >= 0 and finite.
    entropy
        Source of random bytes.

    Returns
    -------
    Tensor
        float64 on the CPU.

    Raises
    ------
    PrivacyError
        If ``std`` is negative or not finite.
    """
    if not (math.isfinite(std) and std >= 0.0):
        raise PrivacyError(f"noise needs a finite standard deviation of at least 0, not {std}")
    count = math.prod(shape)
    values = np.zeros(count, dtype=np.float64)
    if std > 0.0:
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            for _ in range(_DRAWS):
                values[start : start + size] += _box_muller(size, entropy)
        values *= std / math.sqrt(_DRAWS)
    return torch.from_numpy(values).reshape(tuple(shape))


def secure_uniform(count: int, *, entropy: Entropy = os.urandom) -> npt.NDArray[np.float64]:
    """Draw ``count`` uniforms from (0, 1] with 53 bits each from the operating system."""
    words = np.frombuffer(entropy(8 * count), dtype=np.uint64) >> np.uint64(11)
    return np.asarray((words.astype(np.float64) + 0.5) * 2.0**-53)


def secure_bernoulli(count: int, *, rate: float, entropy: Entropy = os.urandom) -> npt.NDArray[np.bool_]:
    """Flip ``count`` independent coins that show True with probability ``rate``: one Poisson sample.

    Edge cases
    ----------
    ``rate=1`` is always True, ``rate=0`` never; ``count=0`` gives an empty array.

    Raises
    ------
    PrivacyError
        If ``rate`` is not in [0, 1].
    """
    if not 0.0 <= rate <= 1.0:
        raise PrivacyError(f"a sampling rate lies between 0 and 1, not {rate}")
    if rate == 0.0:
        return np.zeros(count, dtype=np.bool_)
    return np.asarray(secure_uniform(count, entropy=entropy) <= rate)


def norm(vector: Tensor) -> float:
    """L2 norm of a tensor of any shape, summed in float64."""
    return float(torch.linalg.vector_norm(vector.detach().double()))


def clip(vector: Tensor, *, bound: float) -> Tensor:
    """Scale a vector down so that its L2 norm is at most ``bound``.

    Guarantees
    ----------
    The norm of the returned float32 vector, computed in float64, never exceeds ``bound``: the
    rounding of the scaled numbers is included. The direction does not change otherwise.

    Assumes
    -------
    The whole contribution of one user (or one record) is in this ONE vector: parts clipped
    apart would each have sensitivity ``bound``.

    Edge cases
    ----------
    A zero vector and one within the bound come back unchanged (as a copy); an empty vector has
    norm 0; NaN or infinity is refused, since no scale can bound it.

    Parameters
    ----------
    vector
        Any shape, floating point.
    bound
        Positive and finite.

    Returns
    -------
    Tensor
        A float32 copy on the CPU.

    Raises
    ------
    PrivacyError
        If the vector has a non-finite number or the bound is not a positive finite number.
    """
    check_bound(bound)
    exact = vector.detach().to(device="cpu", dtype=torch.float64)
    if not bool(torch.isfinite(exact).all()):
        raise PrivacyError("an update holds a number that is not finite; it cannot be clipped")
    length = norm(exact)
    result = exact.float()
    shrink = 1.0
    while not norm(result) <= bound:
        result = (exact * (bound / length * shrink)).float()
        shrink *= 1.0 - 2.0**-23
    return result.clone()


def check_bound(bound: float) -> None:
    """Refuse a clipping bound that is not a positive finite number."""
    if not (math.isfinite(bound) and bound > 0.0):
        raise PrivacyError(f"a clipping bound must be positive and finite, not {bound}")


def _box_muller(count: int, entropy: Entropy) -> npt.NDArray[np.float64]:
    """Return ``count`` standard normal numbers (Box and Muller 1958)."""
    half = (count + 1) // 2
    uniforms = secure_uniform(2 * half, entropy=entropy)
    radius = np.sqrt(-2.0 * np.log(uniforms[:half]))
    angle = torch.from_numpy(2.0 * math.pi * uniforms[half:])  # torch's cosine is 6 times as fast as numpy's
    return np.concatenate([radius * angle.cos().numpy(), radius * angle.sin().numpy()])[:count]
