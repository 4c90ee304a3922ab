"""One Gaussian step, and a history of many: what an accountant is given.

The mechanism is always the same: each unit (a *user* with the whole update, or an *example*, one
fixed training record) contributes one vector clipped to L2 norm C; Gaussian noise of standard
deviation ``noise_multiplier * C`` is added to the sum; units take part by Poisson sampling with
probability ``sample_rate``. Neighboring data sets differ by adding or removing one unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared_model.errors import PrivacyError

__all__ = ["LARGEST_DELTA", "UNITS", "Mechanism", "coarsen", "default_delta", "merge"]

UNITS = ("user", "example")
#: A larger delta is no promise: one over the number of units allows to publish one of them outright.
LARGEST_DELTA = 1e-5


@dataclass(frozen=True)
class Mechanism:
    """One Poisson-subsampled Gaussian step.

    Attributes
    ----------
    noise_multiplier
        Standard deviation of the noise on the sum, in units of the clipping bound; >= 0.
    sample_rate
        Probability that a unit takes part in a step, in [0, 1]; 1 is every unit, every step.
    unit
        Whom one unit of contribution stands for: ``"user"`` or ``"example"``.
    """

    noise_multiplier: float
    sample_rate: float
    unit: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0.0):
            raise PrivacyError(f"a noise multiplier is finite and at least 0, not {self.noise_multiplier}")
        if not 0.0 <= self.sample_rate <= 1.0:
            raise PrivacyError(f"a sampling rate lies between 0 and 1, not {self.sample_rate}")
        if self.unit not in UNITS:
            raise PrivacyError(f"a privacy unit is one of {', '.join(UNITS)}, not {self.unit!r}")


def merge(history: Sequence[tuple[Mechanism, int]]) -> list[tuple[Mechanism, int]]:
    """Add up the steps of equal mechanisms and drop what costs nothing.

    Accounting time grows with the number of different entries, not with steps.

    Raises
    ------
    PrivacyError
        If a step count is negative.
    """
    steps: dict[Mechanism, int] = {}
    for mechanism, count in history:
        if count < 0:
            raise PrivacyError(f"a number of steps cannot be negative: {count}")
        if count and mechanism.sample_rate > 0.0:
            steps[mechanism] = steps.get(mechanism, 0) + count
    return sorted(steps.items(), key=lambda item: (item[0].unit, item[0].sample_rate, item[0].noise_multiplier))


def coarsen(merged: Sequence[tuple[Mechanism, int]], *, limit: int) -> list[tuple[Mechanism, int]]:
    """Round noise down and sampling up, on ever coarser grids, until ``limit`` entries are left.

    Every entry of the result protects no better than what it stands for, so the loss is never
    under-counted. All noise multipliers must be positive; ``limit`` at least 2.
    """
    entries = list(merged)
    ratio = 1.01
    while len(entries) > limit:
        entries = merge([(_weaken(mechanism, ratio), steps) for mechanism, steps in merged])
        ratio = ratio**2
    return entries


def default_delta(population: int) -> float:
    """Return a delta well below one over the number of units: min(1e-5, population^-1.1).

    Raises
    ------
    PrivacyError
        If the population is smaller than 1.
    """
    if population < 1:
        raise PrivacyError(f"a population has at least 1 unit, not {population}")
    return float(min(LARGEST_DELTA, population**-1.1))


def _weaken(mechanism: Mechanism, ratio: float) -> Mechanism:
    """Return a mechanism on the grid of powers of ``ratio`` that protects no better."""
    base = math.log(ratio)
    noise = ratio ** math.floor(math.log(mechanism.noise_multiplier) / base)
    rate = ratio ** math.ceil(math.log(mechanism.sample_rate) / base)
    return Mechanism(min(noise, mechanism.noise_multiplier), min(1.0, max(rate, mechanism.sample_rate)), mechanism.unit)
