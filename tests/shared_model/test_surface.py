"""The surface of a head: distributions of contrast and values move onto the painting's, places stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.pyramid import bands, luminance
from shared_model.surface import CONTRASTS, LIGHTS, VALUES, Surface, _apart, _together

Pictures = Callable[..., Tensor]


def _painting(side: int = 160) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.5 + 0.15 * torch.randn(1, 3, side, side, generator=generator)).clamp(0, 1)


def _half_flat() -> Tensor:
    """A picture with a quiet half and a busy half."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 3, 160, 160, generator=generator)
    noise[:, :, :, :80] *= 0.03
    noise[:, :, :, 80:] *= 0.2
    return 0.5 + noise


def test_the_tables_have_their_shapes() -> None:
    surface = Surface.of([_painting(), _painting(90)], count=4)
    assert surface.contrast.shape == (4, CONTRASTS) and surface.values.shape == (4, 3, VALUES)
    assert bool((surface.contrast.diff(dim=1) >= 0).all()) and bool((surface.values.diff(dim=2) >= 0).all())


def test_quiet_places_come_alive_within_bounds() -> None:
    photo, surface = _half_flat(), Surface.of([_painting()])
    before, after = bands(photo, 1)[0], bands(surface.finish(photo), 1)[0]
    quiet, busy = (slice(None), slice(None), slice(None), slice(8, 72)), (..., slice(88, 152))
    lifted = float(after[quiet].std() / before[quiet].std())
    assert 1.5 < lifted < 10  # at most 3 for the gain and 3 for the curve
    assert float(after[quiet].std()) < float(after[busy].std())  # what was quieter stays quieter


def test_a_print_lends_its_contours_to_nobodys_sand() -> None:
    generator = torch.Generator().manual_seed(3)
    lines = torch.where(torch.arange(160) % 80 < 3, 0.1, 0.8).expand(1, 3, 160, 160)  # flat paper, black lines
    paper = (lines + 0.004 * torch.randn(1, 3, 160, 160, generator=generator)).clamp(0, 1)
    sand = 0.6 + 0.02 * torch.randn(1, 3, 160, 160, generator=generator)
    sand[:, :, ::9, ::7] += 0.1  # grains
    done = Surface.of([paper]).finish(sand)
    for own, new in zip(bands(sand, 3), bands(done, 3), strict=True):
        assert float(new.std()) <= 1.02 * float(own.std())  # threefold, were its busy places matched to the lines
    assert float((done - sand).abs().mean()) > 1e-4  # it does something: quiet sand becomes as quiet as the paper


def test_values_take_the_paintings_distribution() -> None:
    painting, photo = _painting(), 0.3 + 0.4 * _painting(200).flip(-1)
    wanted = bands(painting, 1)[0].std()
    photo_band, done = bands(photo, 1)[0].std(), bands(Surface.of([painting]).finish(photo), 1)[0].std()
    assert abs(float(done / wanted) - 1) < 0.1 < abs(float(photo_band / wanted) - 1)


def test_the_owners_own_picture_hardly_changes() -> None:
    painting = _painting()
    assert float((Surface.of([painting]).finish(painting) - painting).abs().mean()) < 0.01


def test_nothing_moves_in_space(picture: Pictures) -> None:
    photo = picture(3, 128, 128)
    done = Surface.of([_painting()]).finish(photo)
    for own, new in zip(bands(photo, 2), bands(done, 2), strict=True):
        a, b = own.flatten() - own.mean(), new.flatten() - new.mean()
        assert float((a @ b) / (a.norm() * b.norm())) > 0.7


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 9), (33, 50)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_and_tiny_pictures_stay_finite(size: tuple[int, int], value: float) -> None:
    done = Surface.of([_painting(64)]).finish(torch.full((1, 3, *size), value))
    assert done.shape[-2:] == size and bool(torch.isfinite(done).all())
    assert float((done - value).abs().max()) < 0.05  # nothing is made out of nothing


def test_a_strong_edge_gets_no_halo() -> None:
    generator = torch.Generator().manual_seed(2)
    painting = torch.where(torch.rand(1, 1, 160, 160, generator=generator) > 0.97, 0.0, 0.9).expand(1, 3, -1, -1)
    photo = torch.full((1, 3, 128, 128), 0.4)
    photo[..., 64:] = 0.6
    surface = Surface.of([painting])
    done = surface.finish(photo)
    mark = float(surface.contrast[:3, CONTRASTS // 2].square().sum().sqrt())
    assert float(done.max()) <= 0.6 + 2 * mark + 1e-5 and float(done.min()) >= 0.4 - 2 * mark - 1e-5
    assert bool(done[..., 40:88].diff(dim=-1).abs().amax() > 0.1)  # the edge itself stays


def test_marks_are_as_strong_as_the_tone_has_them() -> None:
    generator = torch.Generator().manual_seed(4)
    paper = torch.full((1, 3, 160, 160), 0.95)
    hatched = 0.3 + 0.1 * torch.randn(1, 1, 160, 160, generator=generator).expand(1, 3, 160, 160)
    surface = Surface.of([paper, hatched], count=3)
    assert surface.lights.shape == (3, LIGHTS) and 0 < float(surface.lights.min()) <= float(surface.lights.max()) <= 1.5
    photo = torch.full((1, 3, 64, 96), 0.95)
    photo[..., 48:] = 0.3
    for band in range(2):
        strength = surface.strength(band, photo)
        assert strength.shape == (1, 1, 64, 96)
        bare, cloth = float(strength[..., 8:40].mean()), float(strength[..., 56:88].mean())
        assert bare < 0.4 * cloth and cloth > surface.deviation(band)


def test_where_tones_tell_nothing_marks_are_of_ordinary_strength() -> None:
    surface = Surface.of([_painting()], count=2)
    blank = Surface(surface.contrast, surface.values, torch.ones(2, LIGHTS))
    photo = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(5))
    assert torch.allclose(blank.strength(1, photo), torch.full((1, 1, 40, 50), surface.deviation(1)), atol=1e-6)
    flat = Surface.of([torch.full((1, 3, 64, 64), 0.5)], count=2)  # no marks at all
    assert bool(flat.strength(0, photo).isfinite().all())
    missing = surface.lights[0, [0, -1]]  # tones that the picture does not have
    assert torch.allclose(missing, torch.ones(2), atol=0.1)


def _colored(strength: float, seed: int) -> Tensor:
    """Gray grain, and color at equal light of this strength."""
    generator = torch.Generator().manual_seed(seed)
    grain = 0.5 + 0.06 * torch.randn(1, 1, 160, 160, generator=generator)
    color = strength * torch.randn(1, 3, 160, 160, generator=generator)
    return grain + color - luminance(color)


def _tinted(picture: Tensor) -> float:
    """Strength of color at equal light in the finest band."""
    band = bands(picture, 1)[0]
    return float((band - luminance(band)).std())


def test_color_within_a_tone_is_as_strong_as_the_owners() -> None:
    """Red, green and blue moved one by one leave it too weak or too strong; light stays as it should either way."""
    for owners, photos in ((0.05, 0.02), (0.005, 0.05)):
        painting, photo = _colored(owners, 1), _colored(photos, 2)
        surface = Surface.of([painting])
        older = replace(surface, tints=None, colors=None)
        done = surface.finish(photo)
        off, before = (abs(math.log(_tinted(picture) / _tinted(painting))) for picture in (done, older.finish(photo)))
        assert off < 0.1 < before / 2, (off, before)
        light, wanted = (float(bands(luminance(picture), 1)[0].std()) for picture in (done, painting))
        assert abs(light / wanted - 1) < 0.1


def test_who_paints_in_gray_leaves_no_color_in_the_marks() -> None:
    done = Surface.of([_colored(0.0, 1)]).finish(_colored(0.03, 2))
    assert _tinted(done) < 0.3 * _tinted(_colored(0.03, 2))


def test_gray_beside_a_color_does_not_turn_to_its_opposite() -> None:
    """A brow on warm skin, by an owner of strong colors: within the range of red, green and blue it might be blue."""
    generator = torch.Generator().manual_seed(7)
    blocks = F.interpolate(torch.rand(1, 3, 4, 4, generator=generator), scale_factor=100.0)
    photo = torch.tensor([0.7, 0.5, 0.35]).view(1, 3, 1, 1).repeat(1, 1, 128, 128)
    photo[:, :, 56:72, 30:98] = 0.15
    surface = Surface.of([blocks])
    brow = (..., slice(60, 68), slice(36, 92))
    cool = [float((done[:, 2] - done[:, 0])[brow].max()) for done in (surface.finish(photo), _free(surface, photo))]
    assert surface.tints is not None
    quiet = float(surface.tints[:3, CONTRASTS // 4].square().sum().sqrt())
    assert cool[0] <= 4 * quiet + 1e-4 < 0.5 * cool[1], (quiet, cool)


def _free(surface: Surface, photo: Tensor) -> Tensor:
    """Finish in light and colors, but hold red, green and blue within their range."""

    class Free(Surface):
        def _without_halos(self, finished: Tensor, picture: Tensor) -> Tensor:
            return replace(surface, tints=None)._without_halos(finished, picture)

    return Free(**surface.tables()).finish(photo)


def test_light_and_color_come_together_again() -> None:
    band = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(6))
    assert torch.allclose(_together(_apart(band)), band, atol=1e-5)


def test_a_copy_has_all_tables() -> None:
    surface = Surface.of([_painting()])
    copy = surface.to(torch.device("cpu"))
    assert copy.tables().keys() == {"contrast", "values", "lights", "tints", "colors"}
    older = Surface(surface.contrast, surface.values, surface.lights)
    assert older.to(torch.device("cpu")).tables().keys() == {"contrast", "values", "lights"}


def test_hues_vary_from_stroke_to_stroke_as_the_owners_do() -> None:
    generator = torch.Generator().manual_seed(3)
    coarse = F.interpolate(torch.randn(1, 3, 40, 40, generator=generator), scale_factor=6.0)
    light, color = luminance(coarse), coarse - luminance(coarse)
    found = [Surface.of([0.5 + 0.02 * light + strength * color]).mottled() for strength in (0.0, 0.01, 0.02)]
    assert found[0] is not None and found[1] is not None and found[2] is not None
    assert found[0] < 0.01 < 0.5 < found[1] < found[2] <= 2.0
    assert replace(Surface.of([coarse]), tints=None).mottled() is None
