"""The sum, the noise on it, and the server optimisers against their formulas."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from server.aggregation import StreamingSum, noisy_average, server_optimizer
from shared_model.discrete import lattice
from shared_model.errors import ConfigError, FederationError
from shared_model.noise import norm


def test_sum_is_exact_in_float64() -> None:
    total = StreamingSum(2)
    total.add(torch.tensor([1e8, 1.0]))
    for _ in range(1000):
        total.add(torch.tensor([1e-3, 0.0]))
    assert total.total[0].item() == pytest.approx(1e8 + 1.0, abs=1e-4)
    assert total.count == 1001


def test_wrong_length_is_refused_and_changes_nothing() -> None:
    total = StreamingSum(3)
    with pytest.raises(FederationError, match="shape"):
        total.add(torch.ones(1))
    assert total.count == 0
    assert not total.total.any()


def test_divisor_is_the_planned_cohort_not_the_replies() -> None:
    total = StreamingSum(4)
    total.add(torch.ones(4))
    assert noisy_average(total, planned=10, std=0.0).tolist() == pytest.approx([0.1] * 4)


def test_noise_on_the_sum_is_gaussian_of_the_stated_size() -> None:
    total = StreamingSum(20_000)
    average = noisy_average(total, planned=5, std=2.0)
    assert float(average.std()) == pytest.approx(2.0 / 5, rel=0.03)
    assert stats.kstest(average.numpy() / 0.4, "norm").pvalue > 1e-6
    assert not torch.equal(average, noisy_average(total, planned=5, std=2.0))


def test_on_the_lattice_the_sum_is_exact_in_any_order_and_no_update_grows() -> None:
    draw = torch.Generator().manual_seed(0)
    updates = [torch.randn(500, generator=draw) * 10.0**power for power in (-3, 0, 2)] * 40
    step = lattice(1.5)
    forward, backward = StreamingSum(500, step=step), StreamingSum(500, step=step)
    for update, other in zip(updates, reversed(updates), strict=True):
        forward.add(update)
        backward.add(other)
    assert torch.equal(forward.total, backward.total)
    assert bool((torch.frac(forward.total / step) == 0).all())
    alone = StreamingSum(500, step=step)
    alone.add(updates[0])
    assert norm(alone.total) <= norm(updates[0])
    plain = StreamingSum(500)
    for update in updates:
        plain.add(update)
    assert float((plain.total - forward.total).abs().max()) <= len(updates) * step


def test_what_is_released_is_a_function_of_whole_numbers() -> None:
    """Whatever the last bits of the updates were, sum and noise are whole lattice steps."""
    step = lattice(0.5)
    for value in (0.1, 0.1 + 2.0**-40):  # differ below the lattice only
        total = StreamingSum(3000, step=step)
        total.add(torch.full((3000,), value, dtype=torch.float64))
        average = noisy_average(total, planned=1, std=0.5).double()
        steps = average / step
        assert bool((steps == steps.round()).all())


def test_a_sum_off_the_lattice_is_put_on_it() -> None:
    total = StreamingSum(2)
    total.add(torch.tensor([0.1, 1e-9]))
    silent = noisy_average(total, planned=1, std=0.5, noise=lambda shape, std: torch.zeros(shape, dtype=torch.float64))
    steps = silent.double() / lattice(0.5)
    assert steps.tolist() == [round(0.1 / lattice(0.5)), 0.0]


def test_no_seed_reproduces_the_noise() -> None:
    total = StreamingSum(8)
    torch.manual_seed(1)
    first = noisy_average(total, planned=1, std=1.0)
    torch.manual_seed(1)
    assert not torch.equal(first, noisy_average(total, planned=1, std=1.0))


@pytest.mark.parametrize(("planned", "std"), [(0, 1.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_nonsense_is_refused(planned: int, std: float) -> None:
    with pytest.raises(FederationError):
        noisy_average(StreamingSum(2), planned=planned, std=std)


def steps(name: str, rate: float) -> list[np.ndarray]:
    optimizer = server_optimizer(name, rate=rate)
    weights = torch.zeros(2)
    moments = optimizer.start(weights)
    path = []
    for average in (torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.0])):
        before = {key: value.clone() for key, value in moments.items()}
        kept = moments
        weights, moments = optimizer.apply(weights, average, moments)
        assert all(torch.equal(kept[key], before[key]) for key in kept)
        path.append(weights.numpy())
    return path


def test_fedavg() -> None:
    first, second = steps("fedavg", 0.5)
    assert np.allclose(first, [0.5, -1.0])
    assert np.allclose(second, [1.0, -1.0])


def test_fedavgm() -> None:
    first, second = steps("fedavgm", 1.0)
    assert np.allclose(first, [1.0, -2.0])
    assert np.allclose(second, [1.0 + 1.9, -2.0 - 1.8])


def test_fedadam() -> None:
    first, _ = steps("fedadam", 0.1)
    second_moment = 0.99 * 1e-6 + 0.01 * np.array([1.0, 4.0])
    assert np.allclose(first, 0.1 * 0.1 * np.array([1.0, -2.0]) / (np.sqrt(second_moment) + 1e-3), rtol=1e-5)


def test_unknown_optimizer() -> None:
    with pytest.raises(ConfigError, match="fedavg"):
        server_optimizer("sgd", rate=1.0)
