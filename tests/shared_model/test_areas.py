"""Even areas: few tones, outlines around them, and small things that stand out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.areas import fill
from shared_model.backbone import Backbone
from shared_model.brush import directions
from shared_model.config import STROKES
from shared_model.errors import ConfigError
from shared_model.head import Head
from shared_model.pyramid import luminance
from shared_model.stylize import stylize

Pictures = Callable[..., Tensor]
FLAT = replace(STROKES["flat"], canvas_px=96, atoms=64, candidates=600, components=12)
INK = torch.tensor([0.1, 0.0, 0.2])


def filled(picture: Tensor, *, tones: int = 4, outlines: float = 0.0, detail: float = 0.0) -> Tensor:
    return fill(picture, directions(picture), tones=tones, outlines=outlines, ink=INK, detail=detail)


def disc(side: int = 128) -> Tensor:
    """A warm disc on a cool ground."""
    rows = torch.linspace(-1, 1, side)
    inside = (rows[:, None] ** 2 + rows[None, :] ** 2) < 0.4
    warm, cool = (torch.tensor(color).view(3, 1, 1) for color in ((0.8, 0.6, 0.4), (0.2, 0.3, 0.4)))
    return torch.where(inside, warm, cool)[None]


@pytest.mark.parametrize("tones", [3, 6])
def test_a_slope_becomes_so_many_even_steps(tones: int) -> None:
    slope = torch.linspace(0.2, 0.8, 240).expand(1, 3, 64, 240).contiguous()
    light = luminance(filled(slope, tones=tones))[0, 0, 32]
    steps = light.diff()
    assert float((steps.abs() < 0.0005).float().mean()) > 0.6, "even"
    borders = (steps > 0.3 * steps.max()).float().diff().clamp_min(0).sum()
    assert int(borders) == tones - 1
    assert 0.2 <= float(light.min()) < 0.35 and 0.65 < float(light.max()) <= 0.8


def test_grain_is_gone_and_edges_stay() -> None:
    grain = 0.06 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    done = filled((disc() + grain).clamp(0, 1))
    inside, outside = done[..., 52:76, 52:76], done[..., 4:20, 4:20]
    assert float(inside.std((2, 3)).max()) < 0.25 * 0.06 and float(outside.std((2, 3)).max()) < 0.5 * 0.06
    assert float((inside.mean((2, 3)) - outside.mean((2, 3)))[0, 0]) > 0.45
    hue = done[0, 0] - done[0, 2]
    assert float(hue[52:76, 52:76].mean()) > 0.3 and float(hue[4:20, 4:20].mean()) < -0.1


def test_outlines_lie_around_areas_in_the_ink_asked_for() -> None:
    plain, done = filled(disc()), filled(disc(), outlines=0.06)
    changed = (plain - done).abs().amax(1)[0]
    rows = torch.linspace(-1, 1, 128)
    distance = ((rows[:, None] ** 2 + rows[None, :] ** 2).sqrt() - 0.4**0.5).abs() * 64
    assert float(changed[distance > 8].max()) < 0.03
    line = changed > 0.5 * changed[distance < 8].max()
    assert int(line.sum()) > 200
    darkest = done[0, :, line].mean(1)
    assert float((darkest - INK).abs().max()) < 0.15


def test_what_stands_out_is_drawn_and_what_is_all_over_is_not() -> None:
    face = torch.full((1, 3, 128, 128), 0.7)
    face[:, :, 60:63, 60:64] = 0.1  # an eye
    eye = filled(face, detail=0.5)[0, 0, 60:63, 60:64].mean()
    assert float(eye) < 0.4
    assert float(filled(face, detail=0.0)[0, 0, 60:63, 60:64].mean()) > float(eye) + 0.1
    leaves = torch.full((1, 3, 128, 128), 0.7)
    leaves[:, :, ::6, ::6] = 0.1
    assert float(filled(leaves, detail=0.3)[..., 30:98, 30:98].std()) < 0.5 * float(leaves.std())


def test_a_flat_head_paints_few_tones_and_nothing_of_a_photos_grain(picture: Pictures, backbone: Backbone) -> None:
    head = Head.fit([picture(7)], backbone=backbone, config=FLAT)
    photo = picture(2, 96, 128)
    grain = 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(1))
    plain, noisy = (stylize(p.clamp(0, 1), head=head, backbone=backbone) for p in (photo, photo + grain))
    assert float((plain - noisy).abs().mean()) < 0.6 * float(grain.abs().mean())
    assert torch.equal(Head.from_bytes(head.to_bytes()).draft(photo).painted, head.draft(photo).painted)


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (64, 7)])
def test_any_size_can_be_filled(picture: Pictures, size: tuple[int, int]) -> None:
    done = filled(picture(2, *size), outlines=0.1, detail=0.5)
    assert bool(torch.isfinite(done).all()) and done.shape[-2:] == size


def test_one_tone_is_none() -> None:
    with pytest.raises(ConfigError, match="areas must be 0"):
        replace(FLAT, areas=1)
