"""Privacy without sampling: noise that later rounds take back, and what it costs (DP-FTRL).

Where nobody can promise that devices are asked at random, amplification by sampling is gone, and
independent noise adds up over the rounds. Instead, the backbone after round t is a *prefix sum* of
the rounds' sums, and the matrix A of all prefix sums is written as B C (the matrix mechanism;
Kairouz et al. 2021, Denisov et al. 2022). Noise z is added to C x; what is released in round t is

    x_t + std * sum_j d_j z_{t-j},      std = noise multiplier * sensitivity * clip

with z_0, z_1, ... independent standard normal vectors and d the first column of the inverse of C.
Most of what round t adds is subtracted again by later rounds. Here B = C is the square root of A, a
Toeplitz matrix with closed coefficients (Fichtenberger, Henzinger and Upadhyay 2022).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.errors import PrivacyError
from shared_model.mechanism import Mechanism

__all__ = ["MECHANISMS", "Factorization", "factor", "inverse"]

#: How the rounds of a federation are protected: by sampling and fresh noise, or by correlated noise.
MECHANISMS = ("sampled", "factorized")

_MOST_ROUNDS = 100_000


@dataclass(frozen=True)
class Factorization:
    """The square-root Toeplitz mechanism over a planned number of rounds.

    Guarantees
    ----------
    With noise as in the module's formula, the releases of rounds 1 to r together are ONE Gaussian
    mechanism of sensitivity 1 and the multiplier that :meth:`mechanism` returns, for every unit
    that takes part at most once in any ``separation`` consecutive rounds. This holds although the
    data of a round depend on earlier releases (Denisov et al. 2022, theorem 2.1: C is lower
    triangular). No assumption on who is asked when, beyond the separation.

    Assumes
    -------
    Each participation adds one vector clipped to the bound; the noise vectors are fresh, secret and
    used with their lags; add-or-remove neighbors (a unit's contributions, all of them, or zeros).

    Edge cases
    ----------
    One round, or a separation of at least ``rounds``: each unit takes part once. Separation 1: in
    every round. Rounds that were skipped or in which a unit is absent cost nothing more and need
    no correction. More than 100000 rounds are refused.

    Parameters
    ----------
    rounds
        Planned rounds T, at least 1.
    separation
        At least so many rounds lie between the numbers of two rounds of one unit, >= 1.
    """

    rounds: int
    separation: int

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= _MOST_ROUNDS:
            raise PrivacyError(f"a factorization has 1 to {_MOST_ROUNDS} rounds, not {self.rounds}")
        if self.separation < 1:
            raise PrivacyError(f"a separation is at least 1 round, not {self.separation}")

    @property
    def participations(self) -> int:
        """Most participations of one unit."""
        return 1 + (self.rounds - 1) // self.separation

    def sensitivity(self, rounds: int | None = None) -> float:
        """Largest L2 norm of C x over all that one unit can add in the first ``rounds`` rounds.

        C has no negative entry and its columns fall, so vectors that all point the same way in
        rounds 1, 1 + separation, 1 + 2 separation, ... are the worst (Kalinin and Lampert 2024,
        theorem 2; tests compare with every pattern of small cases).

        Parameters
        ----------
        rounds
            0 to :attr:`rounds`; all of them by default.
        """
        count = self.rounds if rounds is None else rounds
        if not 0 <= count <= self.rounds:
            raise PrivacyError(f"round {count} of {self.rounds}")
        return _sensitivity(count, self.separation)

    def mechanism(self, noise_multiplier: float, rounds: int) -> Mechanism:
        """Return what the first ``rounds`` rounds cost: one step of a Gaussian mechanism.

        The noise is scaled for all planned rounds, so fewer rounds cost less. After 0 rounds the
        sampling rate is 0, which costs nothing.
        """
        spent = self.sensitivity(rounds)
        if spent == 0.0:
            return Mechanism(noise_multiplier, 0.0, "user")
        return Mechanism(noise_multiplier * self.sensitivity() / spent, 1.0, "user")

    def lags(self) -> npt.NDArray[np.float64]:
        """Return d, shape (T,): what a round adds of its own noise (d_0 = 1) and of that before it."""
        return inverse(self.rounds)

    def prefix_error(self, noise_multiplier: float) -> float:
        """RMS over rounds of the noise in a prefix sum, per coordinate, in units of the clip.

        Independent noise that protects as much has :meth:`independent_prefix_error`.
        """
        rows = np.cumsum(factor(self.rounds) ** 2)
        return noise_multiplier * self.sensitivity() * math.sqrt(float(rows.mean()))

    def independent_prefix_error(self, noise_multiplier: float) -> float:
        """Return the same for fresh noise in every round, without sampling: k participations, sqrt(k) the noise."""
        return noise_multiplier * math.sqrt(self.participations * (self.rounds + 1) / 2.0)

    def comparable_noise(self, noise_multiplier: float) -> float:
        """Noise multiplier of fresh noise on every round's sum that ends up in as noisy a backbone."""
        return self.prefix_error(noise_multiplier) / math.sqrt((self.rounds + 1) / 2.0)


def factor(rounds: int) -> npt.NDArray[np.float64]:
    """Return the first column c of C, shape (T,): c_0 = 1, c_j = c_{j-1} (2j - 1) / (2j)."""
    steps = np.arange(1, rounds)
    return np.concatenate([np.ones(min(rounds, 1)), np.cumprod((2.0 * steps - 1.0) / (2.0 * steps))])


def inverse(rounds: int) -> npt.NDArray[np.float64]:
    """Return the first column d of the inverse of C, shape (T,): d_0 = 1, d_j = d_{j-1} (2j - 3) / (2j)."""
    steps = np.arange(1, rounds)
    return np.concatenate([np.ones(min(rounds, 1)), np.cumprod((2.0 * steps - 3.0) / (2.0 * steps))])


@functools.lru_cache(maxsize=4096)  # a run asks again for every round that it reports
def _sensitivity(rounds: int, separation: int) -> float:
    column = factor(rounds)
    total = np.zeros(rounds)
    for start in range(0, rounds, separation):
        total[start:] += column[: rounds - start]
    return float(np.linalg.norm(total))
