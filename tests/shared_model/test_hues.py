"""Pots of paint: a photo's colors become those of the owner's that are nearest in hue, and light stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.color import ColorStats, mapping, transfer
from shared_model.config import HeadConfig
from shared_model.errors import StorageError
from shared_model.head import Head
from shared_model.hues import POTS, handed_out, mixed
from shared_model.pyramid import luminance

SKIN, SKY, LEAF, OCHRE = (0.85, 0.62, 0.52), (0.45, 0.6, 0.85), (0.2, 0.4, 0.25), (0.75, 0.6, 0.3)


def areas(*colors: tuple[float, float, float], of: tuple[int, ...] = (), seed: int = 0) -> Tensor:
    """Vertical areas of some colors, ``of`` so many columns each, with a little grain; ``(1, 3, 40, W)``."""
    widths = of or (40,) * len(colors)
    flat = torch.cat(
        [torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 40, w) for c, w in zip(colors, widths, strict=True)], 3
    )
    grain = torch.randn(flat.shape, generator=torch.Generator().manual_seed(seed))
    return (flat + 0.02 * grain).clamp(0, 1)


def warmth(picture: Tensor) -> float:
    """Red less blue, on average."""
    return float((picture[:, 0] - picture[:, 2]).mean())


def painting() -> Tensor:
    """A bright sky, dark leaves and a little ochre: what is bright is blue."""
    return areas(SKY, LEAF, OCHRE, of=(60, 60, 30), seed=1)


def portrait() -> Tensor:
    """Skin before a dark ground."""
    return areas(SKIN, (0.12, 0.1, 0.1), of=(60, 60), seed=2)


@pytest.fixture
def owned(picture: Callable[..., Tensor], small_head: HeadConfig) -> Head:
    return Head.fit([picture(1)], config=small_head)


def with_pots(picture: Tensor) -> ColorStats:
    return ColorStats.of([picture]).with_pots([picture])


def test_pots_are_the_colors_of_the_pictures_and_their_shares() -> None:
    pots, shares = mixed(areas(SKY, LEAF, of=(90, 30))[0].flatten(1))
    assert pots.shape == (POTS, 3) and shares.shape == (POTS,)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5) and float(shares.min()) >= 0
    blue = (pots - torch.tensor(SKY)).abs().amax(1) < 0.1
    assert float(shares[blue].sum()) == pytest.approx(0.75, abs=0.02)


def test_the_same_pictures_give_the_same_pots() -> None:
    for before, after in zip(mixed(painting()[0].flatten(1)), mixed(painting()[0].flatten(1)), strict=True):
        assert torch.equal(before, after)


def test_skin_stays_warm_where_the_owner_has_warm_colors() -> None:
    stats = with_pots(painting())
    photo = portrait()
    face = transfer(photo, stats)[..., :60]
    assert warmth(transfer(photo, replace(stats, pots=None))[..., :60]) < 0  # blue skin: what is bright is sky there
    assert warmth(face) > 0.1


def test_a_sky_is_not_poured_over_whoever_has_none() -> None:
    """Paint may be left over: used up exactly, much of the portrait would have to be as blue as the sky."""
    blue = with_pots(areas(SKY, OCHRE, of=(90, 30)))
    assert warmth(transfer(portrait(), blue)[..., :60]) > warmth(
        transfer(portrait(), replace(blue, pots=None))[..., :60]
    )


def test_a_color_that_the_owner_lacks_becomes_one_of_the_owners() -> None:
    moved = transfer(areas(SKIN, (0.8, 0.1, 0.6)), with_pots(areas(SKY, LEAF)))
    reds = moved[:, 0] - moved[:, 1:].amax(1)
    assert float(reds.quantile(0.9)) < 0.1  # neither skin nor magenta


def test_light_is_what_it_was_without_pots() -> None:
    photo, stats = portrait(), with_pots(painting())
    before, after = transfer(photo, replace(stats, pots=None)), transfer(photo, stats)
    assert float((after - before).abs().mean()) > 0.05
    assert float((luminance(after) - luminance(before)).abs().mean()) < 0.01  # but where a hue is bent back


def test_parts_of_a_photo_get_the_colors_that_the_whole_gets() -> None:
    photo = portrait()
    move = mapping(photo, with_pots(painting()))
    whole = move(photo)
    torch.testing.assert_close(move(photo[:, :, :, 50:70]), whole[:, :, :, 50:70], atol=1e-5, rtol=0)


def test_no_two_near_colors_are_torn_apart() -> None:
    """Between skin and ground lie colors that the photo hardly has: they pass, and do not jump."""
    move = mapping(portrait(), with_pots(painting()))
    mixes = torch.linspace(0, 1, 201)
    ramp = (torch.tensor(SKIN)[:, None] * mixes + torch.tensor((0.12, 0.1, 0.1))[:, None] * (1 - mixes)).view(
        1, 3, 1, 201
    )
    steps = move(ramp).diff(dim=3).abs().amax(1)
    assert float(steps.max()) < 0.05  # of 200 steps; the ramp's own are .004 at most


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_single_color_stays_finite_and_in_range(value: float, picture: Callable[..., Tensor]) -> None:
    flat = torch.full((1, 3, 5, 7), value)
    for photo, palette in ((flat, picture(4)), (picture(4), flat), (flat, flat)):
        moved = transfer(photo, with_pots(palette))
        assert bool(torch.isfinite(moved).all()) and float(moved.min()) >= 0 and float(moved.max()) <= 1


def test_steps_are_enough() -> None:
    """The plan hardly changes any more: a photo that is almost the same gets almost the same colors."""
    stats = with_pots(painting())
    photo = portrait()
    again = (photo + 0.01 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(9))).clamp(0, 1)
    assert float((mapping(photo, stats)(photo) - mapping(again, stats)(photo)).abs().mean()) < 0.01


def test_a_color_gets_the_mean_of_its_pots_and_keeps_what_it_differs_by() -> None:
    """One pot: its color takes the place of the photo's mean, and all else stays as the palette moves."""
    source = portrait()[0].flatten(1)
    pots, shares = torch.tensor([OCHRE]), torch.ones(1)
    move = handed_out(source, 0.5 * torch.eye(3), pots, shares, (torch.tensor(0.5), torch.tensor(0.2)))
    moved = move(source)
    assert moved.std(1).allclose(0.5 * source.std(1), atol=1e-4)
    assert moved.mean(1).allclose(pots[0], atol=0.01)


def test_heads_keep_their_pots_and_older_ones_have_none(owned: Head) -> None:
    assert owned.color.pots is not None
    again = Head.from_bytes(owned.to_bytes())
    assert again.color.pots is not None and torch.equal(again.color.pots, owned.color.pots)
    before = Head.from_bytes(replace(owned, color=replace(owned.color, pots=None, shares=None)).to_bytes())
    assert before.color.pots is None and before.color.shares is None


def test_heads_in_the_photos_own_colors_and_of_one_ink_have_none(
    picture: Callable[..., Tensor], small_head: HeadConfig
) -> None:
    own = Head.fit([picture(1)], config=replace(small_head, palette=0.0))
    gray = Head.fit([picture(1).mean(1, keepdim=True).expand(1, 3, -1, -1)], config=small_head)
    assert own.color.pots is None and gray.hatching is not None and gray.color.pots is None


@pytest.mark.parametrize("wrong", ["alone", "shape", "number"])
def test_damaged_pots_are_refused(wrong: str, owned: Head) -> None:
    pots, shares = owned.color.pots, owned.color.shares
    assert pots is not None and shares is not None
    changed = {
        "alone": (pots, None),
        "shape": (pots[:3], shares),
        "number": (pots, shares * float("nan")),
    }[wrong]
    bad = replace(owned, color=replace(owned.color, pots=changed[0], shares=changed[1]))
    with pytest.raises(StorageError, match="damaged"):
        Head.from_bytes(bad.to_bytes())
