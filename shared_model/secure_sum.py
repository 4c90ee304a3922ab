"""Adding vectors that nobody sees: whole numbers modulo 2^32, noise shares, and masks that cancel.

The mathematics of secure aggregation (Bonawitz et al. 2017, Bell et al. 2020) with distributed
noise (Kairouz, Liu, Steinke 2021). Keys, secret sharing and encryption come from Flower and are
wrapped once on each side (`client.secure`, `server.secure`), since nothing here may import it.
Flower's own mask generator and quantizer are not used: the generator folds a key into 32 bits that
seed a Mersenne twister (anybody can try all of them), and the quantizer rounds with a seeded
generator and clips each number instead of the vector.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from shared_model.errors import PrivacyError
from shared_model.noise import Entropy, check_bound, clip, secure_normal, secure_uniform

__all__ = ["BITS", "Normal", "Ring", "Words", "add_pair_mask", "commitment", "decode", "encode", "expand"]

#: Sums are taken modulo 2^BITS.
BITS = 32

Words = npt.NDArray[np.uint32]

_TAIL = 18.0  # deviations: a Gaussian number is beyond them with a probability below 1e-71
_LOSS = 0.01  # most of the clip that rounding may cost
_FINE = 8.0  # least deviation of a noise share in steps of the grid


class Normal(Protocol):
    """Draws Gaussian noise as float64; :func:`shared_model.noise.secure_normal` outside tests."""

    def __call__(self, shape: tuple[int, ...], *, std: float) -> Tensor:
        """Return noise of this shape and standard deviation."""


@dataclass(frozen=True)
class Ring:
    """The grid on which updates are added.

    Guarantees
    ----------
    A sum of at most ``capacity`` encoded vectors never wraps around (practically: with a probability
    below 1e-60): the step is chosen for the largest update and for noise of 18 deviations. It is a
    power of two, so server and devices compute the same one, and depends on public numbers only.

    Edge cases
    ----------
    So many devices or parameters that rounding would cost more than 1 % of the clip are refused,
    and so is noise too small for the grid.

    Parameters
    ----------
    size
        Numbers in a vector, at least 1.
    capacity
        Most vectors that are added, at least 1.
    clip
        L2 bound C of an update.
    share_std
        Standard deviation of the noise that each device adds; 0 for none.

    Raises
    ------
    PrivacyError
        If the ring is too small, or a number is out of range.
    """

    size: int
    capacity: int
    clip: float
    share_std: float

    def __post_init__(self) -> None:
        check_bound(self.clip)
        if self.size < 1 or self.capacity < 1:
            raise PrivacyError(f"cannot add {self.capacity} vectors of {self.size} numbers")
        if not (math.isfinite(self.share_std) and self.share_std >= 0.0):
            raise PrivacyError(f"a noise share needs a finite standard deviation of at least 0, not {self.share_std}")
        if self.rounding > _LOSS * self.clip:
            raise PrivacyError(
                f"{self.capacity} devices are too many for a {BITS}-bit sum of {self.size} numbers: "
                f"rounding could cost {self.rounding / self.clip:.1%} of the clip",
                hint="plan a smaller cohort or train without secure aggregation",
            )
        if 0.0 < self.share_std < _FINE * self.step:
            raise PrivacyError(f"the noise share {self.share_std:g} is too small for a {BITS}-bit sum")

    @cached_property
    def step(self) -> float:
        """Value of one step of the grid: the smallest power of two that cannot wrap around."""
        room = (1 << (BITS - 1)) - 2 * self.capacity - 1
        return 2.0 ** math.ceil(math.log2(self.capacity * (self.clip + _TAIL * self.share_std) / max(room, 1)))

    @property
    def rounding(self) -> float:
        """Most length that rounding adds to an update."""
        return self.step * math.sqrt(self.size)

    def longest(self, count: int) -> float:
        """Return an L2 norm that a sum of ``count`` honest vectors practically never exceeds.

        The noise has ``size`` independent numbers, so its length deviates from its mean by less
        than one deviation of a single number; eight are allowed.
        """
        noise = math.sqrt(count) * math.hypot(self.share_std, self.step)
        return count * self.clip + noise * (math.sqrt(self.size) + 8.0)


def encode(delta: Tensor, ring: Ring, *, entropy: Entropy = os.urandom, normal: Normal = secure_normal) -> Words:
    """Clip an update, round it to the ring's grid, and add this device's share of the noise.

    Guarantees
    ----------
    The rounded update, before noise, has an L2 norm of at most ``ring.clip``, checked in whole
    numbers. Rounding is stochastic and unbiased. Noise comes from the operating system, is rounded
    on its own, and is in the result before anything else can see it.

    The sum of n shares with deviation s is, within a total variation of about
    ``n * size * 2^32 * exp(-pi^2 (s / step)^2)`` (below 1e-250 for the least allowed s), a
    post-processing of the Gaussian mechanism with deviation ``s * sqrt(n)``: the characteristic
    function of a rounded Gaussian is that of the Gaussian plus a uniform number, up to aliasing,
    and all uniform numbers but one, and the last rounding, act on the finished Gaussian sum.

    Assumes
    -------
    The whole contribution of one user is in ``delta``. Neighbors differ in one device's data: its
    update against zero (Kairouz et al. 2021). That it took part is not hidden: every device adds
    noise, so the number of devices shows.

    Edge cases
    ----------
    A zero update is noise alone; ``share_std`` 0 adds none; NaN or infinity is refused.

    Parameters
    ----------
    delta
        Floating point, shape (size,).

    Returns
    -------
    Words
        uint32, shape (size,): whole steps modulo 2^32. NOT yet masked.

    Raises
    ------
    PrivacyError
        If the update is not finite or of another length.
    """
    if delta.numel() != ring.size:
        raise PrivacyError(f"an update has {delta.numel()} numbers, not {ring.size}")
    part = clip(delta.reshape(-1), bound=ring.clip - ring.rounding).double().numpy() / ring.step
    low = np.floor(part)
    whole = (low + (secure_uniform(ring.size, entropy=entropy) <= part - low)).astype(np.int64)
    if math.sqrt(int((whole**2).sum())) * ring.step > ring.clip:
        raise PrivacyError("a rounded update left its clip; nothing is sent")
    if ring.share_std > 0.0:
        noise = normal((ring.size,), std=ring.share_std).numpy()
        whole += np.rint(noise / ring.step).astype(np.int64)
    return whole.astype(np.uint32)  # numpy wraps modulo 2^32


def decode(total: Words, ring: Ring) -> Tensor:
    """Turn an unmasked sum modulo 2^32 into numbers, (size,) float64."""
    return torch.from_numpy(total.view(np.int32).astype(np.float64) * ring.step)


def expand(seed: bytes, context: str, *, size: int) -> Words:
    """Stretch a secret into a mask: uniform uint32, shape (size,), by AES-256 in counter mode.

    Guarantees
    ----------
    Without the seed the mask cannot be told from random numbers (as far as AES-256 and SHA-256
    hold), so a masked vector is uniform. Another ``context`` gives an independent mask.

    Parameters
    ----------
    seed
        At least 16 secret bytes.
    context
        Names what the mask is for; a mask must never be used twice.
    size
        Numbers wanted.
    """
    if len(seed) < 16:
        raise PrivacyError(f"a mask needs a secret of at least 16 bytes, not {len(seed)}")
    key = hashlib.sha256(b"easel mask\0" + len(seed).to_bytes(4, "big") + seed + context.encode()).digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * size))
    return np.frombuffer(stream, dtype="<u4").astype(np.uint32, copy=False)


def add_pair_mask(words: Words, secret: bytes, *, context: str, own: int, other: int) -> Words:
    """Add the mask that two devices share: the lower number adds it, the higher one subtracts it."""
    low, high = sorted((own, other))
    if low == high:
        raise PrivacyError("a device shares no mask with itself")
    mask = expand(secret, f"{context}/pair/{low}/{high}", size=len(words))
    return words + mask if own == low else words - mask


def commitment(seed: bytes, *, context: str) -> bytes:
    """Return 32 bytes that bind a device to its own mask's seed without telling it."""
    return hashlib.sha256(b"easel commitment\0" + context.encode() + b"\0" + seed).digest()
