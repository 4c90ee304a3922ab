"""The private head: fitting, drafting, saving, refusing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.brush import STEPS, settle
from shared_model.config import HeadConfig
from shared_model.dictionary import Dictionary
from shared_model.errors import CompatibilityError, ConfigError, InputError, StorageError
from shared_model.head import Head
from shared_model.provenance import forget, thumbnail
from shared_model.pyramid import pyramid
from shared_model.weights import backbone_id

Pictures = Callable[..., Tensor]


def test_every_patch_is_a_literal_piece_of_the_owners_pictures(picture: Pictures, small_head: HeadConfig) -> None:
    style = picture(7)
    head = Head.fit([style], config=small_head)
    pieces = torch.nn.functional.unfold(style, 7)[0].T
    for patch in head.levels[0].values[:10].flatten(1):
        assert float((pieces - patch).abs().max(1).values.min()) <= 0.5 / 255 + 1e-6


def test_a_draft_is_seeded_and_in_range(head: Head, picture: Pictures) -> None:
    photo = picture(1)
    first, again, other = head.draft(photo, seed=3), head.draft(photo, seed=3), head.draft(photo, seed=4)
    assert torch.equal(first.painted, again.painted)
    assert not torch.equal(first.painted, other.painted)
    assert first.painted.shape == photo.shape
    assert float(first.painted.min()) >= 0 and float(first.painted.max()) <= 1


def test_a_dictionary_of_the_photo_itself_gives_the_photo_back(picture: Pictures) -> None:
    photo = picture(5, 40, 40)
    pieces = torch.nn.functional.unfold(photo, 7)[0].T.reshape(-1, 3, 7, 7)
    whole = Dictionary.fit(pieces, atoms=len(pieces), components=40, generator=torch.Generator())
    for seed in (None, 1):
        painted, _ = whole.repaint(photo, stride=3, seed=seed)
        assert float((painted - photo)[:, :, 8:-8, 8:-8].abs().max()) < 0.02


def test_keys_are_the_components_of_the_window_below_a_corner(picture: Pictures) -> None:
    photo = picture(5, 30, 40)
    pieces = torch.nn.functional.unfold(photo, 7)[0].T.reshape(-1, 3, 7, 7)
    level = Dictionary.fit(pieces, atoms=48, components=8, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.tensor([0, 3, 23]), torch.tensor([33, 0, 12])
    windows = torch.stack([photo[0, :, y : y + 7, x : x + 7].flatten() for y, x in zip(rows, columns, strict=True)])
    wanted = (windows - level.center) @ level.basis
    torch.testing.assert_close(level.project(photo, rows, columns), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("patch", [5, 7, 9])
def test_look_ups_leave_no_hole_however_the_grid_is_jittered(picture: Pictures, patch: int) -> None:
    """The widest grid that a head uses, (patch + 1) / 2; a hole would be 0 / 0."""
    style = picture(7)
    pieces = torch.nn.functional.unfold(style, patch)[0].T.reshape(-1, 3, patch, patch)[::7]
    level = Dictionary.fit(pieces, atoms=48, components=8, generator=torch.Generator().manual_seed(0))
    for seed in range(8):
        painted, _ = level.repaint(picture(3, 90, 70), stride=(patch + 1) // 2, seed=seed)
        assert bool(torch.isfinite(painted).all())


@pytest.mark.parametrize("atoms", [48, 50])
def test_the_cheapest_patch_is_found(picture: Pictures, atoms: int) -> None:
    pieces = torch.nn.functional.unfold(picture(7), 7)[0].T.reshape(-1, 3, 7, 7)
    level = Dictionary.fit(pieces, atoms=atoms, components=8, generator=torch.Generator().manual_seed(0))
    level = level.priced(torch.rand(atoms, generator=torch.Generator().manual_seed(1)), exponent=0.5)
    queries = torch.randn(300, 8, generator=torch.Generator().manual_seed(2)) * level.keys.std()
    cost = torch.cdist(queries.double(), level.keys.double()).square() * level.price.double()
    found = cost.gather(1, level.nearest(queries)[:, None])[:, 0]
    assert bool((found <= cost.amin(1) * (1 + 1e-4) + 1e-7).all())


@pytest.mark.parametrize("levels", [1, 5])
def test_as_many_levels_as_the_settings_allow_can_be_painted(picture: Pictures, levels: int) -> None:
    config = HeadConfig(canvas_px=96, levels=levels, atoms=16, candidates=64, components=4)
    draft = Head.fit([picture(7)], config=config).draft(picture(1))
    assert bool(torch.isfinite(draft.painted).all()) and len(draft.choices) == levels


def test_more_levels_than_a_head_knows_marks_of_are_refused() -> None:
    with pytest.raises(ConfigError, match="levels must be between 1 and 5"):
        HeadConfig(levels=6)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 9), (64, 7), (33, 50)])
def test_any_size_can_be_drafted(head: Head, picture: Pictures, size: tuple[int, int]) -> None:
    draft = head.draft(picture(2, *size))
    assert draft.painted.shape[-2:] == size
    assert bool(torch.isfinite(draft.painted).all())


@pytest.mark.parametrize("stride", [3, 4])
def test_the_look_up_grid_leaves_no_weave(head: Head, picture: Pictures, stride: int) -> None:
    """A regular grid puts a peak at the sampling rate over its stride; random offsets must not."""
    flat = torch.full((1, 3, 120, 120), 0.5) + 0.02 * picture(9, 120, 120)
    bin_ = 120 // stride

    def peak(painted: Tensor) -> float:
        spectrum = torch.fft.rfft(painted.mean(1)[0] - painted.mean(), dim=1).abs().mean(0)
        return float(spectrum[bin_] / spectrum[bin_ - 6 : bin_ + 7].median())

    level = head.levels[0]
    jittered = peak(level.repaint(flat, stride=stride, seed=1)[0])
    assert jittered < 2.0
    assert peak(level.repaint(flat, stride=stride, seed=None)[0]) > jittered


def test_detail_lets_more_of_the_photo_through(head: Head, picture: Pictures) -> None:
    photo = picture(1)
    gap = [
        float((draft.painted - draft.colored).abs().mean())
        for draft in (head.draft(photo, detail=d) for d in (0.0, 0.5, 1.0))
    ]
    assert gap[0] > gap[1] > gap[2]


def test_broad_colors_stay_near_the_photos(head: Head, picture: Pictures) -> None:
    """No blotches: below an eighth of the size, a draft without its last touch keeps to the photo's tones."""
    colored = head.colored(picture(1))
    blotch = torch.zeros_like(colored)
    blotch[:, 1:, 20:70, 20:70] = 0.4
    held = settle(colored + blotch, pyramid(colored, STEPS), allowed=0.08, detail=0.0)
    inside = (..., slice(4, 7), slice(4, 7))
    gap = [float((pyramid(p, 4)[-1] - pyramid(colored, 4)[-1])[inside].max()) for p in (colored + blotch, held)]
    assert gap[1] < 0.5 * gap[0]


def test_saving_and_loading_changes_nothing(head: Head, picture: Pictures) -> None:
    again = Head.from_bytes(head.to_bytes())
    photo = picture(1)
    assert torch.equal(again.draft(photo).painted, head.draft(photo).painted)
    assert torch.equal(again.modulation, head.modulation)
    assert (again.name, again.backbone, again.images, again.config) == ("seven", head.backbone, 1, head.config)


def test_a_head_knows_its_backbone(head: Head, backbone: Backbone) -> None:
    assert head.backbone == backbone_id(backbone)
    assert head.modulation.shape == (2 * (8 + 16),)


def test_no_picture_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InputError):
        Head.fit([], backbone=backbone)


def test_tiny_pictures_make_a_head(small_head: HeadConfig) -> None:
    head = Head.fit([torch.rand(1, 3, 1, 1), torch.rand(1, 3, 3, 200)], config=small_head)
    assert bool(torch.isfinite(head.draft(torch.rand(1, 3, 40, 40)).painted).all())


@pytest.mark.parametrize("cut", [0, 7, 8, 100, 2000, -1])
def test_a_truncated_head_is_refused(head: Head, cut: int) -> None:
    with pytest.raises(StorageError):
        Head.from_bytes(head.to_bytes()[:cut])


def test_a_foreign_file_is_refused() -> None:
    foreign = safetensors.torch.save({"x": torch.zeros(2)}, metadata={"format": "other"})
    with pytest.raises(CompatibilityError):
        Head.from_bytes(foreign)
    with pytest.raises(CompatibilityError):
        Head.from_bytes(safetensors.torch.save({"x": torch.zeros(2)}))


def test_a_head_with_nonsense_inside_is_refused(head: Head) -> None:
    with pytest.raises(StorageError):
        broken_surface = dataclasses.replace(head.surface, contrast=head.surface.contrast * torch.nan)
        Head.from_bytes(dataclasses.replace(head, surface=broken_surface).to_bytes())
    for lights in (head.surface.lights * torch.nan, head.surface.lights[:, :4], head.surface.lights.double()):
        with pytest.raises(StorageError):
            Head.from_bytes(
                dataclasses.replace(head, surface=dataclasses.replace(head.surface, lights=lights)).to_bytes()
            )
    for name in ("tints", "colors"):
        table = getattr(head.surface, name)
        for wrong in (table * torch.nan, table[..., :4], table.double(), None):  # neither is there alone
            surface = dataclasses.replace(head.surface, **{name: wrong})
            with pytest.raises(StorageError):
                Head.from_bytes(dataclasses.replace(head, surface=surface).to_bytes())
    level = head.levels[0]
    broken = dataclasses.replace(level, price=torch.full_like(level.price, torch.nan))
    with pytest.raises(StorageError):
        Head.from_bytes(dataclasses.replace(head, levels=(broken, *head.levels[1:])).to_bytes())


# --- what a head remembers of its making ---------------------------------------------------------


def test_every_patch_remembers_the_place_that_it_was_cut_from(picture: Pictures, small_head: HeadConfig) -> None:
    styles = [picture(7), picture(8, 110, 96)]
    head = Head.fit(styles, config=small_head)
    pyramids = [pyramid(style, small_head.levels) for style in styles]
    assert {int(which) for which in head.levels[0].origin[:, 0]} == {0, 1}
    for index, level in enumerate(head.levels):
        assert level.origin is not None and level.origin.dtype == torch.int32
        for patch, (which, row, column) in zip(level.values, level.origin.tolist(), strict=True):
            cut = pyramids[which][index][0, :, row : row + level.side, column : column + level.side]
            assert float((cut - patch).abs().max()) <= 0.5 / 255 + 1e-6


def test_remembering_survives_the_file_and_the_price(
    picture: Pictures, small_head: HeadConfig, backbone: Backbone
) -> None:
    head = Head.fit([picture(7), picture(8)], backbone=backbone, config=small_head)
    head = dataclasses.replace(head, change=torch.linspace(-1, 1, 7).half())
    again = Head.from_bytes(head.to_bytes())
    for ours, theirs in zip(head.levels, again.levels, strict=True):
        assert ours.origin is not None and theirs.origin is not None and torch.equal(ours.origin, theirs.origin)
    assert again.change is not None and torch.equal(again.change, torch.linspace(-1, 1, 7).half())
    assert len(again.thumbnails) == 2 and all(map(torch.equal, again.thumbnails, head.thumbnails))
    assert again.thumbnails[0].shape == (3, 64, 85)
    assert again.to("cpu").levels[0].origin is not None


def test_heads_of_earlier_versions_remember_nothing_and_still_paint(head: Head, picture: Pictures) -> None:
    plain = _without(head.to_bytes(), "origin", "thumbnails")
    older = Head.from_bytes(plain)
    assert all(level.origin is None for level in older.levels) and older.thumbnails == ()
    assert torch.equal(older.draft(picture(1)).painted, head.draft(picture(1)).painted)
    assert Head.from_bytes(older.to_bytes()).levels[0].origin is None


def test_heads_of_earlier_versions_break_all_tones_up_alike(head: Head, picture: Pictures) -> None:
    older = Head.from_bytes(_without(head.to_bytes(), "lights"))
    assert torch.equal(older.surface.lights, torch.ones_like(head.surface.lights))
    again = Head.from_bytes(head.to_bytes())
    assert torch.equal(again.surface.lights, head.surface.lights)
    strength = older.surface.strength(0, picture(1))
    assert torch.allclose(strength, torch.full_like(strength, older.surface.deviation(0)))


def test_heads_of_earlier_versions_have_red_green_and_blue_moved(head: Head, picture: Pictures) -> None:
    older = Head.from_bytes(_without(head.to_bytes(), "tints", "colors"))
    assert older.surface.tints is None and older.surface.colors is None
    painted, again = older.draft(picture(1)).painted, Head.from_bytes(older.to_bytes()).draft(picture(1)).painted
    assert torch.equal(painted, again) and not torch.equal(painted, head.draft(picture(1)).painted)


def test_a_forgetful_head_holds_no_small_copy_and_paints_the_same(head: Head, picture: Pictures) -> None:
    bare = forget(head)
    assert torch.equal(bare.draft(picture(1)).painted, head.draft(picture(1)).painted)
    kept = safetensors.torch.load(bare.to_bytes())
    assert not [name for name in kept if "thumbnails" in name or "origin" in name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("levels.0.origin", torch.zeros(64, 2, dtype=torch.int32)),
        ("levels.0.origin", torch.zeros(64, 3)),
        ("levels.0.origin", torch.full((64, 3), -1, dtype=torch.int32)),
        ("levels.0.origin", torch.full((64, 3), 9, dtype=torch.int32)),
        ("change", torch.zeros(3)),
        ("change", torch.zeros(3, 1).half()),
        ("change", torch.full((3,), torch.nan).half()),
        ("change", torch.full((3,), 1000.0).half()),
        ("thumbnails.0", torch.zeros(3, 4, 4)),
        ("thumbnails.0", torch.zeros(3, 0, 4, dtype=torch.uint8)),
    ],
)
def test_a_wrong_memory_is_a_damaged_head(head: Head, key: str, value: Tensor) -> None:
    with pytest.raises(StorageError, match="damaged"):
        Head.from_bytes(_without(head.to_bytes(), key, adding={key: value}))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3000, 2), (10, 12)])
def test_small_copies_stay_small(size: tuple[int, int]) -> None:
    small = thumbnail(torch.rand(1, 3, *size))
    assert small.dtype == torch.uint8 and small.numel() <= 3 * 64 * 256 and min(small.shape) >= 1


def _without(data: bytes, *parts: str, adding: dict[str, Tensor] | None = None) -> bytes:
    """Return a head file without the tensors whose name holds one of ``parts``."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    tensors = {k: v for k, v in safetensors.torch.load(data).items() if not any(part in k for part in parts)}
    return safetensors.torch.save(tensors | (adding or {}), metadata=metadata)
