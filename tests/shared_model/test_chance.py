"""Chance that lies in a scene, not in the frame."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shared_model.chance import doubled, scattered
from shared_model.pyramid import lattice


def drawn(picture: Tensor, places: Tensor | None = None, *, tile: int = 512) -> Tensor:
    return scattered(picture, 2, generator=torch.Generator().manual_seed(0), places=places, tile=tile)


def test_every_pixel_has_its_own_normal_numbers() -> None:
    numbers = drawn(torch.zeros(1, 3, 200, 300))
    assert numbers.shape == (1, 2, 200, 300)
    assert abs(float(numbers.mean())) < 0.02 and abs(float(numbers.std()) - 1) < 0.02


def test_numbers_go_with_the_scene_and_come_again_after_a_tile() -> None:
    picture = torch.zeros(1, 1, 40, 50)
    here, moved = drawn(picture, tile=32), drawn(picture, lattice(picture) + 3.2, tile=32)
    assert torch.equal(moved[..., :20, :20], here[..., 3:23, 3:23])  # to the nearest pixel
    assert torch.equal(here[..., :8, :18], here[..., 32:, 32:])


@pytest.mark.parametrize("size", [(40, 50), (41, 49), (1, 1)])
def test_places_at_half_the_size_say_where_the_pixels_lie(size: tuple[int, int]) -> None:
    picture = torch.zeros(1, 3, *size)
    half = lattice(torch.zeros(1, 1, -(-size[0] // 2), -(-size[1] // 2)))
    found = doubled(half, picture)
    assert found is not None and torch.equal(found, lattice(picture))
    shifted = doubled(half + 2.5, picture)
    assert shifted is not None and torch.equal(shifted, lattice(picture) + 5)


def test_without_places_pixels_lie_where_they_are() -> None:
    picture = torch.zeros(1, 3, 8, 9)
    assert doubled(None, picture) is None
    assert torch.equal(drawn(picture), drawn(picture, lattice(picture)))
