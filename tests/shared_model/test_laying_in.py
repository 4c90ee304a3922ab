"""Laying in: strokes of one color along the shapes, that stop at edges, and leave what stands out to the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.brush import directions, trails
from shared_model.color import ColorStats
from shared_model.config import STROKES
from shared_model.head import Head
from shared_model.laying_in import lay_in
from shared_model.pyramid import LUMA, lattice, luminance
from shared_model.stylize import stylize
from shared_model.surface import Surface

Pictures = Callable[..., Tensor]
BROAD = replace(STROKES["broad"], canvas_px=96, atoms=64, candidates=600, components=12)


def laid(picture: Tensor, *, brush: int = 3, light: float = 0.05, hue: float = 0.3, detail: float = 0.0) -> Tensor:
    trail = trails(directions(picture), 8)
    chance = torch.Generator().manual_seed(5)
    return lay_in(picture, trail, brush=brush, light=light, hue=hue * torch.eye(3), detail=detail, generator=chance)


def slopes(height: int = 96, width: int = 128) -> Tensor:
    """A soft gradient from left to right, darker below: no edge, no grain."""
    across, down = torch.linspace(0.3, 0.7, width), torch.linspace(0.1, -0.1, height)[:, None]
    return (across + down).expand(1, 3, height, width).contiguous()


def test_a_stroke_has_one_color_and_ends_sharply() -> None:
    """Most neighbors are of one stroke, and hardly differ; the others differ as strokes do. A blur has neither."""
    steps = (laid(slopes())[0, 0].diff(dim=1)).abs()
    assert float((steps < 0.002).float().mean()) > 0.6
    assert float((steps > 0.02).float().mean()) > 0.05
    assert float(((steps > 0.002) & (steps < 0.01)).float().mean()) < 0.15


@pytest.mark.parametrize("vertical", [True, False])
def test_strokes_are_long_along_the_shapes_and_as_wide_as_the_brush(vertical: bool) -> None:
    wave = 0.5 + 0.1 * torch.sin(torch.arange(160) / 25.0)  # so soft that no stroke has to stop
    picture = (wave.view(1, 1, 1, 160) if vertical else wave.view(1, 1, 160, 1)).expand(1, 3, 160, 160).contiguous()
    changed = [(laid(picture, light=0.1)[0, 0].diff(dim=dim).abs() > 0.02).float().mean() for dim in (0, 1)]
    along, across = changed if vertical else reversed(changed)
    assert float(across) > 1.5 * float(along)
    small = (laid(picture, brush=1, light=0.1)[0, 0].diff(dim=1 if vertical else 0).abs() > 0.02).float().mean()
    assert float(small) > 1.5 * float(across), "a smaller brush makes more strokes"


def test_strokes_stop_at_edges() -> None:
    picture = torch.full((1, 3, 96, 96), 0.2)
    picture[:, :, :, 48:] = 0.8
    done = laid(picture, light=0.01)
    assert float(done[..., :44].max()) < 0.35 and float(done[..., 52:].min()) > 0.65


def test_what_stands_out_is_drawn_and_what_is_busy_all_over_is_not() -> None:
    """Marks as small as an eye, once alone on an even ground and once among many."""
    alone, busy = (torch.full((1, 3, 192, 192), 0.7) for _ in range(2))
    mark = (slice(None), slice(None), slice(93, 97), slice(93, 97))
    alone[mark] = 0.0
    for row in range(0, 188, 9):
        for column in range(0, 188, 9):
            busy[:, :, row + 3 : row + 7, column + 3 : column + 7] = 0.0
    kept = [1 - float((laid(p, brush=4, light=0.0, detail=0.4) - p)[mark].abs().mean()) / 0.7 for p in (alone, busy)]
    assert kept[0] > 0.9
    assert kept[1] < kept[0] - 0.25


def test_more_detail_shows_more_of_the_picture(picture: Pictures) -> None:
    photo = picture(3, 120, 150)
    off = [float((laid(photo, light=0.0, detail=detail) - photo).abs().mean()) for detail in (0.0, 0.3, 0.6, 1.0)]
    assert off == sorted(off, reverse=True) and off[3] < 0.2 * off[0], off


@pytest.mark.parametrize(("height", "width"), [(96, 128), (33, 47), (5, 9), (4, 4)])
def test_any_size_keeps_its_shape_and_range(picture: Pictures, height: int, width: int) -> None:
    done = laid(picture(2, height, width), light=0.5)
    assert done.shape == (1, 3, height, width)
    assert float(done.min()) >= 0 and float(done.max()) <= 1 and bool(done.isfinite().all())


def test_the_same_seed_lays_in_the_same_picture(picture: Pictures) -> None:
    head, photo = Head.fit([picture(7)], config=BROAD), picture(2)
    first, again, other = (head.draft(photo, seed=seed).painted for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_colors_vary_as_the_owners_do(picture: Pictures) -> None:
    """An even picture has no strokes; grain of several pixels has, gray or in color as it is."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 3, 40, 40, generator=generator), scale_factor=6.0)
    even = torch.full((1, 3, 240, 240), 0.5)
    gray = even + 0.05 * coarse[:, :1]
    styles = (even, gray, even + 0.05 * coarse)
    variety = [Surface.of([style]).variety() for style in styles]
    assert variety[0] < 0.002 < 0.02 < variety[1] <= 0.05
    hues = [ColorStats.of([style]).colorfulness() for style in styles]
    assert hues[0] == 0.0 and hues[1] < 0.01 and hues[2] > 0.8


def test_hues_vary_along_the_owners(picture: Pictures) -> None:
    """Who paints in orange and blue breaks gray into orange and blue, not into pink and green; light stays."""
    generator = torch.Generator().manual_seed(3)
    warm = 0.1 * torch.randn(1, 1, 60, 60, generator=generator)
    owner = ColorStats.of([0.5 + torch.cat([warm, 0.2 * warm, -warm], 1)])
    hues = owner.mottling()
    apart = torch.eye(3) - torch.tensor(LUMA)
    assert abs(float(hues.square().sum() / apart.square().sum()) - 1) < 1e-3
    assert float((torch.tensor(LUMA) @ hues).abs().max()) < 1e-5
    even = torch.full((1, 3, 96, 128), 0.5)
    trail = trails(directions(even), 8)
    chance = torch.Generator().manual_seed(5)
    done = lay_in(even, trail, brush=3, light=0.05, hue=hues, detail=0.0, generator=chance)
    color = (done - luminance(done))[0].flatten(1)
    assert float(torch.corrcoef(color)[0, 2]) < -0.95 and float(color.square().mean().sqrt()) > 0.02
    assert bool(ColorStats.of([even]).mottling().isfinite().all())


def test_strokes_go_with_a_scene_that_moves() -> None:
    """A frame that shows what was 8 pixels to the right, in a picture without shapes: the same strokes, moved."""
    wide = torch.full((1, 3, 96, 136), 0.5)
    trail = trails(directions(wide[..., :128]), 8)

    def frame(left: int) -> Tensor:
        rows, columns = torch.arange(48.0)[:, None], torch.arange(64.0)[None] + left / 2
        places = torch.stack(torch.broadcast_tensors(rows, columns))[None]
        chance = torch.Generator().manual_seed(5)
        given = {"light": 0.05, "hue": 0.3 * torch.eye(3), "detail": 0.0, "generator": chance, "places": places}
        return lay_in(wide[..., left : left + 128], trail, brush=3, **given)

    first, second = frame(0), frame(8)
    inner = slice(32, 88)
    torch.testing.assert_close(second[..., inner], first[..., 40:96], atol=1e-5, rtol=0)
    assert float((second - first)[..., inner].abs().mean()) > 0.01


def test_the_first_frame_of_a_clip_is_the_painting_of_the_photo(picture: Pictures, backbone: Backbone) -> None:
    head, photo = Head.fit([picture(7)], backbone=backbone, config=BROAD), picture(2, 51, 70)
    still = stylize(photo, head=head, backbone=backbone)
    assert torch.equal(stylize(photo, head=head, backbone=backbone, scene=lattice(photo)), still)
    assert not torch.equal(stylize(photo, head=head, backbone=backbone, scene=lattice(photo) + 9.0), still)


def test_line_drawings_are_drawn_not_laid_in() -> None:
    paper = torch.full((1, 3, 96, 96), 0.98)
    paper[:, :, ::12] = 0.05
    assert Head.fit([paper], config=BROAD).config.brush == 0


def test_heads_of_before_have_no_brush(picture: Pictures) -> None:
    import json

    head = Head.fit([picture(7)], config=replace(BROAD, brush=0))
    data = head.to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["head"])
    del facts["config"]["brush"]
    header["__metadata__"]["head"] = json.dumps(facts)
    older = json.dumps(header).encode()
    again = Head.from_bytes(len(older).to_bytes(8, "little") + older + data[8 + length :])
    assert again.config.brush == 0
    assert torch.equal(again.draft(picture(2)).painted, head.draft(picture(2)).painted)


def test_a_photo_without_colors_stays_without_in_its_own_palette(picture: Pictures) -> None:
    head = Head.fit([picture(7)], config=replace(BROAD, palette=0.0, surface=0.0))
    gray = picture(2).mean(1, keepdim=True).expand(1, 3, -1, -1).contiguous()
    painted = head.draft(gray, detail=0.0).painted
    assert float((painted - painted.mean(1, keepdim=True)).abs().mean()) < 0.01
    assert float((painted - gray).abs().mean()) > 0.01
