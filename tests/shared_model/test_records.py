"""Training records and the pool: fixed pairs, aligned crops, destylising, tuning."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, TrainConfig
from shared_model.destylise import destylise
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.pool import Pool, augment, visit
from shared_model.pyramid import bands
from shared_model.records import Batch, make_records, restyle_record
from shared_model.tuning import tune

Pictures = Callable[..., Tensor]


def test_records_are_fixed(picture: Pictures, small_head: HeadConfig, records: Batch) -> None:
    photos, arts = [picture(1), picture(2)], [picture(3), picture(4)]
    again = make_records(photos, arts, count=4, size_px=48, head_config=small_head)
    for first, second in zip(records.tensors(), again.tensors(), strict=True):
        assert torch.equal(first, second)


def test_the_first_records_do_not_depend_on_how_many_follow(picture: Pictures, small_head: HeadConfig) -> None:
    """One more record must not change the others, or one example would touch many records."""
    photos, arts = [picture(1), picture(2)], [picture(3)]
    short = make_records(photos, arts, count=2, size_px=48, head_config=small_head)
    longer = make_records(photos, arts, count=3, size_px=48, head_config=small_head)
    assert torch.equal(longer.select([0, 1]).draft, short.draft)


def test_photo_and_draft_are_aligned(records: Batch) -> None:
    for index in range(len(records)):
        photo, draft = records.photo[index].mean(0).flatten(), records.draft[index].mean(0).flatten()
        assert float(torch.corrcoef(torch.stack([photo, draft]))[0, 1]) > 0.3


def test_records_need_pictures_and_room(picture: Pictures) -> None:
    for photos, arts in (([], [picture(1)]), ([picture(1)], [])):
        with pytest.raises(InputError):
            make_records(photos, arts, count=1)
    with pytest.raises(InputError):
        make_records([picture(1)], [picture(2)], count=1, size_px=32)


def test_tiny_pictures_make_records(small_head: HeadConfig) -> None:
    batch = make_records(
        [torch.rand(1, 3, 4, 9)], [torch.rand(1, 3, 2, 2)], count=1, size_px=48, head_config=small_head
    )
    assert batch.size_px == 48 and bool(torch.isfinite(batch.draft).all())


def test_batches_select_and_stack(records: Batch) -> None:
    joined = Batch.stack([records.select([2]), records.select(torch.tensor([0, 1]))])
    assert len(joined) == 3
    assert torch.equal(joined.photo[0], records.photo[2]) and torch.equal(joined.real[2], records.real[1])


def test_destylising_removes_marks_and_keeps_masses(picture: Pictures) -> None:
    painting = (picture(1) + 0.15 * torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    for seed in range(5):
        plain = destylise(painting, random.Random(seed))
        assert plain.shape == painting.shape
        assert float(plain.min()) >= 0 and float(plain.max()) <= 1
        assert float(bands(plain, 1)[0].std()) < 0.75 * float(bands(painting, 1)[0].std())
        coarse = torch.stack([torch.nn.functional.avg_pool2d(t, 16).flatten() for t in (plain, painting)])
        assert float(torch.corrcoef(coarse)[0, 1]) > 0.9


def test_a_restyle_record_has_its_target_aligned(picture: Pictures, small_head: HeadConfig) -> None:
    target, rest = picture(1), picture(2)
    head = Head.fit([rest], config=small_head)
    record = restyle_record(target, rest, head, size_px=48, random_state=random.Random(0))
    assert float(record.restyle) == 1
    pieces = target.unfold(2, 48, 1).unfold(3, 48, 1)
    gap = (pieces - record.real[:, :, None, None]).abs().amax((0, 1, 4, 5))
    assert float(gap.min()) == 0


def _config(head: HeadConfig) -> TrainConfig:
    return TrainConfig(record_px=64, crop_px=48, photos_per_visit=2, restyles_per_visit=1, head=head)


def test_a_visit_makes_both_kinds(picture: Pictures, small_head: HeadConfig) -> None:
    config = dataclasses.replace(_config(small_head), head=dataclasses.replace(small_head, canvas_px=128))
    made = visit(picture(3, 128, 160), [picture(1)], config, random.Random(2))
    assert [float(record.restyle) for record in made] == [0, 0, 0, 0, 1]  # two crops of each draft
    assert all(record.size_px == 64 for record in made)


def test_the_pool_forgets_the_oldest_and_samples_both_kinds(picture: Pictures) -> None:
    pool = Pool(5)
    for value in range(8):
        flat = torch.full((1, 3, 64, 64), value / 8)
        pool.add([Batch(flat, flat, flat, flat, flat, torch.tensor([float(value % 2)]))])
    assert len(pool) == 5
    batch = pool.sample(4, restyles=1, size_px=48, random_state=random.Random(0))
    assert batch.restyle.tolist() == [0, 0, 0, 1]
    assert float(batch.photo.min()) > 1 / 8


def test_augmentation_keeps_a_record_in_one_piece(records: Batch) -> None:
    """Whatever happens to the photo happens to all of its record."""
    same = Batch(*(records.photo,) * 5, records.restyle)
    for seed in range(10):
        changed = augment(same, random.Random(seed))
        assert all(torch.equal(tensor, changed.photo) for tensor in changed.tensors()[:-1])


def test_tuning_changes_only_the_hand_and_never_for_the_worse(
    head: Head, backbone: Backbone, picture: Pictures
) -> None:
    losses: list[float] = []
    ticks = iter(range(10_000))
    weights = [p.clone() for p in backbone.parameters()]
    tuned = tune(
        head,
        [picture(7)],
        backbone=backbone,
        photos=[picture(1)],
        budget_s=24,
        clock=lambda: next(ticks),
        progress=lambda fraction, loss: losses.append(loss),
    )
    assert tuned.change is not None and bool(tuned.change.any())
    assert dataclasses.replace(tuned, change=None) == head
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, before) for p, before in zip(backbone.parameters(), weights, strict=True))
    assert all(p.requires_grad for p in backbone.parameters())


def test_no_time_leaves_the_head_as_it_was(head: Head, backbone: Backbone, picture: Pictures) -> None:
    tuned = tune(head, [picture(7)], backbone=backbone, photos=[picture(1)], budget_s=0.0)
    assert tuned.change is None and tuned == head
