"""Quantiles and the monotone curves between them."""

from __future__ import annotations

import torch

from shared_model.quantiles import curve, follow, quantiles, sample, soften


def test_quantiles_run_from_smallest_to_largest() -> None:
    rows = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 9.0]])
    torch.testing.assert_close(quantiles(rows, 5), torch.tensor([[1, 1.5, 2, 2.5, 3], [0, 0, 0, 4.5, 9]]))


def test_a_curve_moves_one_distribution_onto_another() -> None:
    generator = torch.Generator().manual_seed(0)
    normal, uniform = torch.randn(2, 5000, generator=generator), torch.rand(2, 5000, generator=generator) * 4 + 1
    moved = follow(normal, curve(quantiles(normal, 129), quantiles(uniform, 129)))
    torch.testing.assert_close(quantiles(moved, 17), quantiles(uniform, 17), atol=0.05, rtol=0)
    order = normal.argsort(1)
    assert bool((moved.gather(1, order).diff(dim=1) >= -1e-6).all())  # monotone


def test_equal_values_and_single_values_do_not_break() -> None:
    for rows in (torch.full((1, 9), 0.3), torch.zeros(3, 1)):
        moved = follow(rows, curve(quantiles(rows, 33), torch.linspace(0, 1, 33).expand(len(rows), -1)))
        assert bool(torch.isfinite(moved).all()) and float(moved.min()) >= 0 and float(moved.max()) <= 1


def test_a_sample_is_spread_evenly() -> None:
    rows = torch.arange(100_000.0)[None]
    taken = sample(rows)
    assert 5_000 < taken.shape[1] < 10_000 and len(taken[0].diff().unique()) == 1
    assert sample(rows[:, :50]).shape == (1, 50)


def test_a_soft_curve_is_monotone_and_nowhere_steep() -> None:
    generator = torch.Generator().manual_seed(0)
    spike = torch.cat(
        [torch.rand(1, 500, generator=generator), 0.97 + 0.004 * torch.rand(1, 4500, generator=generator)], 1
    )
    hard = curve(quantiles(spike, 129), torch.linspace(0, 1, 129)[None])
    soft = soften(hard, 0.05)
    inputs = torch.linspace(0, 1, 2001)[None]
    steepest = [float(follow(inputs, c).diff().max() / inputs.diff().max()) for c in (hard, soft)]
    assert steepest[0] > 100 and steepest[1] < 1 / 0.05 * 1.1
    assert bool((follow(inputs, soft).diff() >= -1e-6).all())
