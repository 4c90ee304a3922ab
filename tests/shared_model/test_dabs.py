"""What a brush leaves of detail that is finer than the canvas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.config import STROKES, HeadConfig
from shared_model.dabs import course, dabs, drawn, emphatic, fading, margin, share

FAR = torch.tensor([[[[1.0]], [[0.0]]]])  # strokes run to the right


def _across(picture: Tensor) -> Tensor:
    return FAR.expand(1, 2, *picture.shape[-2:])


def _noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_an_even_picture_stays_as_it_is() -> None:
    picture = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 20, 30)
    torch.testing.assert_close(dabs(picture, _across(picture), 4.0), picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (40, 2)])
def test_any_size_stays_within_the_range_of_the_picture(size: tuple[int, int]) -> None:
    picture = 0.3 + 0.4 * _noise(*size)
    done = dabs(picture, _across(picture), 5.0)
    assert done.shape == picture.shape
    assert float(done.min()) > float(picture.min()) - 1e-4 and float(done.max()) < float(picture.max()) + 1e-4


def test_texture_goes_and_an_edge_becomes_crisp() -> None:
    light = torch.where(torch.arange(24) < 12, 0.2, 0.8).expand(1, 3, 12, 24)
    soft = F.interpolate(light, scale_factor=4, mode="bicubic").clamp(0, 1)
    picture = soft + 0.1 * (_noise(48, 96) - 0.5)
    done = dabs(picture, -_across(picture), 4.0)  # strokes run down, along the edge
    assert float(done[..., :30].std()) < 0.35 * float(picture[..., :30].std())
    steps = [float((p[..., 1:] - p[..., :-1]).mean((0, 1, 2)).max()) for p in (soft, done)]
    assert steps[1] > 1.3 * steps[0]
    assert float(done[..., :30].mean()) == pytest.approx(0.2, abs=0.01)


def test_dabs_run_along_the_strokes() -> None:
    picture = _noise(80, 80)
    for turned, along in ((_across(picture), 2), (-_across(picture), 1)):
        done = dabs(picture, turned, 5.0).mean(1)
        change = {axis: float((done - done.roll(4, axis)).square().mean()) for axis in (1, 2)}
        assert change[along] < 0.8 * change[3 - along]


def test_the_course_is_that_of_the_shapes_at_twice_the_angle() -> None:
    rows = (torch.arange(64) // 4 % 2).float()
    lying, standing = rows[None, None, :, None].expand(1, 3, 64, 64), rows.expand(1, 3, 64, 64)
    slanting = ((torch.arange(64)[:, None] + torch.arange(64)) // 6 % 2).float().expand(1, 3, 64, 64)
    for picture, wanted in ((lying, (1.0, 0.0)), (standing, (-1.0, 0.0)), (slanting, (0.0, -1.0))):
        found = course(picture)[:, :, 16:48, 16:48]
        assert found.shape == (1, 2, 32, 32)
        torch.testing.assert_close(found.mean((0, 2, 3)), torch.tensor(wanted), atol=0.15, rtol=0)


@pytest.mark.parametrize("scale", [1.2, 3.0, 8.4])
def test_nothing_beyond_the_margin_counts(scale: float) -> None:
    picture, turned = _noise(121, 121), torch.randn(1, 2, 121, 121, generator=torch.Generator().manual_seed(1))
    touched, away = picture.clone(), margin(scale)
    touched[:, :, 60, 60] = 5.0
    changed = (dabs(touched, turned, scale) - dabs(picture, turned, scale)).abs().amax(1)[0] > 0
    rows, columns = changed.nonzero().T
    reached = int(torch.maximum((rows - 60).abs(), (columns - 60).abs()).max())
    assert 0.4 * away < reached <= away


@pytest.mark.parametrize("scale", [0.3, 1.4, 4.0, 9.5])
def test_a_scale_may_be_a_tensor(scale: float) -> None:
    picture, turned = _noise(40, 60), torch.randn(1, 2, 40, 60, generator=torch.Generator().manual_seed(1))
    number, tensor = (dabs(picture, turned, s) for s in (scale, torch.tensor(scale, dtype=torch.float64)))
    torch.testing.assert_close(tensor, number, atol=1e-3, rtol=0)
    assert float(fading(torch.tensor(scale))) == pytest.approx(fading(scale))


def test_dabs_go_with_the_picture() -> None:
    picture, turned = _noise(90, 90), torch.randn(1, 2, 90, 90, generator=torch.Generator().manual_seed(1))
    still = dabs(picture, turned, 3.0)
    moved = dabs(picture.roll((5, -7), (2, 3)), turned.roll((5, -7), (2, 3)), 3.0)
    inside = slice(30, 60)
    torch.testing.assert_close(
        moved.roll((-5, 7), (2, 3))[:, :, inside, inside], still[:, :, inside, inside], atol=1e-4, rtol=0
    )


def test_they_fade_in_above_the_canvas() -> None:
    assert [fading(scale) for scale in (0.5, 1.0, 2.0, 3.0, 30.0)] == [0, 0, 0.5, 1, 1]


def test_grain_stays_and_detail_is_there_for_who_asks() -> None:
    for kind in ("fine", "broad"):
        config = STROKES[kind]
        assert [share(config, detail=d) for d in (0.0, 0.5, 0.75, 1.0)] == [1, 1, 0.5, 0]
    wood, pencil = (replace(HeadConfig(), hatch=0.8, roughness=roughness) for roughness in (0.1, 0.9))
    mixed = replace(STROKES["wash"], wash=0.25)
    assert [share(c, detail=1.0) for c in (STROKES["flat"], wood, pencil, STROKES["wash"])] == [1, 1, 0, 0]
    assert share(mixed, detail=1.0) == 0.75


def test_the_finest_marks_survive_the_dabs() -> None:
    """A painting of four times the canvas's size, seen at the canvas's size, keeps the strength of its marks."""
    painted = 0.3 + 0.4 * _noise(40, 60)
    kept = []
    for amount in (0.0, 1.0):
        large = F.interpolate(emphatic(painted, amount), scale_factor=4, mode="bicubic")
        done = dabs(large, F.interpolate(course(painted), scale_factor=4, mode="bilinear"), 4.0)
        small = F.interpolate(done, size=(40, 60), mode="bicubic", antialias=True)
        kept.append(float(small.std() / painted.std()))
    assert kept[0] + 0.05 < kept[1] < 1
    assert torch.equal(emphatic(painted, 0.0), painted)


def test_what_stands_out_is_drawn_and_texture_is_not() -> None:
    even = torch.full((1, 3, 256, 256), 0.6)
    eye, beach = even.clone(), even + 0.3 * (_noise(256, 256) - 0.5)
    eye[:, :, 126:131, 126:131] = 0.1
    for photo, here in ((eye, 1.0), (beach, 0.0), (even, 0.0)):
        canvas = F.interpolate(photo, size=(64, 64), mode="bicubic", antialias=True)
        found = drawn(photo, canvas)[0, 0]
        assert found.shape == (64, 64)
        assert float(found[32, 32]) == pytest.approx(here, abs=0.3)
        assert float(found[:24].mean()) < 0.1
