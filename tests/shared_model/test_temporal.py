"""Steady clips: frames find their place in the scene; agreement is kept, disagreement and cuts are not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.errors import InputError
from shared_model.motion import moved, warp
from shared_model.pyramid import box
from shared_model.temporal import Blend, State, shown, stabilise, view

Pictures = Callable[..., Tensor]


def uniform(down: float, across: float, like: Tensor) -> Tensor:
    return torch.tensor([down, across]).view(1, 2, 1, 1).expand(1, 2, *like.shape[-2:])


def window(big: Tensor, down: int, across: int, side: int = 96) -> Tensor:
    return big[:, :, 10 + down : 10 + down + side, 10 + across : 10 + across + side]


@pytest.fixture
def big(picture: Pictures) -> Tensor:
    return box(picture(3, 130, 140), 1)


def follow(last: State | None, photo: Tensor, painting: Tensor, blend: Blend | None = None) -> tuple[Tensor, State]:
    """Blend a painting in without looking at where it lies."""
    seen = view(last, photo, blend=blend)
    state = stabilise(last, seen, painting)
    return shown(seen, state), state


def test_the_first_frame_is_left_as_it_is(picture: Pictures) -> None:
    photo, painting = picture(1), picture(2)
    steady, state = follow(None, photo, painting)
    assert steady is painting and state == State(photo, painting, (0, 0))


def test_a_still_clip_settles_on_one_painting(picture: Pictures) -> None:
    """Paintings that boil around one picture come to rest: each step keeps most."""
    photo, calm = picture(1), 0.2 + 0.6 * picture(2)
    generator = torch.Generator().manual_seed(0)
    state, before, changes = None, None, []
    for _ in range(12):
        boiling = calm + 0.1 * torch.randn(calm.shape, generator=generator)
        steady, state = follow(state, photo, boiling)
        if before is not None:
            changes.append(float((steady - before).abs().mean()))
        before = steady
    assert changes[-1] < 0.15 * 0.1 * 1.13  # frame by frame: .1 sqrt(2) sqrt(2 / pi)
    assert float((before - calm).abs().mean()) < 0.05


def test_a_pan_carries_the_strokes_along(big: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    strokes = torch.rand(1, 3, 96, 96, generator=generator)
    first, second = window(big, 0, 0), window(big, 2, 3)
    _, state = follow(None, first, strokes)
    other = torch.rand(1, 3, 96, 96, generator=generator)
    steady, _ = follow(state, second, other)
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
    _, state = follow(None, photo, old)
    steady, _ = follow(state, changed, new, Blend(cut=10.0))
    inner = steady[:, :, 36:54, 46:74]
    assert float(inner.mean()) > 0.9 and float(steady[:, :, :20].mean()) < 0.2


def test_a_cut_and_a_new_size_start_anew(picture: Pictures) -> None:
    _, state = follow(None, picture(1), picture(2))
    new = picture(4)
    moved_on = State(state.photo, state.painting, (70, -30))
    for last, photo in ((moved_on, 1 - picture(1)), (moved_on, picture(5, 64, 64))):
        seen = view(last, photo)
        assert seen.photo is photo and seen.origin == (0, 0) and seen.motion is None
    steady, after = follow(moved_on, 1 - picture(1), new)
    assert steady is new and after.painting is new and after.origin == (0, 0)


def test_keeping_nothing_changes_nothing(picture: Pictures) -> None:
    _, state = follow(None, picture(1), picture(2))
    new = picture(4)
    assert torch.equal(follow(state, picture(1), new, Blend(keep=0.0))[0], new)


@pytest.mark.parametrize(
    ("speed", "count", "error"), [((0.4, 1.3), 9, 0.05), ((0.06, 0.0), 20, 0.45), ((-1.0, 2.0), 4, 0.01)]
)
def test_frames_are_brought_onto_whole_pixels_of_their_scene(
    picture: Pictures, speed: tuple[float, float], count: int, error: float
) -> None:
    """Slow pans too: carried by less than a tenth of a pixel they are found a fifth too short, but never lost."""
    scene = box(box(picture(3, 150, 150), 1), 1)
    state = None
    for number in range(count):
        way = [20 + speed[0] * number, 20 + speed[1] * number]
        down, across = (math.floor(part) for part in way)
        frame = moved(scene, (way[0] - down, way[1] - across))[:, :, down : down + 96, across : across + 96]
        seen = view(state, frame)
        state = stabilise(state, seen, seen.photo)
        place = [start - 20 for start in way]
        assert [o + r for o, r in zip(seen.origin, seen.rest, strict=True)] == pytest.approx(place, abs=error)
        assert max(map(abs, seen.rest)) <= 0.5
        top, left = 20 + seen.origin[0], 20 + seen.origin[1]
        there = scene[:, :, top : top + 96, left : left + 96]
        inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
        assert error > 0.1 or float((seen.photo - there).abs()[inner].mean()) < 0.02
        assert float((moved(state.painting, seen.rest) - frame).abs()[inner].mean()) < 0.02


def test_mistakes_are_errors(picture: Pictures) -> None:
    for wrong in ({"keep": 1.0}, {"keep": -0.1}, {"keep": float("nan")}, {"tolerance": 0.0}, {"cut": -1.0}):
        with pytest.raises(InputError):
            Blend(**wrong)
    with pytest.raises(InputError, match="size"):
        stabilise(None, view(None, picture(1)), picture(2, 10, 10))
