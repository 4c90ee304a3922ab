"""Sorting through packed integers equals torch.sort, gradients and all."""

from __future__ import annotations

import pytest
import torch

from shared_model.sorting import sort_rows


def _rows() -> torch.Tensor:
    x = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(1))
    x[0, 0, :5], x[0, 0, 7:9], x[1, 1, 3], x[1, 1, 4] = 0.25, -0.25, torch.inf, -torch.inf
    x[2, 2] *= 1e-42  # numbers so small that they are subnormal
    return x


def test_values_and_gradients_are_those_of_torch() -> None:
    weight = torch.linspace(-1, 2, 50)
    ours, theirs = _rows().requires_grad_(), _rows().requires_grad_()
    first, second = sort_rows(ours), theirs.sort(dim=-1, stable=True).values
    assert torch.equal(first, second)
    (first.clamp(-9, 9) * weight).sum().backward()
    (second.clamp(-9, 9) * weight).sum().backward()
    assert ours.grad is not None and theirs.grad is not None and torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gradients_per_record_are_those_of_each_record(dim: int) -> None:
    weight = torch.linspace(-1, 2, 50)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (sort_rows(x).clamp(-9, 9) * weight).sum()

    x = _rows()
    made = torch.func.vmap(torch.func.grad(loss), in_dims=dim)(x.movedim(0, dim))
    for got, row in zip(made, x, strict=True):
        assert torch.equal(got, torch.func.grad(loss)(row))


def test_other_kinds_of_numbers_are_left_to_torch() -> None:
    assert sort_rows(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)).tolist() == [1, 2, 3]
    assert sort_rows(torch.tensor([[2.0, -0.0, -1.0]]).t()).tolist() == [[2.0], [-0.0], [-1.0]]
