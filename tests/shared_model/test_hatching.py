"""Hatching: tones made of an owner's marks, lines along the shapes, paper left white."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.brush import directions
from shared_model.color import ColorStats
from shared_model.config import STROKES, HeadConfig
from shared_model.errors import StorageError
from shared_model.hatching import MARKS, TONES, Hatching, hatched
from shared_model.head import Head
from shared_model.pyramid import lattice, luminance
from shared_model.stylize import Options, stylize
from shared_model.surface import Surface

Pictures = Callable[..., Tensor]
PAPER, INK = (0.95, 0.9, 0.75), (0.35, 0.1, 0.05)


def engraving(side: int = 192) -> Tensor:
    """A picture of two colors: lines four pixels apart that grow from nothing to all over, from left to right."""
    rows, columns = torch.arange(side)[:, None] % 8, torch.linspace(-0.2, 1.2, side)
    ink = rows < 8 * columns
    colors = (torch.tensor(color).view(3, 1, 1) for color in (INK, PAPER))
    dark, bright = colors
    return torch.where(ink, dark, bright)[None]


def drawn(picture: Tensor, *, owner: Tensor | None = None, width: float = 1.0, outlines: float = 0.0) -> Tensor:
    hatching = Hatching.of([engraving() if owner is None else owner])
    chance = torch.Generator().manual_seed(3)
    return hatching.draw(picture, directions(picture), width=width, roughness=0.0, outlines=outlines, generator=chance)


def ramp(height: int = 96, width: int = 256) -> Tensor:
    """From black to white, left to right."""
    return torch.linspace(0, 1, width).expand(1, 3, height, width).contiguous()


def test_marks_are_read_by_the_light_of_their_place() -> None:
    hatching = Hatching.of([engraving()])
    assert hatching.marks.shape == (TONES, MARKS)
    dark, bright = (float(luminance(torch.tensor(c).view(1, 3, 1, 1))) for c in (INK, PAPER))
    assert torch.allclose(hatching.marks[0], torch.tensor(dark), atol=0.01), "where all is dark, all is ink"
    assert torch.allclose(hatching.marks[-1, 8:], torch.tensor(bright), atol=0.01), "where all is bright, paper"
    middle = hatching.marks[round((TONES - 1) * (dark + bright) / 2)]
    share = float((middle < (dark + bright) / 2).float().mean())
    assert 0.35 < share < 0.65, "half of a middle tone is ink"
    assert torch.allclose(hatching.inks[round(16 * bright)], torch.tensor(PAPER), atol=0.02)


def test_tones_are_made_of_the_owners_two_colors_and_are_as_light_as_the_photo() -> None:
    done = drawn(ramp())
    light = luminance(done)[0, 0]
    dark, bright = light.min(), light.max()
    pure = torch.minimum((light - dark).abs(), (light - bright).abs()) < 0.1 * (bright - dark)
    assert float(pure.float().mean()) > 0.75
    columns = light.view(96, 8, 32).mean((0, 2))
    assert bool((columns.diff() > -0.02).all()), "brighter from left to right"
    assert float((columns[3:5].mean() - (dark + bright) / 2).abs()) < 0.12
    assert float(light[:, :24].mean()) < float(dark) + 0.05, "black is black"
    assert float(light[:, -24:].mean()) > float(bright) - 0.05, "paper stays white"
    near = (done - torch.tensor(PAPER).view(1, 3, 1, 1)).abs().amax(1) < 0.06
    assert float(near[..., -24:].float().mean()) > 0.9


@pytest.mark.parametrize("vertical", [True, False])
def test_lines_run_along_the_shapes_and_are_as_wide_as_asked(vertical: bool) -> None:
    wave = 0.5 + 0.06 * torch.sin(torch.arange(160) / 12.0)
    photo = (wave.view(1, 1, 1, 160) if vertical else wave.view(1, 1, 160, 1)).expand(1, 3, 160, 160).contiguous()
    crossings = {}
    for width in (0.8, 2.0):
        light = luminance(drawn(photo, width=width))[0, 0]
        down, right = (float(((light > light.mean()).float().diff(dim=dim) != 0).float().mean()) for dim in (0, 1))
        along, across = (down, right) if vertical else (right, down)
        assert across > 2 * along
        crossings[width] = across
    assert crossings[0.8] > 1.5 * crossings[2.0]


def test_who_shades_softly_is_not_hatched() -> None:
    """Rubbed charcoal has one light in every place, and so has what is drawn with it."""
    soft = torch.linspace(0.1, 0.9, 192).expand(1, 3, 192, 192).contiguous()
    smooth, lined = (luminance(drawn(ramp(), owner=owner))[0, 0].diff(dim=0).abs().mean() for owner in (soft, None))
    assert float(smooth) < 0.1 * float(lined)


def test_outlines_are_as_dark_as_the_owners_marks() -> None:
    photo = torch.full((1, 3, 128, 128), 0.97)
    photo[:, :, 32:96, 32:96] = 0.85  # both are paper
    outlining = torch.where(torch.arange(192)[:, None] % 24 < 2, 0.1, 0.95).expand(1, 3, 192, 192).contiguous()
    outlining[:, :, :, 96:] = engraving()[:, :, :, :96].mean(1, keepdim=True)
    plain, outlined = (luminance(drawn(photo, owner=outlining, outlines=share))[0, 0] for share in (0.0, 0.06))
    across = (plain - outlined)[48:80]  # left and right edge of the square, away from its corners
    at_edges = torch.cat([across[:, 28:38], across[:, 90:100]], 1)
    assert float(at_edges.amax(1).min()) > 0.4
    assert float(across[:, 44:84].max()) < 0.05 and float(across[:, :22].max()) < 0.05


def test_one_ink_is_found_out_and_nothing_else(picture: Pictures) -> None:
    def of(seen: Tensor, config: HeadConfig) -> HeadConfig:
        made, hatching = hatched(config, ColorStats.of([seen]), Surface.of([seen], count=5), [seen])
        assert (hatching is not None) == (made.hatch > 0)
        return made

    fine = STROKES["fine"]
    made = of(engraving(), fine)
    assert made.hatch > 0 and made.outlines > 0 and made.graphic and made.levels == 1
    made_of_lines = engraving()
    assert of(made_of_lines, made) == made, "a head that hatches stays as it is"
    assert of(picture(1), fine) == fine, "colors have marks in color"
    for other in (STROKES["flat"], replace(fine, softness=1.0)):
        assert of(made_of_lines, other) == other
    assert of(made_of_lines, STROKES["broad"]).brush == 0, "one ink is not laid in with a brush"
    wide = torch.nn.functional.interpolate(engraving(), scale_factor=2.0)
    assert of(wide, fine).hatch > made.hatch, "wider marks, wider lines"


def test_a_head_hatches_and_its_file_remembers_how(small_head: HeadConfig, picture: Pictures) -> None:
    head = Head.fit([engraving()], config=small_head)
    assert head.hatching is not None and head.config.hatch > 0
    again = Head.from_bytes(head.to_bytes())
    photo = picture(2, 64, 80)
    assert torch.equal(again.draft(photo, seed=4).painted, head.draft(photo, seed=4).painted)
    assert not torch.equal(head.draft(photo, seed=5).painted, head.draft(photo, seed=4).painted)
    assert Head.fit([picture(1)], config=small_head).hatching is None
    kept = Head.fit([engraving()], config=replace(small_head, palette=0.3, vivid=0.5))
    assert (kept.color.share, kept.color.vivid) == (0.3, 0.5)
    assert torch.equal(Head.from_bytes(kept.to_bytes()).draft(photo).painted, kept.draft(photo).painted)


@pytest.mark.parametrize("change", ["missing", "shape", "number"])
def test_a_damaged_table_is_refused(small_head: HeadConfig, change: str) -> None:
    head = Head.fit([engraving()], config=small_head)
    assert head.hatching is not None
    marks = {"shape": head.hatching.marks[:5], "number": head.hatching.marks * torch.nan}.get(change)
    if marks is None:
        data = replace(head, hatching=None).to_bytes()
    else:
        data = replace(head, hatching=replace(head.hatching, marks=marks)).to_bytes()
    with pytest.raises(StorageError, match="damaged"):
        Head.from_bytes(data)


def test_lines_go_with_the_scene(small_head: HeadConfig, backbone: Backbone) -> None:
    head, photo = Head.fit([engraving()], backbone=backbone, config=small_head), ramp(64, 96)
    still = stylize(photo, head=head, backbone=backbone)
    assert torch.equal(stylize(photo, head=head, backbone=backbone, scene=lattice(photo)), still)
    assert not torch.equal(stylize(photo, head=head, backbone=backbone, scene=lattice(photo) + 8.0), still)


def test_nothing_of_a_large_photos_grain_shows(small_head: HeadConfig, backbone: Backbone) -> None:
    head = Head.fit([engraving()], backbone=backbone, config=small_head)
    plain = ramp(4 * small_head.canvas_px, 4 * small_head.canvas_px)
    grain = 0.2 * (torch.arange(plain.shape[-1]) % 2 * 2.0 - 1)
    done = [stylize(p.clamp(0, 1), head=head, backbone=backbone) for p in (plain, plain + grain)]
    inner = (done[1] - done[0])[..., 8:-8]
    assert abs(float(inner[..., ::2].mean() - inner[..., 1::2].mean())) < 0.01
    fine = replace(head, hatching=None, config=replace(head.config, hatch=0.0))
    options = Options(detail=1.0)
    done = [stylize(p.clamp(0, 1), head=fine, backbone=backbone, options=options) for p in (plain, plain + grain)]
    inner = (done[1] - done[0])[..., 8:-8]
    assert abs(float(inner[..., ::2].mean() - inner[..., 1::2].mean())) > 0.1, "of other heads it does"


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (64, 7)])
def test_any_size_can_be_hatched(small_head: HeadConfig, picture: Pictures, size: tuple[int, int]) -> None:
    assert bool(torch.isfinite(drawn(picture(2, *size), outlines=0.05)).all())


def test_heads_of_before_do_not_hatch(small_head: HeadConfig, picture: Pictures) -> None:
    """A head without the settings, as all were, paints as it did, also where its pictures are gray."""
    config = replace(small_head, softness=1.0)  # keeps it from hatching
    head = Head.fit([engraving()], config=config)
    data = head.to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["head"])
    for name in ("hatch", "areas", "outlines", "vivid"):
        del facts["config"][name]
    header["__metadata__"]["head"] = json.dumps(facts)
    older = json.dumps(header).encode()
    again = Head.from_bytes(len(older).to_bytes(8, "little") + older + data[8 + length :])
    assert again.hatching is None
    assert torch.equal(again.draft(picture(2)).painted, head.draft(picture(2)).painted)


def test_keeping_colors_and_strength_work_as_for_other_heads(small_head: HeadConfig, backbone: Backbone) -> None:
    head, photo = Head.fit([engraving()], backbone=backbone, config=small_head), ramp(64, 96)
    assert torch.equal(stylize(photo, head=head, backbone=backbone, options=Options(strength=0.0)), photo)
    kept = stylize(photo, head=head, backbone=backbone, options=Options(keep_color=True))
    assert float((kept - kept.mean(1, keepdim=True)).abs().max()) < 1e-5, "a gray photo stays gray"


def test_wood_is_ink_or_paper_and_charcoal_is_in_between(small_head: HeadConfig) -> None:
    soft = torch.linspace(0.1, 0.9, 192).expand(1, 3, 192, 192).contiguous()
    assert Hatching.of([engraving()]).purity() > 0.7
    assert Hatching.of([soft]).purity() < 0.1
    assert Hatching.of([torch.full((1, 3, 64, 64), 0.5)]).purity() == 0.0
    wood, charcoal = (Head.fit([owner], config=small_head).config for owner in (engraving(), soft))
    assert wood.roughness < charcoal.roughness and wood.surface < charcoal.surface, "no grain in wood"


def test_a_photos_tones_are_those_of_places_not_of_ink(small_head: HeadConfig) -> None:
    """Half of an engraving's pixels are black, but few of its places: a photo would be black and white, like ink."""
    head = Head.fit([engraving()], config=small_head)
    tones, pixels = head.color.tones[-1], ColorStats.of([engraving()]).tones[-1]
    between = [
        float(((t - t[0]).abs() / (t[-1] - t[0]).abs() - 0.5).abs().lt(0.3).float().mean()) for t in (tones, pixels)
    ]
    assert between[0] > 0.3 > between[1]


def test_enlarged_lines_are_of_the_same_ink_on_the_same_paper(small_head: HeadConfig, backbone: Backbone) -> None:
    head = Head.fit([engraving()], backbone=backbone, config=small_head)
    head = replace(head, config=replace(head.config, roughness=0.0))  # cut in wood: lines become crisp
    photo = ramp(small_head.canvas_px, small_head.canvas_px)
    small, large = (
        stylize(photo, head=head, backbone=backbone, options=Options(size_px=px))
        for px in (small_head.canvas_px, 4 * small_head.canvas_px)
    )
    assert float(large.max()) < float(small.max()) + 0.02 and float(large.min()) > float(small.min()) - 0.02
    bicubic = F.interpolate(small, scale_factor=4, mode="bicubic", antialias=True)
    steps = [float((p[..., 1:] - p[..., :-1]).abs().amax(3).mean()) for p in (bicubic, large)]
    assert steps[1] > 1.1 * steps[0]
