"""Palettes: photos move onto a painting's, finished paintings halfway back to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.color import ColorStats, _line, _moments, nearer, transfer
from shared_model.pyramid import luminance


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


def _lopsided() -> Tensor:
    """A dark ground with a small face of five tones, in color."""
    photo = torch.full((1, 3, 80, 100), 0.08) + 0.02 * torch.rand(1, 3, 80, 100)
    for i, tone in enumerate((0.35, 0.45, 0.55, 0.65, 0.75)):
        photo[:, :, 30:50, 40 + 4 * i : 44 + 4 * i] = tone * torch.tensor([1.0, 0.8, 0.7]).view(3, 1, 1)
    return photo


def _drawing(tint: float = 0.0) -> Tensor:
    """Bright paper, a fifth of it hatched in all grays; with a tint, half of the paper is blue."""
    page = torch.full((1, 3, 80, 100), 0.95)
    page[:, :, :, :20] = torch.linspace(0.1, 0.9, 80)[:, None]
    page[:, 0, 40:] -= tint
    return page


def test_a_face_before_a_black_ground_keeps_its_tones_in_a_drawing() -> None:
    photo, stats = _lopsided(), ColorStats.of([_drawing()])
    moved = transfer(photo, stats)
    face = luminance(moved)[0, 0, 30:50, 40:60].mean(0)[2::4]
    assert bool((face.diff() > 0.02).all()), face  # all five apart; means and spreads alone make all of them paper
    assert float(face[-1]) <= 0.97
    assert float(luminance(moved)[0, 0, :20].mean()) < 0.5  # and the ground stays dark
    lifted = transfer(photo, replace(stats, covariance=stats.covariance + torch.diag(torch.tensor([0.01, 0.0, 0.0]))))
    assert float(luminance(lifted)[0, 0, 30:50, 44:60].mean()) > float(face[1:].mean())  # with hues: as always


def test_hues_stay_within_the_paintings() -> None:
    generator = torch.Generator().manual_seed(6)
    gray = torch.rand(1, 1, 80, 100, generator=generator).expand(1, 3, 80, 100)
    photo = gray.clone()
    photo[:, :, :10, :10] = torch.tensor([1.0, 0.4, 0.0]).view(3, 1, 1)  # a small orange helmet
    moved = transfer(photo, ColorStats.of([gray]))
    assert float((moved - luminance(moved)).abs().max()) < 0.012
    painting = torch.rand(1, 3, 80, 100, generator=generator)
    colorful = transfer(painting, ColorStats.of([painting]))
    assert float((colorful - painting).abs().mean()) < 0.01  # and what lies within is left alone


def test_the_map_of_a_nearly_gray_photo_is_exact() -> None:
    """Roots of covariances whose parts are a thousand times apart: in single precision the map was off by 1e-4."""
    generator = torch.Generator().manual_seed(8)
    light, color = (0.2 * torch.randn(1, channels, 90, 110, generator=generator) for channels in (1, 3))
    photo, painting = 0.5 + light + 0.02 * color, 0.5 + 0.5 * light + 0.4 * color
    stats = ColorStats.of([painting])
    found, _ = _line(photo[0].flatten(1), stats)
    _, own = _moments(photo[0].flatten(1))
    first, second = (matrix.double() + 3e-4 * torch.eye(3) for matrix in (own, stats.covariance))

    def power(matrix: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values**exponent) @ vectors.T

    root, inverse = power(first, 0.5), power(first, -0.5)
    wanted = inverse @ power(root @ second @ root, 0.5) @ inverse
    assert float((found.double() - wanted).abs().max()) < 1e-5


def test_vivid_strengthens_contrast_and_colors_and_leaves_hues(picture: Callable[..., Tensor]) -> None:
    gray, hue = luminance(picture(1)), torch.tensor([0.06, -0.02, -0.05]).view(1, 3, 1, 1)
    photo = (0.5 + 0.3 * (gray - gray.mean()) + hue).expand(1, 3, -1, -1).contiguous()
    strong = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    stats = replace(ColorStats.of([strong]), share=0.0, vivid=1.0)
    before, after = (p - luminance(p) for p in (photo, transfer(photo, stats)))
    angle = torch.nn.functional.cosine_similarity(before.flatten(1), after.flatten(1))
    assert float(angle) > 0.999, "the same hues"
    light = [luminance(p).std() for p in (photo, transfer(photo, stats), transfer(photo, replace(stats, vivid=0.5)))]
    assert float(light[1] / light[0]) == pytest.approx(1.6, abs=0.02), "the most there is"
    assert float(light[2] / light[0]) == pytest.approx(1.3, abs=0.02)
    assert torch.equal(transfer(photo, replace(stats, vivid=0.0)), photo)


def test_vivid_never_weakens_and_has_no_say_in_another_palette(picture: Callable[..., Tensor]) -> None:
    pale = ColorStats.of([0.5 + 0.01 * picture(1)])
    photo = 0.2 + 0.6 * picture(2)
    done = transfer(photo, replace(pale, share=0.0, vivid=1.0))
    assert float((done - luminance(done)).std()) > 0.98 * float((photo - luminance(photo)).std())
    assert float(luminance(done).std()) > 0.98 * float(luminance(photo).std())
    assert torch.equal(transfer(photo, replace(pale, vivid=1.0)), transfer(photo, pale))


def test_the_darkest_color_is_that_of_the_ink() -> None:
    for paper, ink in (((0.9, 0.9, 0.7), (0.3, 0.1, 0.0)), ((0.2, 0.2, 0.3), (0.1, 0.0, 0.1))):
        drawing = torch.tensor(paper).view(1, 3, 1, 1).repeat(1, 1, 40, 40)
        drawing[:, :, ::3] = torch.tensor(ink).view(1, 3, 1, 1)
        assert float((ColorStats.of([drawing]).darkest() - torch.tensor(ink)).abs().max()) < 0.03
