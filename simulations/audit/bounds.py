"""From counted guesses to a lower bound on what leaked: the statistics of the audits.

Every function is a pure one of counts and a confidence. A bound at confidence ``1 - alpha`` is
above the truth with probability at most ``alpha``, whatever the truth is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared_model.errors import InputError
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon

__all__ = ["THRESHOLDS", "clopper_pearson", "epsilon_of", "mu_at_least", "one_run_epsilon", "one_run_p"]

Floats = npt.NDArray[np.float64]

#: Where scores are cut, in units of the clipping bound: half, one, two and five contributions.
THRESHOLDS = (0.5, 1.0, 2.0, 5.0)


def clopper_pearson(hits: int, trials: int, *, alpha: float) -> tuple[float, float]:
    """Return one-sided lower and upper bounds on a probability, each wrong with at most ``alpha``.

    Exact for independent trials (Clopper and Pearson 1934); for trials of unequal probability
    about their mean it is conservative in the tails (Hoeffding 1956).

    Edge cases
    ----------
    No hits: the lower bound is 0. Only hits: the upper bound is 1. No trials: (0, 1).
    """
    from scipy.stats import beta

    if not 0 <= hits <= trials or not 0.0 < alpha < 1.0:
        raise InputError(f"cannot bound {hits} hits of {trials} at error {alpha}")
    low = float(beta.ppf(alpha, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.isf(alpha, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def mu_at_least(inside: Floats, outside: Floats, *, alpha: float, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """Bound the Gaussian-DP parameter mu from below, from scores with and without a contribution.

    A mu-GDP mechanism allows a true positive rate of at most Phi(Phi^-1(FPR) + mu) (Dong, Roth and
    Su 2022). Both rates are bounded at each threshold; ``alpha`` is shared by all these bounds.

    Guarantees
    ----------
    Above the mechanism's mu with probability at most ``alpha``.

    Assumes
    -------
    Scores are independent given who is in: each canary has a coordinate of its own, and noise is
    independent across coordinates (:mod:`simulations.audit.freshness` tests that).

    Parameters
    ----------
    inside, outside
        Scores of canaries that took part and that did not, in units of the clipping bound.
    alpha
        Probability of a bound that is too high.
    thresholds
        Fixed beforehand; never chosen from the scores.
    """
    from scipy.special import ndtri

    each = alpha / (2 * len(thresholds))
    best = 0.0
    for cut in thresholds:
        hit, _ = clopper_pearson(int((inside > cut).sum()), inside.size, alpha=each)
        _, false = clopper_pearson(int((outside > cut).sum()), outside.size, alpha=each)
        if hit > 0.0 and false < 1.0:
            best = max(best, float(ndtri(hit) - ndtri(false)))
    return best


def epsilon_of(mu: float, *, sample_rate: float, steps: int, delta: float, unit: str) -> float:
    """Return the epsilon of ``steps`` subsampled Gaussian steps with sensitivity-to-noise ratio ``mu``.

    Edge cases
    ----------
    ``mu = 0`` (nothing seen) is 0.0.
    """
    if mu <= 0.0:
        return 0.0
    return epsilon([(Mechanism(1.0 / mu, sample_rate, unit), steps)], delta=delta)


def one_run_p(*, canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Bound the chance that an (epsilon, delta)-DP run lets so many guesses be right.

    Theorem 5.2 of Steinke, Nasr and Jagielski 2023 (Privacy Auditing with One (1) Training Run):
    each of ``canaries`` was in or out by an independent fair coin; ``guesses`` of the coins were
    guessed from the run's output, ``right`` of them rightly.

    Parameters
    ----------
    canaries, guesses, right
        ``0 <= right <= guesses <= canaries``.
    epsilon, delta
        The claim.
    """
    from scipy.stats import binom

    if not 0 <= right <= guesses <= canaries:
        raise InputError(f"{right} right of {guesses} guesses about {canaries} canaries cannot be")
    chance = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    if delta == 0.0 or right == 0:
        return min(1.0, tail)
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    steepest = float((below / np.arange(1, right + 1)).max())
    return min(1.0, tail + 2.0 * canaries * delta * steepest)


def one_run_epsilon(*, canaries: int, guesses: int, right: int, delta: float, alpha: float) -> float:
    """Return the largest epsilon that these guesses refute at error ``alpha`` (0.0 if none)."""

    def refuted(claim: float) -> bool:
        found = one_run_p(canaries=canaries, guesses=guesses, right=right, epsilon=claim, delta=delta)
        return found < alpha

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2.0 * high
        if high > 100.0:
            return low
    for _ in range(30):
        middle = (low + high) / 2.0
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
