"""The private head: fitting, drafting, saving, refusing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.dictionary import Dictionary
from shared_model.errors import CompatibilityError, InputError, StorageError
from shared_model.head import Head
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


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 9), (64, 7), (33, 50)])
def test_any_size_can_be_drafted(head: Head, picture: Pictures, size: tuple[int, int]) -> None:
    draft = head.draft(picture(2, *size))
    assert draft.painted.shape[-2:] == size
    assert bool(torch.isfinite(draft.painted).all())


def test_the_look_up_grid_leaves_no_weave(head: Head, picture: Pictures) -> None:
    """A regular grid of stride 3 puts a peak at a third of the sampling rate; random offsets must not."""
    flat = torch.full((1, 3, 120, 120), 0.5) + 0.02 * picture(9, 120, 120)

    def peak(painted: Tensor) -> float:
        spectrum = torch.fft.rfft(painted.mean(1)[0] - painted.mean(), dim=1).abs().mean(0)
        return float(spectrum[40] / spectrum[34:47].median())

    level = head.levels[0]
    assert peak(level.repaint(flat, stride=3, seed=1)[0]) < 2.0
    assert peak(level.repaint(flat, stride=3, seed=None)[0]) > peak(level.repaint(flat, stride=3, seed=1)[0])


def test_detail_lets_more_of_the_photo_through(head: Head, picture: Pictures) -> None:
    photo = picture(1)
    gap = [
        float((draft.painted - draft.colored).abs().mean())
        for draft in (head.draft(photo, detail=d) for d in (0.0, 0.5, 1.0))
    ]
    assert gap[0] > gap[1] > gap[2]


def test_saving_and_loading_changes_nothing(head: Head, picture: Pictures) -> None:
    again = Head.from_bytes(head.to_bytes())
    photo = picture(1)
    assert torch.equal(again.draft(photo).painted, head.draft(photo).painted)
    assert torch.equal(again.modulation, head.modulation)
    assert (again.name, again.backbone, again.images, again.config) == ("seven", head.backbone, 1, head.config)


def test_a_head_knows_its_backbone(head: Head, backbone: Backbone) -> None:
    assert head.backbone == backbone_id(backbone)
    assert head.modulation.shape == (2 * (8 + 24),)


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
        Head.from_bytes(dataclasses.replace(head, contrast=head.contrast * torch.nan).to_bytes())
    level = head.levels[0]
    broken = dataclasses.replace(level, price=torch.full_like(level.price, torch.nan))
    with pytest.raises(StorageError):
        Head.from_bytes(dataclasses.replace(head, levels=(broken, *head.levels[1:])).to_bytes())
