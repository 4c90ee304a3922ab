"""Randomness that protects people, and the clip that bounds what noise must hide.

Noise for differential privacy comes from the operating system, never from a seeded generator: a
seed that someone else knows (a federation sends the same one to every device) would let them
subtract the noise again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_model.discrete import Entropy, discrete_normal, lattice, width
from shared_model.errors import PrivacyError

__all__ = ["Entropy", "check_bound", "clip", "norm", "secure_bernoulli", "secure_normal", "secure_uniform"]


def secure_normal(shape: Sequence[int], *, std: float, entropy: Entropy = os.urandom) -> Tensor:
    """Draw Gaussian noise from the operating system's random bytes, in whole steps of a fine lattice.

    Guarantees
    ----------
    Each number is ``step * k`` with ``step = lattice(std)``, a power of two, and k an exact sample of
    the discrete Gaussian (:mod:`shared_model.discrete`) of deviation ``width(std)``: never less than
    ``std``, at most 0.002 percent more. No seed reproduces or predicts it: neither
    ``torch.manual_seed`` nor numpy's. Added in float64 to numbers on the same lattice (below 2^53
    steps) the sum is exact, so no low bits betray what was noised.

    Assumes
    -------
    ``entropy`` is a cryptographic generator. What is noised was put on the lattice first
    (:func:`shared_model.discrete.toward_zero`).

    Edge cases
    ----------
    ``std=0`` gives exact zeros and draws nothing; an empty shape element gives an empty tensor;
    the sum of several draws, or a draw times a factor, is no longer an exact discrete Gaussian.

    Parameters
    ----------
    shape
        Shape of the result.
    std
        Standard deviation, 0 or between 1e-200 and 1e200.
    entropy
        Source of random bytes.

    Returns
    -------
    Tensor
        float64 on the CPU.

    Raises
    ------
    PrivacyError
        If ``std`` is negative, not finite or out of range.
    """
    if not (math.isfinite(std) and std >= 0.0):
        raise PrivacyError(f"noise needs a finite standard deviation of at least 0, not {std}")
    count = math.prod(shape)
    if std == 0.0:
        return torch.zeros(tuple(shape), dtype=torch.float64)
    steps = discrete_normal(count, width=width(std), entropy=entropy)
    return torch.from_numpy(steps).double().mul_(lattice(std)).reshape(tuple(shape))


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
