"""The statistics of the audits: right on cases that can be computed another way, and never too bold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from shared_model.errors import InputError
from simulations.audit.bounds import clopper_pearson, epsilon_of, mu_at_least, one_run_epsilon, one_run_p
from simulations.audit.freshness import correlation_limit, echo_limit


def test_clopper_pearson_is_exact() -> None:
    low, high = clopper_pearson(37, 100, alpha=0.025)
    assert binom.sf(36, 100, low) == pytest.approx(0.025)
    assert binom.cdf(37, 100, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 10, alpha=0.05)[0] == 0.0
    assert clopper_pearson(10, 10, alpha=0.05)[1] == 1.0
    assert clopper_pearson(0, 0, alpha=0.05) == (0.0, 1.0)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(InputError):
        clopper_pearson(3, 2, alpha=0.05)
    with pytest.raises(InputError):
        one_run_p(canaries=2, guesses=3, right=1, epsilon=1.0, delta=0.0)


def test_mu_is_bounded_from_below_and_close() -> None:
    dice = np.random.default_rng(0)
    above = 0
    for _ in range(200):
        inside, outside = 1.0 + dice.normal(size=400), dice.normal(size=400)
        above += mu_at_least(inside, outside, alpha=0.2) > 1.0
    assert above <= 40, "a bound at error 0.2 may be too high in a fifth of the cases"
    many = mu_at_least(1.0 + dice.normal(size=20_000), dice.normal(size=20_000), alpha=0.05)
    assert 0.93 < many < 1.0


def test_nothing_seen_is_nothing_leaked() -> None:
    assert mu_at_least(np.zeros(50), np.zeros(50), alpha=0.05) == 0.0
    assert epsilon_of(0.0, sample_rate=0.1, steps=10, delta=1e-5, unit="example") == 0.0


def test_one_run_without_delta_is_the_binomial_tail() -> None:
    chance = math.exp(1.0) / (1.0 + math.exp(1.0))
    expected = binom.sf(89, 100, chance)
    assert one_run_p(canaries=100, guesses=100, right=90, epsilon=1.0, delta=0.0) == pytest.approx(expected)


def test_delta_enters_as_in_theorem_5_2() -> None:
    """The reference is the listing in appendix D of the paper, loop by loop."""
    m, r, v, eps, delta = 1000, 200, 170, 1.2, 1e-4
    chance = 1 / (1 + math.exp(-eps))
    total, alpha = 0.0, 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, chance)
        alpha = max(alpha, total / i)
    expected = min(1.0, binom.sf(v - 1, r, chance) + alpha * delta * 2 * m)
    assert one_run_p(canaries=m, guesses=r, right=v, epsilon=eps, delta=delta) == pytest.approx(expected)


def test_perfect_guesses_reach_the_known_ceiling() -> None:
    """All of a thousand coins right: dp = (0.05)^(1/1000), so epsilon is its log odds."""
    chance = 0.05 ** (1 / 1000)
    found = one_run_epsilon(canaries=1000, guesses=1000, right=1000, delta=0.0, alpha=0.05)
    assert found == pytest.approx(math.log(chance / (1 - chance)), rel=1e-3)
    assert one_run_epsilon(canaries=1000, guesses=1000, right=500, delta=0.0, alpha=0.05) == 0.0


def test_limits_of_correlation_are_what_chance_exceeds() -> None:
    dice = np.random.default_rng(1)
    pairs = dice.normal(size=(2000, 2, 200))
    found = np.abs((pairs[:, 0] * pairs[:, 1]).sum(1)) / np.prod(np.linalg.norm(pairs, axis=2), axis=1)
    assert (found > correlation_limit(200, 0.1)).mean() == pytest.approx(0.1, abs=0.03)
    assert echo_limit(10_000, 1e-7) < 0.08
