"""The lattice, and the sampler of the discrete Gaussian against its exact probabilities."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared_model import discrete
from shared_model.discrete import (
    MARGIN,
    add_toward_zero,
    discrete_normal,
    discrete_slack,
    lattice,
    to_lattice,
    toward_zero,
    widened,
    width,
)
from shared_model.errors import PrivacyError
from shared_model.mechanism import Mechanism
from shared_model.noise import norm
from shared_model.privacy import epsilon


def probabilities(spread: int, reach: int) -> np.ndarray:
    numbers = np.arange(-reach, reach + 1)
    weights = np.exp(-(numbers.astype(np.float64) ** 2) / (2.0 * spread**2))
    return weights / weights.sum()


def surprise(draws: np.ndarray, spread: int) -> float:
    """Return the p-value of a chi-square test against the exact probabilities, rare numbers in one bin."""
    reach = 12 * spread
    expected = probabilities(spread, reach) * len(draws)
    counted = np.bincount(draws + reach, minlength=2 * reach + 1).astype(np.float64)
    common = expected >= 10.0
    observed = np.append(counted[common], counted[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    return float(stats.chisquare(observed[wanted > 0], wanted[wanted > 0] * observed.sum() / wanted.sum()).pvalue)


@pytest.mark.parametrize("spread", [1, 2, 3, 10, 100])
def test_small_widths_match_the_exact_probabilities(spread: int) -> None:
    draws = discrete_normal(150_000, width=spread)
    assert draws.dtype == np.int64
    assert surprise(draws, spread) > 1e-6


def test_the_chi_square_test_can_fail() -> None:
    draws = np.rint(np.random.default_rng(0).normal(0.0, 1.0, 150_000)).astype(np.int64)  # rounded, not discrete
    assert surprise(draws, 1) < 1e-12
    wider = np.rint(np.random.default_rng(0).normal(0.0, 103.0, 150_000)).astype(np.int64)
    assert surprise(wider, 100) < 1e-12


@pytest.mark.parametrize("spread", [1 << 24, (1 << 24) + 12_345, (1 << 25) - 1, 1 << 26])
def test_wide_noise_has_the_moments_and_the_shape_of_a_gaussian(spread: int) -> None:
    draws = discrete_normal(400_000, width=spread) / spread
    assert abs(draws.mean()) < 6 / math.sqrt(len(draws))
    assert draws.var() == pytest.approx(1.0, abs=6 * math.sqrt(2 / len(draws)))
    assert (draws**4).mean() == pytest.approx(3.0, abs=6 * math.sqrt(96 / len(draws)))
    assert stats.kstest(draws, "norm").pvalue > 1e-6
    for threshold in (1.0, 2.0, 3.0, 4.0):
        tail = 2 * stats.norm.sf(threshold)
        assert (abs(draws) > threshold).mean() == pytest.approx(tail, abs=6 * math.sqrt(tail / len(draws)))


def test_every_residue_and_both_signs_are_equally_likely() -> None:
    draws = discrete_normal(300_000, width=(1 << 24) + 1)
    for modulus in (2, 3, 256):  # the low bits carry nothing
        assert stats.chisquare(np.bincount(draws % modulus, minlength=modulus)).pvalue > 1e-6
    assert (draws > 0).mean() == pytest.approx(0.5, abs=0.006)
    lagged = [float(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) for lag in (1, 2, 131_072)]
    assert max(map(abs, lagged)) < 0.02


def test_no_seed_reproduces_it() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        found.append(discrete_normal(32, width=1 << 24))
    assert not np.array_equal(*found)


def test_only_the_given_bytes_decide() -> None:
    def stream(seed: int) -> Callable[[int], bytes]:
        return np.random.default_rng(seed).bytes

    first, again, other = (discrete_normal(1000, width=1000, entropy=stream(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_tie_of_64_bits_is_decided_by_the_next_64() -> None:
    high, thresholds = discrete._thresholds()
    assert len(high) == 13 and thresholds == tuple(sorted(thresholds))
    for v, threshold in enumerate(thresholds[:5]):
        below, at = (threshold - 1, v), (threshold, v + 1)
        for value, expected in (below, at):
            answers = [(value >> 64).to_bytes(8, "little"), (value % 2**64).to_bytes(8, "little")]
            assert discrete._stairs(1, lambda count, answers=answers: answers.pop(0)).tolist() == [expected]
    with localcontext(prec=50):
        share = 1 / sum((Decimal(-v * v) / 2).exp() for v in range(20))
        assert abs(Decimal(thresholds[0]) / 2**128 - share) < Decimal(2) ** -120


def test_uniform_words_are_not_biased() -> None:
    """Words above the last whole multiple of the bound would make small numbers likelier: they are drawn again."""
    words = np.array([2**32 - 1, 7, 5], dtype=np.uint32)
    served = [words[:2].tobytes(), words[2:].tobytes()]
    assert discrete._uniform(2, 3 << 30, lambda count: served.pop(0)).tolist() == [5, 7]


@pytest.mark.parametrize("width", [5, (1 << 24) + 1, (1 << 25) + 1])
@pytest.mark.parametrize("byte", [0xFF, 0x7F, 0x55])
def test_a_stuck_generator_ends_in_an_error_or_in_finite_numbers(width: int, byte: int) -> None:
    try:
        draws = discrete_normal(5, width=width, entropy=lambda count: bytes([byte]) * count)
    except PrivacyError as error:
        assert "random" in error.message
    else:
        assert np.abs(draws).max() < 15 * width


def test_edge_cases_and_bad_widths() -> None:
    assert discrete_normal(0, width=5).shape == (0,)
    for bad in (0, -1, (1 << 26) + 1):
        with pytest.raises(PrivacyError, match="width"):
            discrete_normal(1, width=bad)
    for std in (0.0, -1.0, math.inf, math.nan, 1e-300):
        with pytest.raises(PrivacyError, match="lattice"):
            lattice(std)


@given(st.floats(1e-12, 1e12))
def test_the_lattice_is_a_power_of_two_far_finer_than_the_noise(std: float) -> None:
    step = lattice(std)
    assert math.frexp(step)[0] == 0.5
    assert 2.0**24 <= std / step < 2.0**25
    assert std * (1 + MARGIN) <= width(std) * step <= std * (1 + 2 * MARGIN)
    assert width(std) <= 1 << 26


@given(st.lists(st.floats(-(2.0**66), 2.0**66, width=32), max_size=30), st.floats(1e-9, 1e9))
def test_cutting_towards_zero_never_lengthens(numbers: list[float], std: float) -> None:
    vector = torch.tensor(numbers, dtype=torch.float32)
    step = lattice(std)
    cut = toward_zero(vector, step=step)
    assert cut.dtype == torch.float64
    assert bool((cut.abs() <= vector.double().abs()).all()) and norm(cut) <= norm(vector)
    assert bool(((vector.double() - cut).abs() < step).all())
    assert bool((torch.frac(cut / step) == 0).all())
    assert torch.equal(toward_zero(cut, step=step), cut)
    assert bool(((to_lattice(vector, step=step) - vector.double()).abs() <= step / 2).all())
    assert torch.equal(toward_zero(vector, step=0.0), vector.double())


@pytest.mark.parametrize("spread", [8, 16, 32])
def test_rounded_continuous_noise_differs_by_the_stated_factor(spread: int) -> None:
    """The step of the proof: discrete against rounded continuous Gaussian is exp(((z/w)^2 - 1) / (24 w^2))."""
    numbers = np.arange(-4 * spread, 4 * spread + 1)
    rounded = stats.norm.cdf((numbers + 0.5) / spread) - stats.norm.cdf((numbers - 0.5) / spread)
    exact = probabilities(spread, 12 * spread)[8 * spread : -8 * spread]
    predicted = ((numbers / spread) ** 2 - 1.0) / (24.0 * spread**2)
    assert np.abs(np.log(rounded / exact) - predicted).max() < 2.0 / spread**4


@pytest.mark.parametrize(("noise", "rounds"), [(0.5, 1), (1.0, 10), (10.0, 100), (40.0, 1000)])
def test_the_margin_pays_for_discreteness_and_for_the_slack_of_the_clip(noise: float, rounds: int) -> None:
    """The wider noise, less what it has to pay for, still costs no more than what is accounted."""
    asked = epsilon([(Mechanism(noise, 1.0, "user"), rounds)], delta=1e-6)
    drawn = epsilon([(Mechanism(noise * (1.0 + MARGIN) / (1.0 + 1e-6), 1.0, "user"), rounds)], delta=1e-6)
    assert drawn + discrete_slack(650_000, rounds=rounds) <= asked


def test_rounding_a_sum_is_covered_by_the_wider_noise() -> None:
    for noise, bound, count in ((1.0, 0.5, 650_000), (30.0, 1.0, 2_000_000), (0.4, 2.0, 7)):
        std = widened(noise * bound, noise_multiplier=noise, parameters=count)
        assert std >= noise * (bound + lattice(std) * math.sqrt(count))
    assert widened(0.0, noise_multiplier=0.0, parameters=5) == 0.0


def test_a_whole_backbone_is_noised_within_a_second() -> None:
    before = time.process_time()
    discrete_normal(630_000, width=1 << 24, entropy=os.urandom)
    assert time.process_time() - before < 1.0


@pytest.mark.parametrize("step", [0.0, 2.0**-20, 2.0**-60])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_adding_in_blocks_gives_the_bits_of_adding_at_once(step: float, dtype: torch.dtype) -> None:
    drawn = torch.randn(70_001, generator=torch.Generator().manual_seed(0)).to(dtype)
    total = torch.randn(70_001, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = total + toward_zero(drawn, step=step)
    add_toward_zero(total, drawn, step=step)
    assert torch.equal(total, expected)


def test_an_array_that_cannot_be_changed_is_added_like_a_tensor() -> None:
    drawn = np.random.default_rng(0).standard_normal(70_001).astype(np.float32)
    drawn.flags.writeable = False
    for step in (0.0, 2.0**-20):
        total, expected = (torch.ones(70_001, dtype=torch.float64) for _ in range(2))
        add_toward_zero(total, drawn, step=step)
        add_toward_zero(expected, torch.from_numpy(drawn.copy()), step=step)
        assert torch.equal(total, expected)
