"""Differential privacy: what a history of steps costs, how much noise a target needs, and the step.

The one place that the rest of easel asks: clipping, noise, quantisation and the mechanism itself
are re-exported here. The only module that imports opacus, and only inside functions.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from shared_model.discrete import lattice, to_lattice, widened
from shared_model.errors import MissingError, PrivacyError
from shared_model.mechanism import UNITS, Mechanism, coarsen, default_delta, merge
from shared_model.noise import check_bound, clip, secure_normal
from shared_model.quantize import Quantized, dequantize, quantize
from shared_model.usefulness import noise_to_signal, require_useful, usefulness

__all__ = [
    "UNITS",
    "Mechanism",
    "Quantized",
    "accounted",
    "calibrate",
    "clip",
    "default_delta",
    "dequantize",
    "epsilon",
    "merge",
    "noise_to_signal",
    "private_optimizer",
    "quantize",
    "require_useful",
    "secure_normal",
    "usefulness",
]

_MAX_ENTRIES = 12
_MAX_DOMAIN = 1 << 21
_MAX_MEANINGFUL = 60.0
_SMALLEST_DELTA = 1e-9
_LARGEST_NOISE = 1e6


def epsilon(history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
    """Bound the privacy loss of everything in ``history`` together.

    Guarantees
    ----------
    An upper bound on epsilon at ``delta`` for the composition of all steps: the upper end of the
    PRV accountant (Gopi, Lee and Wutschitz 2021, as in Opacus) with its own error added, or the
    Renyi bound (Mironov, Talwar and Zhang 2019) where that is smaller or where PRV cannot compute.
    Without subsampling the exact Gaussian formula (Balle and Wang 2018) is used. Order of the
    history does not matter; a longer history never has a smaller loss (up to the added error).

    Assumes
    -------
    Poisson sampling with secret choices, a fixed divisor, clipped contributions, fresh noise in
    each step, and add-or-remove neighbors (to *replace* a unit can cost up to twice as much).
    PRV composes the "remove" direction, which dominates for this mechanism (tests compare both).

    Edge cases
    ----------
    An empty history, 0 steps or sampling rate 0 is 0.0; no noise is infinity; rate 1 (full batch)
    works; a loss above 60 or a delta below 1e-9 comes from the Renyi bound alone; more than 12
    different mechanisms are rounded towards less noise and more sampling until 12 are left.

    Parameters
    ----------
    history
        Pairs (mechanism, steps), all of the same unit.
    delta
        Probability, in (0, 1).

    Raises
    ------
    PrivacyError
        If ``delta`` or a step count is out of range, or units are mixed.
    MissingError
        If opacus is not installed.
    """
    if not 0.0 < delta < 1.0:
        raise PrivacyError(f"delta lies strictly between 0 and 1, not {delta}")
    merged = merge(history)
    if len({mechanism.unit for mechanism, _ in merged}) > 1:
        raise PrivacyError("user-level and example-level losses cannot be composed in one history")
    if not merged:
        return 0.0
    if any(mechanism.noise_multiplier == 0.0 for mechanism, _ in merged):
        return math.inf
    if all(mechanism.sample_rate == 1.0 for mechanism, _ in merged):
        return _gaussian_epsilon(_signal(merged), delta)
    return _subsampled_epsilon(tuple(coarsen(merged, limit=_MAX_ENTRIES)), delta)


def calibrate(*, target_epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Find the smallest noise multiplier that keeps ``steps`` steps within ``target_epsilon``.

    Guarantees
    ----------
    ``epsilon([(Mechanism(result, sample_rate, unit), steps)], delta=delta) <= target_epsilon``,
    checked with that very function. The result is rounded up to about three digits (0.2 percent).

    Edge cases
    ----------
    0 steps, rate 0 or an infinite target give 0.0 (no noise).

    Parameters
    ----------
    target_epsilon
        Positive.
    delta
        In (0, 1).
    sample_rate
        In [0, 1].
    steps
        At least 0.

    Raises
    ------
    PrivacyError
        If a value is out of range, or no noise multiplier up to 1e6 is enough.
    """
    if not target_epsilon > 0.0:
        raise PrivacyError(f"a target epsilon is positive, not {target_epsilon}")

    def loss(noise: float) -> float:
        return epsilon([(Mechanism(noise, sample_rate, UNITS[0]), steps)], delta=delta)

    if loss(0.0) <= target_epsilon:
        return 0.0
    high = 1.0
    while loss(high) > target_epsilon:
        high *= 2.0
        if high > _LARGEST_NOISE:
            raise PrivacyError(
                f"no amount of noise brings {steps} steps to epsilon {target_epsilon:g}",
                hint="ask for a larger epsilon, fewer rounds or a smaller sampling rate",
            )
    low = high / 2.0
    while high == 1.0 and low > 2.0**-10 and loss(low) <= target_epsilon:
        high, low = low, low / 2.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if loss(middle) <= target_epsilon else (middle, high)
    return _round_up(high, lambda noise: loss(noise) <= target_epsilon)


def private_optimizer(
    optimizer: torch.optim.Optimizer, *, mechanism: Mechanism, bound: float, expected_batch: float
) -> Any:
    """Wrap an optimizer so that each step clips per-record gradients, adds noise and is accounted.

    Guarantees
    ----------
    All parameters of ``optimizer`` form ONE vector per record (Opacus' flat clipping), clipped to
    ``bound``; noise of deviation ``noise_multiplier * bound`` per coordinate comes from the
    operating system; each released step is entered in a PRV accountant. The sum is rounded to the
    noise's lattice (:mod:`shared_model.discrete`) and their sum is exact in float64: what is released
    is a function of whole numbers. Rounding can lengthen one record's part by sqrt(P) steps; the
    noise is that much wider (0.01 percent for 0.6 million parameters at noise multiplier 1).

    Assumes
    -------
    The caller fills ``p.grad_sample`` of every parameter with shape (N, *p.shape) on the CPU, wherever
    the parameter is, one row per record, finite, and never puts one record into two rows.
    ``expected_batch`` is public. The clip is float32 arithmetic: norms can exceed the bound by a
    relative 1e-6.

    Edge cases
    ----------
    Zero rows (an empty Poisson sample) make a noise-only step that is accounted like any other;
    noise multiplier 0 releases the exact clipped mean (epsilon infinite).

    Returns
    -------
    Any
        A ``DPOptimizer``; read what it has spent with `accounted`.
    """
    check_bound(bound)
    if not (math.isfinite(expected_batch) and expected_batch > 0):
        raise PrivacyError(f"an expected batch is positive, not {expected_batch}")
    _require_opacus()
    from opacus.accountants import PRVAccountant
    from opacus.optimizers import DPOptimizer

    class SecureOptimizer(DPOptimizer):  # type: ignore[misc]
        """``DPOptimizer`` whose noise comes from the operating system."""

        def add_noise(self) -> None:
            """Add noise to the sum of clipped gradients and store it in ``p.grad``."""
            std = widened(
                self.noise_multiplier * self.max_grad_norm,
                noise_multiplier=self.noise_multiplier,
                parameters=sum(parameter.numel() for parameter in self.params),
            )
            for parameter in self.params:
                noise = secure_normal(parameter.shape, std=std)
                total = to_lattice(parameter.summed_grad, step=lattice(std) if std else 0.0).view_as(parameter)
                parameter.grad = (total + noise).to(parameter.dtype).to(parameter.device)
                parameter.summed_grad._processed = True  # opacus refuses to release one sum twice

    accountant = PRVAccountant()
    wrapped = SecureOptimizer(
        optimizer,
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=bound,
        expected_batch_size=expected_batch,
    )
    wrapped.accountant = accountant
    wrapped.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=mechanism.sample_rate))
    return wrapped


def accounted(optimizer: Any, *, unit: str = "example") -> list[tuple[Mechanism, int]]:
    """Return the merged history of a `private_optimizer`: what its steps so far have released."""
    return merge([(Mechanism(noise, rate, unit), steps) for noise, rate, steps in optimizer.accountant.history])


def _signal(merged: Sequence[tuple[Mechanism, int]]) -> float:
    """Return the Gaussian-DP parameter mu of full-batch steps: sqrt(sum of steps / sigma^2)."""
    return math.sqrt(sum(steps / mechanism.noise_multiplier**2 for mechanism, steps in merged))


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """Solve delta(eps) = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu) for eps, rounding up."""
    from scipy.special import log_ndtr

    def log_delta(eps: float) -> float:
        first, second = log_ndtr(mu / 2 - eps / mu), eps + log_ndtr(-mu / 2 - eps / mu)
        return float(first + math.log(-math.expm1(min(second - first, -1e-300))))

    low, high = 0.0, 1.0
    if log_delta(0.0) <= math.log(delta):
        return 0.0
    while log_delta(high) > math.log(delta):
        low, high = high, 2.0 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if log_delta(middle) > math.log(delta) else (low, middle)
    return high


@functools.lru_cache(maxsize=256)  # half a second each, and every device of a simulated fleet asks the same
def _subsampled_epsilon(merged: Sequence[tuple[Mechanism, int]], delta: float) -> float:
    """Return the smaller of the Renyi and the PRV upper bound; a failure of PRV leaves the former."""
    _require_opacus()
    from opacus.accountants import PRVAccountant, RDPAccountant

    entries = [(mechanism.noise_multiplier, mechanism.sample_rate, steps) for mechanism, steps in merged]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        renyi, prv = RDPAccountant(), PRVAccountant()
        renyi.history, prv.history = entries, entries
        loose = float(renyi.get_epsilon(delta))
        if math.isnan(loose):
            return math.inf
        if not (loose <= _MAX_MEANINGFUL and delta >= _SMALLEST_DELTA):
            return loose
        try:
            tight = float(prv.get_epsilon(delta, eps_error=_tolerance(loose, entries, delta)))
        except (RuntimeError, ValueError, OverflowError, ZeroDivisionError):
            return loose
    return max(0.0, min(loose, tight)) if math.isfinite(tight) else loose


def _tolerance(loose: float, entries: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Choose the PRV error: half a percent of the loss, more where the grid would get too large."""
    steps = sum(count for _, _, count in entries)
    grid = 2.0 * (2.0 * loose + 6.0) * math.sqrt(steps * math.log(12_000.0 / delta) / 2.0)
    return min(0.5, max(0.002, min(0.05, loose / 200.0), grid / _MAX_DOMAIN))


def _round_up(value: float, enough: Callable[[float], bool]) -> float:
    """Round up to three decimals of its leading power of ten, further up while not ``enough``."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    rounded = math.ceil(value / step) * step
    while not enough(rounded):
        rounded += step
    return float(f"{rounded:.12g}")


def _require_opacus() -> None:
    """Fail with a hint where the optional package is missing."""
    try:
        import opacus  # noqa: F401
    except ImportError as error:
        raise MissingError("privacy accounting needs the package opacus", hint="pip install opacus") from error
