"""Accounting: an upper bound that composes, merges and calibrates."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from shared_model import privacy
from shared_model.discrete import lattice, widened
from shared_model.errors import PrivacyError
from shared_model.mechanism import coarsen
from shared_model.privacy import Mechanism, private_optimizer


def user(noise: float, rate: float) -> Mechanism:
    return Mechanism(noise, rate, "user")


def gaussian_delta(eps: float, mu: float) -> float:
    return float(ndtr(mu / 2 - eps / mu) - math.exp(eps) * ndtr(-mu / 2 - eps / mu))


def hockey_stick(eps: float, noise: float, rate: float, *, removed: bool) -> float:
    """Delta of ONE subsampled step by direct integration, in either direction."""
    x = np.linspace(-40.0 * noise, 40.0 * noise + 1.0, 2_000_001)
    with np.errstate(under="ignore"):
        empty = np.exp(-(x**2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
        mixed = (1 - rate) * empty + rate * np.exp(-((x - 1) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
    first, second = (mixed, empty) if removed else (empty, mixed)
    return float(np.trapezoid(np.maximum(first - math.exp(eps) * second, 0.0), x))


def test_empty_history_zero_steps_and_zero_rate_cost_nothing() -> None:
    assert privacy.epsilon([], delta=1e-5) == 0.0
    assert privacy.epsilon([(user(1.0, 0.1), 0)], delta=1e-5) == 0.0
    assert privacy.epsilon([(user(0.0, 0.0), 5)], delta=1e-5) == 0.0


def test_no_noise_is_infinite_even_in_good_company() -> None:
    assert privacy.epsilon([(user(0.0, 0.1), 1), (user(9.0, 0.1), 1)], delta=1e-5) == math.inf


@pytest.mark.parametrize(("noise", "steps"), [(0.5, 1), (2.0, 10), (20.0, 100), (80.0, 3)])
def test_full_batch_matches_the_exact_gaussian_formula(noise: float, steps: int) -> None:
    eps = privacy.epsilon([(user(noise, 1.0), steps)], delta=1e-5)
    mu = math.sqrt(steps) / noise
    assert gaussian_delta(eps, mu) <= 1e-5
    assert gaussian_delta(eps * (1 - 1e-6), mu) > 1e-5


def test_full_batch_with_a_loose_delta_costs_nothing() -> None:
    assert gaussian_delta(0.0, 1 / 50) < 0.1
    assert privacy.epsilon([(user(50.0, 1.0), 1)], delta=0.1) == 0.0


@pytest.mark.parametrize(("noise", "rate"), [(0.6, 0.1), (1.0, 0.01), (2.0, 0.5), (0.5, 0.9)])
def test_one_step_is_an_upper_bound_in_both_directions(noise: float, rate: float) -> None:
    eps = privacy.epsilon([(user(noise, rate), 1)], delta=1e-5)
    assert hockey_stick(eps, noise, rate, removed=True) <= 1e-5
    assert hockey_stick(eps, noise, rate, removed=False) <= 1e-5
    assert hockey_stick(eps * 0.9 - 0.05, noise, rate, removed=True) > 1e-5, "far too loose"


def composed_delta_epsilon(noise: float, rate: float, steps: int, delta: float, *, removed: bool) -> float:
    """Privacy loss distribution by plain FFT convolution, independent of Opacus (an estimate)."""
    width, reach = 1e-4, 30.0
    count = 2 * int(reach / width) + 1
    edges = (np.arange(count + 1) - count // 2 - 0.5) * width
    with np.errstate(divide="ignore"):
        loss_to_x = noise**2 * np.log(np.maximum((np.exp(edges) + rate - 1) / rate, 0.0)) + 0.5
    if removed:
        masses = np.diff((1 - rate) * ndtr(loss_to_x / noise) + rate * ndtr((loss_to_x - 1) / noise))
    else:
        masses = np.diff(1 - ndtr(loss_to_x / noise)[::-1])
    spectrum = np.fft.rfft(np.roll(masses, -(count // 2)))
    total = np.roll(np.fft.irfft(spectrum**steps, count), count // 2)
    grid = (np.arange(count) - count // 2) * width
    low, high = 0.0, reach
    for _ in range(40):
        middle = (low + high) / 2
        above = grid > middle
        spent = float((total[above] * -np.expm1(middle - grid[above])).sum())
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(0.635, 0.001, 1000, 2.5e-7), (1.0, 0.008, 1000, 1e-5), (0.5, 0.01, 200, 1e-5), (2.0, 0.4, 20, 1e-5)],
)
def test_composition_covers_both_directions_of_an_independent_accountant(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    eps = privacy.epsilon([(user(noise, rate), steps)], delta=delta)
    removed = composed_delta_epsilon(noise, rate, steps, delta, removed=True)
    assert removed - 1e-3 <= eps <= removed * 1.02 + 0.01
    assert composed_delta_epsilon(noise, rate, steps, delta, removed=False) <= eps


def test_order_and_splitting_do_not_matter() -> None:
    first, second = user(1.0, 0.04), user(2.0, 0.1)
    together = privacy.epsilon([(first, 20), (second, 30)], delta=1e-5)
    alternating = [(second, 1), (first, 1)] * 20 + [(second, 10)]
    begin = time.perf_counter()
    assert privacy.epsilon(alternating, delta=1e-5) == together
    assert time.perf_counter() - begin < 5.0


def test_full_batch_steps_compose_with_subsampled_ones() -> None:
    sampled, full = (user(1.0, 0.04), 100), (user(2.0, 1.0), 3)
    both = privacy.epsilon([sampled, full], delta=1e-5)
    assert both > max(privacy.epsilon([sampled], delta=1e-5), privacy.epsilon([full], delta=1e-5))
    assert both < privacy.epsilon([sampled], delta=5e-6) + privacy.epsilon([full], delta=5e-6)


def test_more_steps_more_sampling_less_noise_cost_more() -> None:
    base = privacy.epsilon([(user(1.0, 0.05), 50)], delta=1e-5)
    assert privacy.epsilon([(user(1.0, 0.05), 100)], delta=1e-5) > base
    assert privacy.epsilon([(user(1.0, 0.1), 50)], delta=1e-5) > base
    assert privacy.epsilon([(user(0.8, 0.05), 50)], delta=1e-5) > base
    assert privacy.epsilon([(user(1.0, 0.05), 50)], delta=1e-7) > base


def test_hopeless_and_extreme_histories_stay_finite_or_infinite_never_small() -> None:
    assert privacy.epsilon([(user(0.05, 0.01), 100)], delta=1e-5) > 1000
    assert privacy.epsilon([(user(1e-3, 0.5), 10)], delta=1e-5) > 1000
    assert privacy.epsilon([(user(1.0, 0.01), 10)], delta=1e-12) > privacy.epsilon([(user(1.0, 0.01), 10)], delta=1e-8)


def test_many_different_mechanisms_are_coarsened_upwards() -> None:
    history = [(user(1.0 + 0.001 * i, 0.01 + 0.0001 * i), 2) for i in range(60)]
    coarse = coarsen(privacy.merge(history), limit=12)
    assert len(coarse) <= 12
    assert sum(steps for _, steps in coarse) == 120
    eps = privacy.epsilon(history, delta=1e-5)
    assert eps >= privacy.epsilon([(user(1.06, 0.01), 120)], delta=1e-5)
    assert eps <= privacy.epsilon([(user(0.9, 0.018), 120)], delta=1e-5)


def test_units_never_mix_and_bad_values_are_refused() -> None:
    mixed = [(user(1.0, 0.1), 1), (Mechanism(1.0, 0.1, "example"), 1)]
    with pytest.raises(PrivacyError, match="cannot be composed"):
        privacy.epsilon(mixed, delta=1e-5)
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(PrivacyError, match="delta"):
            privacy.epsilon([], delta=delta)
    with pytest.raises(PrivacyError, match="negative"):
        privacy.epsilon([(user(1.0, 0.1), -1)], delta=1e-5)
    for noise, rate, unit in ((-1.0, 0.1, "user"), (math.nan, 0.1, "user"), (1.0, 1.5, "user"), (1.0, 0.1, "group")):
        with pytest.raises(PrivacyError):
            Mechanism(noise, rate, unit)


@pytest.mark.parametrize(
    ("target", "rate", "steps"), [(2.0, 0.01, 200), (8.0, 0.1, 200), (1.0, 1.0, 50), (0.2, 0.001, 10), (20.0, 0.4, 3)]
)
def test_calibration_meets_its_target_and_wastes_little(target: float, rate: float, steps: int) -> None:
    noise = privacy.calibrate(target_epsilon=target, delta=1e-5, sample_rate=rate, steps=steps)
    assert privacy.epsilon([(user(noise, rate), steps)], delta=1e-5) <= target
    assert privacy.epsilon([(user(noise * 0.99, rate), steps)], delta=1e-5) > target


def test_calibration_agrees_with_published_table() -> None:
    # N = 1e4, cohort 1000, 200 rounds, delta = N^-1.1: 2.80 at epsilon 2.
    noise = privacy.calibrate(target_epsilon=2.0, delta=1e4**-1.1, sample_rate=0.1, steps=200)
    assert noise == pytest.approx(2.80, abs=0.02)


def test_calibration_edge_cases() -> None:
    assert privacy.calibrate(target_epsilon=math.inf, delta=1e-5, sample_rate=0.1, steps=5) == 0.0
    assert privacy.calibrate(target_epsilon=1.0, delta=1e-5, sample_rate=0.1, steps=0) == 0.0
    with pytest.raises(PrivacyError, match="target"):
        privacy.calibrate(target_epsilon=0.0, delta=1e-5, sample_rate=0.1, steps=5)
    with pytest.raises(PrivacyError, match="no amount of noise"):
        privacy.calibrate(target_epsilon=1e-9, delta=1e-12, sample_rate=1.0, steps=10**6)


def test_default_delta() -> None:
    assert privacy.default_delta(20) == 1e-5
    assert privacy.default_delta(10**6) == pytest.approx(10**-6.6)
    with pytest.raises(PrivacyError):
        privacy.default_delta(0)


def test_usefulness_gives_numbers() -> None:
    assert privacy.noise_to_signal(0.81, 1000, 1_390_000) == pytest.approx(0.955, abs=0.01)
    fine = privacy.usefulness(noise_multiplier=0.81, cohort=1000, population=100_000, parameters=650_000)
    assert fine == ""
    small = privacy.usefulness(noise_multiplier=2.35, cohort=100, population=1000, parameters=650_000)
    assert "1000 devices" in small and "19" in small and "650000 parameters" in small
    assert privacy.usefulness(noise_multiplier=0.0, cohort=3, population=3, parameters=650_000) == ""


def test_a_drowned_fleet_is_refused_unless_accepted() -> None:
    with pytest.raises(PrivacyError, match="1000 devices") as caught:
        privacy.require_useful(noise_multiplier=2.35, cohort=100, population=1000, parameters=650_000)
    assert caught.value.hint
    accepted = privacy.require_useful(
        noise_multiplier=2.35, cohort=100, population=1000, parameters=650_000, accept=True
    )
    assert "noise" in accepted
    with pytest.raises(PrivacyError, match="cohort"):
        privacy.noise_to_signal(1.0, 0, 10)


def test_accounting_leaves_warnings_and_torch_seed_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        privacy.epsilon([(user(3.0, 0.2), 7)], delta=1e-5)
    assert torch.equal(before, torch.get_rng_state())


def test_the_private_step_releases_whole_lattice_steps_with_enough_noise() -> None:
    parameter = torch.nn.Parameter(torch.zeros(40_000))
    noise, bound = 2.0, 0.25
    optimizer = private_optimizer(
        torch.optim.SGD([parameter], lr=1.0),
        mechanism=Mechanism(noise, 1.0, "example"),
        bound=bound,
        expected_batch=1.0,
    )
    parameter.grad_sample = torch.randn(3, 40_000, generator=torch.Generator().manual_seed(0))
    optimizer.clip_and_accumulate()
    optimizer.add_noise()
    std = widened(noise * bound, noise_multiplier=noise, parameters=40_000)
    steps = parameter.grad.double() / lattice(std)
    assert torch.equal(steps, steps.round())
    assert float(parameter.grad.double().std()) == pytest.approx(noise * bound, rel=0.03)


def test_the_private_step_without_noise_is_the_exact_clipped_sum() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = private_optimizer(
        torch.optim.SGD([parameter], lr=1.0), mechanism=Mechanism(0.0, 1.0, "example"), bound=10.0, expected_batch=1.0
    )
    parameter.grad_sample = torch.tensor([[0.1, 0.2, 0.3]])
    optimizer.clip_and_accumulate()
    optimizer.add_noise()
    assert parameter.grad.tolist() == pytest.approx([0.1, 0.2, 0.3], rel=1e-6)
