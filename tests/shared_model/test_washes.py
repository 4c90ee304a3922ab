"""Washes: wandering borders, dark rims, pools, white paper, and small things that stand out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import STROKES
from shared_model.errors import ConfigError
from shared_model.head import Head
from shared_model.pyramid import lattice, luminance
from shared_model.stylize import stylize
from shared_model.washes import lay

Pictures = Callable[..., Tensor]
WASH = replace(STROKES["wash"], canvas_px=96, atoms=64, candidates=600, components=12)


def washed(
    picture: Tensor, *, strength: float = 1.0, detail: float = 0.0, seed: int = 0, places: Tensor | None = None
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return lay(picture, strength=strength, detail=detail, generator=generator, places=places)


def halves(dark: float = 0.3, bright: float = 0.8) -> Tensor:
    picture = torch.full((1, 3, 128, 128), bright)
    picture[..., :64] = dark
    return picture


def test_white_stays_paper() -> None:
    assert float(washed(torch.ones(1, 3, 128, 128)).min()) > 0.99


def test_pigment_gathers_where_there_is_paint() -> None:
    even = washed(torch.full((1, 3, 128, 128), 0.5))
    assert 0.02 < float(even.std()) < 0.2
    assert float(washed(torch.full((1, 3, 128, 128), 0.5), strength=0.0).std()) < 1e-5


def test_a_wash_is_darkest_along_its_rim() -> None:
    rows = torch.stack([washed(halves(), seed=seed)[0, 0, 20:108].mean(0) for seed in range(6)]).mean(0)
    rim, inside = rows[56:64].min(), rows[16:44].mean()
    assert float(rim) < float(inside) - 0.05


def test_borders_wander() -> None:
    def border(strength: float, level: float) -> Tensor:  # where the dark half ends, row by row
        return (washed(halves(), strength=strength)[0, 0, 8:120] < level).float().sum(1) - 64

    assert float(border(1.0, 0.7).std()) > 0.5 and float(border(1.0, 0.7).abs().median()) < 4
    assert float(border(0.0, 0.55).std()) < 0.1


def test_what_stands_out_is_drawn() -> None:
    face = torch.full((1, 3, 128, 128), 0.7)
    face[:, :, 60:63, 60:64] = 0.1  # an eye
    drawn, not_drawn = (float(washed(face, detail=d)[0, 0, 60:63, 60:64].mean()) for d in (0.5, 0.0))
    assert drawn < 0.4 and not_drawn > drawn + 0.1


def test_washes_go_with_the_scene() -> None:
    """Where the scene has moved by four pixels, so have pools and grain."""
    gray = torch.full((1, 3, 128, 128), 0.5)
    small = torch.zeros(1, 1, 64, 64)
    here = washed(gray, places=lattice(small))
    moved = washed(gray, places=lattice(small) + torch.tensor([0.0, 2.0]).view(1, 2, 1, 1))
    a, b = luminance(here)[0, 0, 24:104, 24:100], luminance(moved)[0, 0, 24:104, 20:96]
    still = luminance(moved)[0, 0, 24:104, 24:100]

    def alike(x: Tensor, y: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])

    assert alike(a, b) > 0.9 > 0.7 > alike(a, still)


def test_the_same_seed_paints_the_same_and_another_does_not(picture: Pictures) -> None:
    photo = picture(3)
    assert torch.equal(washed(photo), washed(photo))
    assert not torch.equal(washed(photo), washed(photo, seed=1))


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (64, 7)])
def test_any_size_can_be_washed(picture: Pictures, size: tuple[int, int]) -> None:
    done = washed(picture(2, *size), detail=0.5)
    assert bool(torch.isfinite(done).all()) and done.shape[-2:] == size
    assert float(done.min()) >= 0 and float(done.max()) <= 1


def test_a_head_of_washes_paints_and_is_kept(picture: Pictures, backbone: Backbone) -> None:
    head = Head.fit([picture(7)], backbone=backbone, config=WASH)
    photo = picture(2, 96, 128)
    again = Head.from_bytes(head.to_bytes())
    assert again.config.wash == 1 and again.config.graphic
    assert torch.equal(again.draft(photo).painted, head.draft(photo).painted)
    large = stylize(picture(2, 200, 260), head=head, backbone=backbone)
    assert large.shape[-2:] == (200, 260) and bool(torch.isfinite(large).all())


def test_gray_pictures_are_washed_too_where_that_is_asked_for(picture: Pictures) -> None:
    gray = picture(1).mean(1, keepdim=True).expand(1, 3, -1, -1)
    assert Head.fit([gray], config=WASH).hatching is None


def test_more_than_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="wash must be between 0 and 1"):
        replace(WASH, wash=1.5)
