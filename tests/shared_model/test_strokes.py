"""Strokes: moved in tone, in the photo's colors if a head asks for them, taken over whole by earlier broad heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import STROKES, HeadConfig
from shared_model.dictionary import Dictionary
from shared_model.head import Head
from shared_model.mix import mix
from shared_model.pyramid import luminance
from shared_model.redact import drop_patches
from shared_model.stylize import stylize

Pictures = Callable[..., Tensor]
BROAD = replace(STROKES["broad"], canvas_px=96, atoms=64, candidates=600, components=12)
LOOKED_UP = replace(BROAD, brush=0, roughness=0.9, abstraction=1.0)  # not laid in before
SOFT = replace(
    LOOKED_UP, levels=1, patch=13, stroke=8, softness=2.0, structure=0.4, surface=0.3, bias=0.0
)  # earlier heads


def striped(side: int = 96) -> Tensor:
    """A picture of vertical strokes, four pixels each: even, seen from afar, but for a little color.

    Without any, it would be made with one ink, and hatched.
    """
    light = 0.5 + 0.2 * (torch.arange(side) // 2 % 2 * 2.0 - 1)
    warm = torch.linspace(-0.04, 0.04, side)[:, None] * torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    return light.expand(1, 3, side, side) + warm


def test_strokes_are_taken_over_where_only_their_tone_fits() -> None:
    """On an even area a look-up that sees every mark finds none like it and averages; one that does not keeps them."""
    even, painted = torch.full((1, 3, 96, 96), 0.5), {}
    for name, softness in (("fine", 0.0), ("broad", 2.0)):
        config = replace(SOFT, softness=softness, roughness=0.0, completeness=0.0, surface=0.0, tone=1.0)
        drawn = Head.fit([striped()], config=config).redraft(even, detail=0.0).painted
        painted[name] = float((drawn - drawn.mean()).abs().mean())
    assert painted["broad"] > 0.12  # of .2 in the picture
    assert painted["fine"] < 0.7 * painted["broad"]


def test_marks_that_a_blur_hides_do_not_count(picture: Pictures) -> None:
    weave = (torch.arange(40) % 2 * 0.2 - 0.1).expand(1, 3, 40, 40)
    photo = (picture(5, 40, 40) + weave * torch.linspace(-1, 1, 40)[:, None]).clamp(0, 1)  # a mark that pictures have
    pieces = torch.nn.functional.unfold(photo, 13)[0].T.reshape(-1, 3, 13, 13)
    rows = columns = torch.tensor([3, 11, 20])
    moved = {}
    for softness in (0.0, 2.0):
        level = Dictionary.fit(
            pieces, atoms=64, components=12, generator=torch.Generator().manual_seed(0), softness=softness
        )
        keys = [level.project(seen, rows, columns) for seen in (photo, photo + weave)]
        moved[softness] = float((keys[1] - keys[0]).norm() / keys[0].norm())
    assert moved[2.0] < 0.3 * moved[0.0], moved


@pytest.mark.parametrize("patch", [5, 7, 9, 11, 13, 15])
def test_no_hole_is_left_between_broad_strokes(picture: Pictures, patch: int) -> None:
    head = Head.fit([picture(7)], config=replace(SOFT, patch=patch))
    even = Head.fit([torch.full((1, 3, 96, 96), 0.3)], config=replace(SOFT, patch=patch, surface=0.0))
    for seed in range(4):
        assert bool(torch.isfinite(head.draft(picture(3, 90, 70), seed=seed).painted).all())
        gray = even.redraft(torch.full((1, 3, 90, 70), 0.3), seed=seed, detail=0.0).painted
        torch.testing.assert_close(gray, torch.full_like(gray, 0.3), atol=0.01, rtol=0)


def test_a_head_may_keep_the_photos_colors(picture: Pictures, backbone: Backbone) -> None:
    photo = picture(2)
    config = replace(BROAD, palette=0.0, abstraction=0.0, surface=0.3)
    kept = Head.fit([picture(7) * torch.tensor([1.0, 0.4, 0.2]).view(1, 3, 1, 1)], backbone=backbone, config=config)
    assert torch.equal(kept.colored(photo), photo)
    moved = [replace(kept, color=replace(kept.color, share=share)).colored(photo) for share in (0.5, 1.0)]
    torch.testing.assert_close(moved[0], torch.lerp(photo, moved[1], 0.5))
    again = Head.from_bytes(kept.to_bytes())
    assert again.color.share == 0.0 and again.config == config
    recolored = replace(kept, color=replace(kept.color, share=1.0))
    large = torch.nn.functional.interpolate(photo, scale_factor=3.0)
    for size in (photo, large):  # at canvas size, and above it, where the photo's colors are added
        drifts = [
            float((stylize(size, head=head, backbone=backbone) - size).mean((2, 3)).abs().max())
            for head in (again, recolored)
        ]
        assert drifts[0] < config.tone + 0.02 < 0.5 * drifts[1]  # broad areas may differ by so much


def test_patches_of_other_hues_leave_no_specks(picture: Pictures) -> None:
    """A gray photo and a red and green style: strokes are light and dark, hardly red and green."""
    gray = picture(2).mean(1, keepdim=True).expand(1, 3, -1, -1).contiguous()
    style = picture(7, 96, 96)
    style[:, 0], style[:, 1] = style[:, 0] * 1.3, style[:, 1].flip(-1)
    hues = {}
    for palette in (0.0, 1.0):
        head = Head.fit([style.clamp(0, 1)], config=replace(BROAD, palette=palette, surface=0.0, tone=1.0))
        painted = head.redraft(gray, detail=0.0).painted
        hues[palette] = float((painted - painted.mean(1, keepdim=True)).abs().mean())
        assert float((painted - gray).abs().mean()) > 0.01
    assert hues[0.0] < 0.3 * hues[1.0]


def test_a_mix_keeps_the_photos_colors_by_its_heads_shares(picture: Pictures, backbone: Backbone) -> None:
    photo = picture(2)
    heads = [
        Head.fit([picture(7)], backbone=backbone, config=replace(BROAD, palette=palette), name=str(palette))
        for palette in (0.0, 1.0)
    ]
    blend = mix(heads, [0.75, 0.25])
    assert blend.color.share == pytest.approx(0.25)
    assert bool(torch.isfinite(stylize(photo, head=blend, backbone=backbone)).all())


def test_the_last_touch_can_be_taken_back(picture: Pictures) -> None:
    head = Head.fit([picture(7)], config=BROAD)
    drawn = picture(3)
    none, some, all_ = (replace(head, config=replace(BROAD, surface=share)).finish(drawn) for share in (0.0, 0.4, 1.0))
    assert torch.equal(none, drawn) and torch.equal(all_, head.surface.finish(drawn).clamp(0, 1))
    gaps = [float((made - drawn).abs().mean()) for made in (some, all_)]
    assert 0 < gaps[0] < 0.6 * gaps[1]


def test_structure_holds_detail_back(picture: Pictures) -> None:
    photo = picture(1)
    fine = HeadConfig(canvas_px=96, atoms=64, candidates=600, components=12)
    head = Head.fit([picture(7)], config=fine)
    half = replace(head, config=replace(fine, structure=0.5))
    assert torch.equal(half.draft(photo, detail=0.8).painted, head.draft(photo, detail=0.4).painted)


def test_a_head_without_its_patches_looks_up_broadly_too(picture: Pictures) -> None:
    """Its new patches are compared through the same blur: their components are smooth."""
    dropped = drop_patches(Head.fit([picture(7)], config=SOFT)).levels[0]
    basis = dropped.basis.view(3, 13, 13, -1)
    jumps = (basis[:, :, 1:] - basis[:, :, :-1]).square().mean() / basis.square().mean()
    assert float(jumps) < 0.5  # 2 for components without any order


def test_an_even_tone_that_the_pictures_lack_stays_even_and_keeps_their_strokes() -> None:
    """Dark and bright strokes, nothing between: a gray wall must be neither of the two, nor a patchwork of both."""
    style = striped() - 0.15
    style[..., 48:, :] += 0.3
    wall, drift, marks = torch.full((1, 3, 96, 96), 0.47), {}, {}
    for bias in (0.0, 1.0):
        even = replace(LOOKED_UP, levels=1, roughness=0.0, completeness=0.0, surface=0.0, structure=0.0, tone=1.0)
        painted = Head.fit([style], config=replace(even, bias=bias)).redraft(wall).painted
        tones = torch.nn.functional.avg_pool2d(painted, 24)
        drift[bias] = float((tones - 0.47).abs().max())
        marks[bias] = float((painted - tones.mean()).abs().mean())
    assert drift[1.0] < 0.3 * drift[0.0] and drift[0.0] > 0.05, drift
    assert marks[1.0] > 0.03, marks


def test_pencil_stays_gray_where_the_photo_is_red(picture: Pictures) -> None:
    pencil = picture(7).mean(1, keepdim=True).expand(1, 3, -1, -1).contiguous()
    red = picture(2) * torch.tensor([1.0, 0.3, 0.3]).view(1, 3, 1, 1)
    head = Head.fit([pencil], config=replace(BROAD, surface=0.0))
    level = head.levels[0]
    painted, _ = level.repaint(red, stride=3, seed=1, bias=1.0)
    assert float((painted - painted.mean(1, keepdim=True)).abs().max()) < 1e-5
    light = luminance(painted - red).mean()
    assert abs(float(light)) < 0.02  # but as bright as the photo


def test_the_mean_color_is_taken_over_by_so_much(picture: Pictures) -> None:
    level = Head.fit([picture(7)], config=BROAD).levels[0]
    photo = (picture(7) + 0.1).clamp(0, 1)
    gaps = []
    for bias in (0.0, 0.5, 1.0):
        painted, _ = level.repaint(photo, stride=3, seed=1, bias=bias)
        gaps.append(float((painted - photo).mean((2, 3)).abs().max()))
    assert gaps[0] > 2 * gaps[2] and gaps[0] >= gaps[1] >= gaps[2]


def test_the_coarsest_of_several_levels_breaks_color() -> None:
    assert [BROAD.bias_at(level) for level in range(3)] == [1.0, 1.0, 0.0]
    assert replace(BROAD, levels=1).bias_at(0) == 1.0


def test_drawings_have_nothing_between_ink_and_paper() -> None:
    paper = torch.full((1, 3, 160, 160), 0.93)
    paper[:, :, ::20] = 0.1
    assert Head.fit([paper], config=BROAD).config.bias == 0.0


def test_heads_of_earlier_versions_paint_as_they_did(picture: Pictures) -> None:
    """They do not say how far patches are moved: not at all."""
    data = Head.fit([picture(7)], config=replace(BROAD, bias=0.0)).to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["head"])
    for added in ("bias", "hues"):
        del facts["config"][added]
    header["__metadata__"]["head"] = json.dumps(facts)
    text = json.dumps(header).encode()
    older = Head.from_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert older.config.bias == 0.0 and older.config.hues == 0.8
