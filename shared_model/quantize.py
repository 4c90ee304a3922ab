"""One byte per parameter on the way up: int8 with stochastic rounding, still inside the clip.

Rounding adds a little length to a vector, so a clipped update could leave the ball that the noise
was calibrated for. Here the scale is chosen after rounding, so the vector that the server
reconstructs is inside the bound in exact terms.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared_model.errors import CompatibilityError, PrivacyError
from shared_model.noise import Entropy, check_bound, norm, secure_uniform

__all__ = ["Quantized", "dequantize", "quantize"]

_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Quantized:
    """A vector as whole numbers times one scale.

    Attributes
    ----------
    values
        int8, shape (P,).
    scale
        Value of one step, >= 0; exactly representable in float32.
    """

    values: Tensor
    scale: float

    @property
    def nbytes(self) -> int:
        """Bytes that cross the network: one per parameter and four for the scale."""
        return int(self.values.numel()) + 4


def quantize(vector: Tensor, *, bound: float, bits: int = 8, entropy: Entropy = os.urandom) -> Quantized:
    """Round a clipped vector to ``bits`` bits, at random so that the mean is kept.

    Guarantees
    ----------
    The float64 norm of ``dequantize(result)`` never exceeds ``bound``. Before that final safety
    rescale (a relative change of at most the added rounding length, about 1e-4 for a dense
    vector at 8 bits) the result is unbiased: its expectation is the vector.

    Assumes
    -------
    Rounding needs no noise of its own: it happens after the clip and before or after the
    mechanism's noise, and the bound is what the mechanism relies on. The scale depends on the
    vector; under secure aggregation, where the server must not see it, use a common one.

    Edge cases
    ----------
    A zero, empty or vanishing (below 1e-28) vector gives scale 0; one longer than ``bound`` is scaled into it;
    non-finite numbers are refused.

    Parameters
    ----------
    vector
        Floating point, shape (P,).
    bound
        Positive and finite L2 bound.
    bits
        2 to 8; fewer bits are still stored in one byte each.
    entropy
        Source of the random bytes for the rounding.

    Raises
    ------
    PrivacyError
        If the vector is not finite or the bound or ``bits`` is out of range.
    """
    check_bound(bound)
    if not 2 <= bits <= 8:
        raise PrivacyError(f"a quantized update has 2 to 8 bits, not {bits}")
    exact = vector.detach().to(device="cpu", dtype=torch.float64).reshape(-1).numpy()
    if not np.isfinite(exact).all():
        raise PrivacyError("an update holds a number that is not finite; it cannot be quantized")
    levels = (1 << (bits - 1)) - 1
    scale = float(np.abs(exact).max(initial=0.0)) / levels
    if scale <= 2.0**-100:
        return Quantized(values=torch.zeros(exact.size, dtype=torch.int8), scale=0.0)
    whole = np.empty(exact.size, dtype=np.int8)
    for start in range(0, exact.size, _CHUNK):
        part = exact[start : start + _CHUNK] / scale
        coins = secure_uniform(part.size, entropy=entropy)
        low = np.floor(part)
        whole[start : start + _CHUNK] = np.clip(low + (coins <= part - low), -levels, levels)
    values = torch.from_numpy(whole)
    return Quantized(values=values, scale=_safe_scale(values, scale, bound))


def dequantize(quantized: Quantized) -> Tensor:
    """Reconstruct the float32 vector, shape (P,).

    Raises
    ------
    CompatibilityError
        If the values are not int8 or the scale is negative or not finite: what a server must
        check of a message from outside.
    """
    if quantized.values.dtype != torch.int8:
        raise CompatibilityError(f"a quantized update is int8, not {quantized.values.dtype}")
    if not (math.isfinite(quantized.scale) and quantized.scale >= 0.0):
        raise CompatibilityError(f"the scale of a quantized update is {quantized.scale}")
    return quantized.values.reshape(-1).float() * quantized.scale


def _safe_scale(values: Tensor, scale: float, bound: float) -> float:
    """Return the largest float32 scale, at most ``scale``, that keeps the norm within ``bound``."""
    wide = values.double()  # sums of squares of so few bits are exact
    length = math.sqrt(float(wide @ wide))
    chosen = np.float32(min(scale, bound / length) if length > 0.0 else scale)
    while norm(dequantize(Quantized(values=values, scale=float(chosen)))) > bound:
        chosen = np.nextafter(chosen, np.float32(0.0))
    return float(chosen)
