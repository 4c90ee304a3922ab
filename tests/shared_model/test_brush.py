"""How a brush sees and moves: flattened grain, kept edges, strokes along the shapes."""

from __future__ import annotations

import pytest
import torch

from shared_model.brush import abstract, bristles, directions, trails


def _stripes(vertical: bool) -> torch.Tensor:
    wave = 0.5 + 0.4 * torch.sin(torch.arange(96) / 3.0)
    return (wave.view(1, 1, 1, 96) if vertical else wave.view(1, 1, 96, 1)).expand(1, 3, 96, 96).contiguous()


def test_grain_goes_and_edges_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    edge = torch.zeros(1, 3, 64, 64)
    edge[:, :, :, 32:] = 0.8
    photo = (edge + 0.1 + 0.04 * torch.randn(1, 3, 64, 64, generator=generator)).clamp(0, 1)
    done = abstract(photo, 1.0)
    assert float(done[:, :, 8:-8, 4:24].std()) < 0.5 * float(photo[:, :, 8:-8, 4:24].std())
    assert float((done[:, :, :, 34] - done[:, :, :, 29]).mean()) > 0.7


def test_amount_goes_from_the_photo_to_the_filter() -> None:
    photo = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(2))
    none, half, full = (abstract(photo, a) for a in (0.0, 0.5, 1.0))
    assert torch.equal(none, photo)
    torch.testing.assert_close(half, (photo + full) / 2)
    assert float(full.min()) >= 0 and float(full.max()) <= 1


@pytest.mark.parametrize("vertical", [True, False])
def test_directions_run_along_stripes(vertical: bool) -> None:
    along = directions(_stripes(vertical))[:, :, 8:-8, 8:-8]
    across, down = along[:, 0].abs().mean(), along[:, 1].abs().mean()
    assert (float(down) > 0.95 > 0.2 > float(across)) if vertical else (float(across) > 0.95 > 0.2 > float(down))
    torch.testing.assert_close(along.norm(dim=1), torch.ones_like(along[:, 0]))


def test_strokes_in_even_places_follow_the_shapes_around_them() -> None:
    picture = _stripes(vertical=True).clone()
    grain = 0.004 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    picture[:, :, 16:80, 16:80] = 0.5 + grain  # stripes all around a place without a shape
    along = directions(picture)[:, :, 16:32, 16:32]  # away from its edges
    assert float((along[:, 1].abs() > 0.8).float().mean()) > 0.9


def test_strokes_hatch_as_a_right_hand_does_where_there_is_no_shape() -> None:
    along = directions(torch.full((1, 3, 40, 60), 0.5))
    torch.testing.assert_close(along[:, 0], -along[:, 1])  # to the right and up


def test_bristles_are_long_along_the_shape_and_short_across() -> None:
    noise = torch.randn(1, 1, 48, 48, generator=torch.Generator().manual_seed(3))
    drawn = bristles(noise, trails(directions(_stripes(vertical=True)), 5))[0, 0]
    inner = drawn[8:-8, 8:-8]
    along, across = (inner[1:] - inner[:-1]).abs().mean(), (inner[:, 1:] - inner[:, :-1]).abs().mean()
    assert float(along) < 0.5 * float(across)
    assert abs(float(drawn.mean())) < 1e-5 and abs(float(drawn.std()) - 1) < 0.01


def test_no_steps_keep_the_noise() -> None:
    noise = torch.randn(1, 1, 20, 30, generator=torch.Generator().manual_seed(3))
    drawn = bristles(noise, trails(directions(torch.rand(1, 3, 40, 60)), 0))
    torch.testing.assert_close(drawn, (noise - noise.mean()) / noise.std(correction=0))


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 9)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size)
    along = directions(picture)
    assert abstract(picture, 0.5).shape == picture.shape
    assert bool(torch.isfinite(bristles(torch.randn(1, 1, *along.shape[-2:]), trails(along, 4))).all())
