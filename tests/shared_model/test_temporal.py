"""Steady clips: motion is found, agreement is kept, disagreement and cuts are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.errors import InputError
from shared_model.pyramid import box, luminance
from shared_model.temporal import Blend, State, flow, follow, shift, stabilise, warp

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


def test_the_first_frame_is_left_as_it_is(picture: Pictures) -> None:
    photo, painting = picture(1), picture(2)
    steady, state = stabilise(None, photo, painting)
    assert steady is painting and state.photo is photo and state.painting is painting
    rows, columns = state.scene[0]
    assert float(rows[7, 5]) == 7.0 and float(columns[7, 5]) == 5.0


def test_a_still_clip_settles_on_one_painting(picture: Pictures) -> None:
    """Paintings that boil around one picture come to rest: each step keeps most."""
    photo, calm = picture(1), 0.2 + 0.6 * picture(2)
    generator = torch.Generator().manual_seed(0)
    state, before, changes = None, None, []
    for _ in range(12):
        boiling = calm + 0.1 * torch.randn(calm.shape, generator=generator)
        steady, state = stabilise(state, photo, boiling)
        if before is not None:
            changes.append(float((steady - before).abs().mean()))
        before = steady
    assert changes[-1] < 0.15 * 0.1 * 1.13  # frame by frame: .1 sqrt(2) sqrt(2 / pi)
    assert float((before - calm).abs().mean()) < 0.05


def test_a_pan_carries_the_strokes_along(big: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    strokes = torch.rand(1, 3, 96, 96, generator=generator)
    first, second = window(big, 0, 0), window(big, 2, 3)
    _, state = stabilise(None, first, strokes)
    other = torch.rand(1, 3, 96, 96, generator=generator)
    steady, _ = stabilise(state, second, other)
    carried, inside = warp(strokes, uniform(2, 3, strokes))
    wanted = Blend().keep * carried + (1 - Blend().keep) * other
    close = ((steady - wanted).abs() * inside)[:, :, 4:-8, 4:-8]
    assert float(close.mean()) < 0.01
    assert torch.allclose(steady[:, :, -1], other[:, :, -1]), "uncovered ground is painted anew"


def test_where_the_photo_changed_the_new_painting_stands(picture: Pictures) -> None:
    photo = picture(1)
    changed = photo.clone()
    changed[:, :, 30:60, 40:80] = 1 - changed[:, :, 30:60, 40:80]
    old, new = torch.zeros_like(photo), torch.ones_like(photo)
    _, state = stabilise(None, photo, old)
    steady, _ = stabilise(state, changed, new, blend=Blend(cut=10.0))
    inner = steady[:, :, 36:54, 46:74]
    assert float(inner.mean()) > 0.9 and float(steady[:, :, :20].mean()) < 0.2


def test_a_cut_and_a_new_size_start_anew(picture: Pictures) -> None:
    _, state = stabilise(None, picture(1), picture(2))
    new = picture(4)
    steady, after = stabilise(state, 1 - picture(1), new)
    assert steady is new and after.painting is new
    small = picture(5, 64, 64)
    assert stabilise(state, small, small)[0] is small


def test_the_scene_goes_with_a_pan_and_new_ground_with_the_camera(big: Tensor) -> None:
    """Fractions of a pixel add up, and a cut begins anew."""
    state = None
    for frame in range(6):
        photo = torch.nn.functional.avg_pool2d(window(big, frame, 0), 2)  # half a pixel a frame
        step = follow(state, photo)
        state = State(photo, photo, step.scene)
    moved = step.scene - follow(None, photo).scene
    torch.testing.assert_close(moved[:, 0].median(), torch.tensor(2.5), atol=0.15, rtol=0)
    torch.testing.assert_close(moved[:, 0, -1].median(), torch.tensor(2.5), atol=0.3, rtol=0)
    assert float(moved[:, 1].median().abs()) < 0.1
    assert torch.equal(follow(state, 1 - photo, blend=Blend(cut=0.05)).scene, follow(None, photo).scene)


def test_keeping_nothing_changes_nothing(picture: Pictures) -> None:
    _, state = stabilise(None, picture(1), picture(2))
    new = picture(4)
    assert stabilise(state, picture(1), new, blend=Blend(keep=0.0))[0] is new


def test_mistakes_are_errors(picture: Pictures) -> None:
    for wrong in ({"keep": 1.0}, {"keep": -0.1}, {"keep": float("nan")}, {"tolerance": 0.0}, {"cut": -1.0}):
        with pytest.raises(InputError):
            Blend(**wrong)
    with pytest.raises(InputError, match="size"):
        stabilise(None, picture(1), picture(2, 10, 10))
