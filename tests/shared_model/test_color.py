"""Palettes: photos move onto a painting's, finished paintings halfway back to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.color import ColorStats, nearer, transfer


def test_transfer_reaches_mean_and_covariance(picture: Callable[..., Tensor]) -> None:
    photo, painting = 0.4 + 0.1 * picture(1), 0.3 + 0.2 * picture(2)
    moved = ColorStats.of([transfer(photo, ColorStats.of([painting]))])
    wanted = ColorStats.of([painting])
    torch.testing.assert_close(moved.mean, wanted.mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(moved.covariance, wanted.covariance, atol=2e-3, rtol=0)


def test_transfer_to_its_own_palette_changes_nothing(picture: Callable[..., Tensor]) -> None:
    photo = 0.2 + 0.6 * picture(3)
    torch.testing.assert_close(transfer(photo, ColorStats.of([photo])), photo, atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_single_colored_picture_stays_finite_and_in_range(value: float, picture: Callable[..., Tensor]) -> None:
    flat = torch.full((1, 3, 5, 7), value)
    for photo, painting in ((flat, picture(4)), (picture(4), flat)):
        moved = transfer(photo, ColorStats.of([painting]))
        assert bool(torch.isfinite(moved).all()) and float(moved.min()) >= 0 and float(moved.max()) <= 1


def _spread(picture: Tensor) -> Tensor:
    return picture[0].flatten(1).std(1)


def test_a_painting_comes_halfway_back_to_its_palette(picture: Callable[..., Tensor]) -> None:
    wanted = 0.3 + 0.3 * picture(2)
    faded = 0.05 + wanted.mean((2, 3), keepdim=True) + 0.8 * (wanted - wanted.mean((2, 3), keepdim=True))
    stats = ColorStats.of([wanted])
    back = nearer(faded, stats)
    torch.testing.assert_close(back.mean((0, 2, 3)), wanted.mean((0, 2, 3)) + 0.025, atol=2e-3, rtol=0)
    torch.testing.assert_close(_spread(back), 0.9 * _spread(wanted), atol=4e-3, rtol=0)
    assert torch.equal(nearer(faded, replace(stats, share=0.0)), faded)  # a head in the photo's own colors


def test_a_flat_sky_stays_flat(picture: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    sky = 0.5 + 0.01 * torch.randn(1, 3, 40, 40, generator=generator)
    done = nearer(sky, ColorStats.of([picture(2)]))
    assert bool((_spread(done) <= 1.26 * _spread(sky)).all())  # sevenfold, were it moved all of the way


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_single_colored_painting_stays_finite_and_in_range(value: float, picture: Callable[..., Tensor]) -> None:
    flat = torch.full((1, 3, 5, 7), value)
    for painted, palette in ((flat, picture(4)), (picture(4), flat), (flat, flat)):
        done = nearer(painted, ColorStats.of([palette]))
        assert bool(torch.isfinite(done).all()) and float(done.min()) >= 0 and float(done.max()) <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_overflow_stay_so_for_the_engine_to_refuse(value: float, picture: Callable[..., Tensor]) -> None:
    assert not bool(torch.isfinite(nearer(torch.full((1, 3, 5, 7), value), ColorStats.of([picture(4)]))).all())
