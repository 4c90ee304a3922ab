"""The square-root mechanism: algebra, sensitivity against every pattern, cost, usefulness."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import binom

from shared_model.errors import PrivacyError
from shared_model.factorization import Factorization, factor, inverse
from shared_model.mechanism import Mechanism, default_delta
from shared_model.privacy import calibrate, epsilon


def toeplitz(column: np.ndarray) -> np.ndarray:
    size = len(column)
    return np.array([[column[i - j] if i >= j else 0.0 for j in range(size)] for i in range(size)])


@pytest.mark.parametrize("rounds", [1, 2, 7, 64])
def test_the_factor_is_the_root_of_all_prefix_sums_and_has_its_inverse(rounds: int) -> None:
    c, d = toeplitz(factor(rounds)), toeplitz(inverse(rounds))
    assert np.allclose(c @ c, np.tril(np.ones((rounds, rounds))), atol=1e-12)
    assert np.allclose(c @ d, np.eye(rounds), atol=1e-12)


def test_coefficients_are_the_binomial_series() -> None:
    steps = np.arange(12)
    assert np.allclose(factor(12), (-1.0) ** steps * binom(-0.5, steps))
    assert np.allclose(inverse(12), (-1.0) ** steps * binom(0.5, steps))
    assert (inverse(12)[1:] < 0).all()
    assert len(factor(0)) == len(inverse(0)) == 0


def patterns(rounds: int, separation: int, most: int) -> list[tuple[int, ...]]:
    """Every set of rounds in which one unit may take part."""
    return [
        chosen
        for count in range(1, most + 1)
        for chosen in itertools.combinations(range(rounds), count)
        if all(later - earlier >= separation for earlier, later in itertools.pairwise(chosen))
    ]


@pytest.mark.parametrize(("rounds", "separation"), [(t, b) for t in range(1, 10) for b in range(1, t + 2)])
def test_sensitivity_is_the_worst_of_every_pattern_and_sign(rounds: int, separation: int) -> None:
    """The square of the norm is convex in each vector, so unit vectors are worst; here all signs of one axis."""
    c, found = toeplitz(factor(rounds)), 0.0
    stated = Factorization(rounds, separation)
    for chosen in patterns(rounds, separation, rounds):
        assert len(chosen) <= stated.participations
        for signs in itertools.product((-1.0, 1.0), repeat=len(chosen)):
            found = max(found, float(np.linalg.norm(c[:, chosen] @ np.array(signs))))
    assert stated.sensitivity() == pytest.approx(found, rel=1e-12)


def test_no_directions_in_space_are_worse_than_one_axis() -> None:
    draw = np.random.default_rng(0)
    c, stated = toeplitz(factor(12)), Factorization(12, 3).sensitivity()
    for chosen in patterns(12, 3, 4):
        vectors = draw.normal(size=(20, len(chosen), 3))
        vectors /= np.maximum(1.0, np.linalg.norm(vectors, axis=2, keepdims=True))
        lengths = np.linalg.norm(np.einsum("tk,nkd->ntd", c[:, chosen], vectors), axis=(1, 2))
        assert lengths.max() <= stated * (1 + 1e-12)


def test_known_cases() -> None:
    assert Factorization(1, 1).sensitivity() == 1.0
    assert Factorization(50, 50).sensitivity() == pytest.approx(np.linalg.norm(factor(50)))
    assert Factorization(50, 1).sensitivity() == pytest.approx(np.linalg.norm(np.cumsum(factor(50))))
    assert [Factorization(10, b).participations for b in (1, 3, 5, 9, 10, 99)] == [10, 4, 2, 2, 1, 1]


@pytest.mark.parametrize(("rounds", "separation"), [(0, 1), (10, 0), (10**6, 1)])
def test_nonsense_is_refused(rounds: int, separation: int) -> None:
    with pytest.raises(PrivacyError):
        Factorization(rounds, separation)


def test_rounds_beyond_the_plan_are_refused() -> None:
    with pytest.raises(PrivacyError, match="round 11 of 10"):
        Factorization(10, 2).sensitivity(11)


def test_the_whole_run_is_one_gaussian_step_and_fewer_rounds_cost_less() -> None:
    plan = Factorization(20, 5)
    assert plan.mechanism(3.0, 20) == Mechanism(3.0, 1.0, "user")
    losses = [epsilon([(plan.mechanism(3.0, rounds), 1)], delta=1e-5) for rounds in range(21)]
    assert losses[0] == 0.0
    assert all(earlier < later for earlier, later in itertools.pairwise(losses))
    # The releases of 7 rounds see the leading 7 x 7 block of C, under the same noise.
    block = toeplitz(factor(20))[:7, :7]
    worst = max(np.linalg.norm(block[:, chosen].sum(axis=1)) for chosen in patterns(7, 5, 2))
    assert plan.mechanism(3.0, 7).noise_multiplier == pytest.approx(3.0 * plan.sensitivity() / worst)


def test_noise_for_a_target_is_solved_as_for_one_gaussian_step() -> None:
    noise = calibrate(target_epsilon=2.0, delta=1e-6, sample_rate=1.0, steps=1)
    assert 1.98 < epsilon([(Factorization(30, 6).mechanism(noise, 30), 1)], delta=1e-6) <= 2.0


@pytest.mark.parametrize(("rounds", "separation"), [(1, 1), (8, 3), (40, 40)])
def test_prefix_errors_are_those_of_the_matrices(rounds: int, separation: int) -> None:
    plan = Factorization(rounds, separation)
    prefix = np.tril(np.ones((rounds, rounds)))
    noise = prefix @ toeplitz(inverse(rounds)) * plan.sensitivity()
    assert plan.prefix_error(2.0) == pytest.approx(2.0 * math.sqrt((noise**2).sum(axis=1).mean()))
    fresh = prefix * math.sqrt(plan.participations)
    assert plan.independent_prefix_error(2.0) == pytest.approx(2.0 * math.sqrt((fresh**2).sum(axis=1).mean()))
    assert plan.comparable_noise(2.0) * math.sqrt((rounds + 1) / 2) == pytest.approx(plan.prefix_error(2.0))


def test_it_beats_fresh_noise_by_far() -> None:
    plan = Factorization(200, 100)
    assert plan.prefix_error(1.0) < plan.independent_prefix_error(1.0) / 3


def documented() -> list[list[float]]:
    """Rows of the table in docs/privacy.md that compares three kinds of noise."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
    section = text.split("## Without sampling")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[float(cell) for cell in row] for row in rows[2:]]


def test_the_documented_comparison_is_true() -> None:
    table = documented()
    assert len(table) == 5
    for population, cohort, rounds, participations, _, fresh, factorized in table:
        plan = Factorization(int(rounds), int(population // cohort))
        delta = default_delta(int(population))
        noise = calibrate(target_epsilon=2.0, delta=delta, sample_rate=1.0, steps=1)
        assert plan.participations == participations
        assert plan.independent_prefix_error(noise) == pytest.approx(fresh, rel=5e-3)
        assert plan.prefix_error(noise) == pytest.approx(factorized, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("row", range(5))
def test_the_documented_price_with_sampling_is_true(row: int) -> None:
    population, cohort, rounds, _, sampled, *_ = documented()[row]
    delta = default_delta(int(population))
    noise = calibrate(target_epsilon=2.0, delta=delta, sample_rate=cohort / population, steps=int(rounds))
    assert noise * math.sqrt((rounds + 1) / 2) == pytest.approx(sampled, rel=5e-3)
