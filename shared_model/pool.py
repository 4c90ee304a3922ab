"""A pool of drafted training records that is renewed while training goes on.

Drafting is far cheaper than it looks only because it is not done per step: each visit to a painting
fits a head on it and drafts a few photos (and, from two halves of the painting, a few restyle
records); steps then take random crops of whatever the pool holds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from shared_model.config import HeadConfig, TrainConfig
from shared_model.head import Head
from shared_model.images import resize_short
from shared_model.records import Batch, at_least, photo_records, restyle_record

__all__ = ["DETAILS", "Pool", "augment", "halves", "varied", "visit"]

_CANVASES = (1.0, 1.0, 0.78)  # paintings are also shown smaller: finer strokes
DETAILS = (0.3, 0.5, 0.5, 0.65)
_CROPS = 2  # records cut from one drafted photo


def visit(painting: Tensor, photos: Sequence[Tensor], config: TrainConfig, random_state: random.Random) -> list[Batch]:
    """Make the records of one visit to a painting.

    Parameters
    ----------
    painting
        ``(1, 3, H, W) float in [0, 1]``.
    photos
        The photos to choose from, same layout.

    Returns
    -------
    list of Batch
        Two photo records for each of ``photos_per_visit`` photos and, where both halves of the painting
        are large enough, ``restyles_per_visit`` restyle records, one record each, ``record_px`` wide.
    """
    head_config = varied(config.head, random_state)
    short = round(config.head.canvas_px * random_state.choice(_CANVASES))
    style = at_least(resize_short(painting, short), config.record_px)
    seed = random_state.randrange(1 << 30)
    head = Head.fit([style], config=replace(head_config, canvas_px=min(style.shape[-2:])), seed=seed)
    made = []
    for photo in random_state.choices(photos, k=config.photos_per_visit):
        sized = resize_short(photo, config.head.canvas_px)
        detail = random_state.choice(DETAILS)
        made += photo_records(
            sized,
            style,
            head,
            count=_CROPS,
            size_px=config.record_px,
            random_state=random_state,
            detail=detail,
        )
    parts = halves(style)
    if config.restyles_per_visit and min(parts[0].shape[-2:]) >= config.record_px:
        if random_state.random() < 0.5:
            parts = parts[::-1]
        rest = Head.fit([parts[0]], config=replace(head_config, canvas_px=min(parts[0].shape[-2:])), seed=seed)
        made += [
            restyle_record(parts[1], parts[0], rest, size_px=config.record_px, random_state=random_state)
            for _ in range(config.restyles_per_visit)
        ]
    return made


def varied(config: HeadConfig, random_state: random.Random) -> HeadConfig:
    """Return the settings of some device's head: a firmer hand, longer strokes, more or less broken color."""
    return replace(
        config,
        sharpness=random_state.choice((1.5, 2.0)),
        stroke=random_state.choice((3, 5, 5, 8)),
        abstraction=random_state.choice((0.3, 0.5, 0.5, 0.8)),
        roughness=config.roughness * random_state.uniform(0.6, 1.2),
    )


def halves(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Split along the longer side."""
    height, width = picture.shape[-2:]
    if width >= height:
        return picture[:, :, :, : width // 2], picture[:, :, :, width // 2 :]
    return picture[:, :, : height // 2], picture[:, :, height // 2 :]


@dataclass
class Pool:
    """Records as bytes in memory, by kind; the oldest make room for new ones.

    Parameters
    ----------
    capacity
        Records kept, both kinds together.
    """

    capacity: int
    entries: dict[bool, list[tuple[Tensor, ...]]] = field(default_factory=lambda: {False: [], True: []})

    def add(self, records: Sequence[Batch]) -> None:
        """Add one-record batches."""
        for record in records:
            restyle = bool(record.restyle[0])
            packed = tuple((t * 255).round().clamp(0, 255).to(torch.uint8) for t in record.tensors()[:-1])
            self.entries[restyle].append(packed)
        while len(self) > self.capacity:
            longest = max(self.entries.values(), key=len)
            del longest[0]

    def __len__(self) -> int:
        """Return the number of records of both kinds."""
        return sum(len(kind) for kind in self.entries.values())

    def sample(self, count: int, *, restyles: int, size_px: int, random_state: random.Random) -> Batch:
        """Return ``count`` augmented crops, ``restyles`` of them from restyle records if there are any."""
        picked = []
        for index in range(count):
            restyle = index >= count - restyles and bool(self.entries[True])
            packed = random_state.choice(self.entries[restyle])
            picked.append(_crop(packed, restyle, size_px, random_state))
        return augment(Batch.stack(picked), random_state)


def _crop(packed: tuple[Tensor, ...], restyle: bool, size_px: int, random_state: random.Random) -> Batch:
    """One crop of a record; the reference (and the real crop of a photo record) are cut elsewhere."""
    room = packed[0].shape[-1] - size_px

    def corner() -> tuple[int, int]:
        return random_state.randint(0, room), random_state.randint(0, room)

    shared = corner()
    places = (shared, shared, shared, corner(), shared if restyle else corner())
    cut = [t[:, :, y : y + size_px, x : x + size_px].float() / 255 for t, (y, x) in zip(packed, places, strict=True)]
    return Batch(cut[0], cut[1], cut[2], cut[3], cut[4], torch.full((1,), float(restyle)))


def augment(batch: Batch, random_state: random.Random) -> Batch:
    """Mirror records and permute their color channels at random, each record in one piece.

    Drafts are equivariant to both, so nothing has to be drafted again.
    """
    records = []
    for index in range(len(batch)):
        tensors = [t[index : index + 1] for t in batch.tensors()[:-1]]
        if random_state.random() < 0.5:
            tensors = [t.flip(-1) for t in tensors]
        if random_state.random() < 0.3:
            order = random_state.sample(range(3), 3)
            tensors = [t[:, order] for t in tensors]
        records.append(Batch(tensors[0], tensors[1], tensors[2], tensors[3], tensors[4], batch.restyle[index][None]))
    return Batch.stack(records)
