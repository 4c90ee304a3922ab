"""Motion between two pictures: found, and carried along."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.motion import flow, moved, shift, warp
from shared_model.pyramid import box, luminance

Pictures = Callable[..., Tensor]


def uniform(down: float, across: float, like: Tensor) -> Tensor:
    return torch.tensor([down, across]).view(1, 2, 1, 1).expand(1, 2, *like.shape[-2:])


def window(big: Tensor, down: int, across: int, side: int = 96) -> Tensor:
    return big[:, :, 10 + down : 10 + down + side, 10 + across : 10 + across + side]


@pytest.fixture
def big(picture: Pictures) -> Tensor:
    return box(picture(3, 130, 140), 1)


@pytest.mark.parametrize("way", [(0, 0), (3, -5), (-9, 9)])
def test_a_whole_number_of_pixels_is_found_and_moves_exactly(big: Tensor, way: tuple[int, int]) -> None:
    before, after = window(big, 0, 0), window(big, *way)
    assert shift(luminance(before), luminance(after)) == pytest.approx(way, abs=0.02)
    moved, inside = warp(before, uniform(*way, before))
    assert float(((moved - after).abs() * inside).max()) < 1e-4
    assert float(inside.sum()) == (96 - abs(way[0])) * (96 - abs(way[1]))


def test_parts_of_a_pixel_a_zoom_and_a_moving_thing_are_found(big: Tensor) -> None:
    before = window(big, 0, 0)
    for field in (
        uniform(0.4, -1.3, before),
        torch.stack(torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij"))[None],
    ):
        after, _ = warp(before, field)
        error = (flow(before, after) - field).norm(dim=1)
        assert float(error[:, 8:-8, 8:-8].mean()) < 0.06
    after = before.clone()
    after[:, :, 30:66, 32:68] = before[:, :, 30:66, 30:66]  # a square moves two pixels to the right
    found = flow(before, after)
    assert float(found[0, 1, 42:54, 44:56].mean()) == pytest.approx(-2, abs=0.5)
    assert float(found[0, :, :20].abs().mean()) < 0.05


def test_flat_frames_and_tiny_frames_have_no_motion() -> None:
    assert shift(torch.full((1, 1, 32, 40), 0.5), torch.full((1, 1, 32, 40), 0.5)) == (0.0, 0.0)
    for size in ((1, 1), (3, 40), (9, 9)):
        x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
        assert float(flow(x, x).abs().max()) < 0.05


def test_there_and_back_by_a_part_of_a_pixel_is_nearly_the_same_picture(big: Tensor) -> None:
    assert moved(big, (0.0, 0.0)) is big
    smooth = box(big, 1)
    back = moved(moved(smooth, (0.5, -0.3)), (-0.5, 0.3))
    carried = warp(warp(smooth, uniform(0.5, -0.3, smooth))[0], uniform(-0.5, 0.3, smooth))[0]
    errors = [float((x - smooth).abs()[:, :, 8:-8, 8:-8].mean()) for x in (back, carried)]
    assert errors[0] < 0.7 * errors[1] and errors[0] < 0.002
    assert torch.allclose(moved(big, (1.0, 0.0))[:, :, :-6], big[:, :, 1:-5], atol=1e-5), "a whole pixel is exact"


def test_a_narrower_band_is_softer(big: Tensor) -> None:
    def contrast(x: Tensor) -> float:
        return float((x - box(x, 1)).abs().mean())

    kept = [contrast(moved(big, (0.0, 0.0), band=band)) / contrast(big) for band in (1.0, 0.9, 0.75)]
    assert kept[0] == 1.0 > kept[1] > kept[2] > 0.4
