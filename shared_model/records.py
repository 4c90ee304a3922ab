"""Training records: fixed (photo, artwork) pairs, drafted once by a head that then stays frozen.

Two kinds share one layout. A *photo record* pairs a photo with a painting: the output must keep the
photo's structure and look like the painting. A *restyle record* comes from a painting alone
(:mod:`shared_model.destylise`): the output must equal the painting.

A record never changes once made: pairing photos and paintings anew in every step, or refitting the
head during private training, would let one example influence many records and void the
example-level guarantee (docs/privacy.md).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model.brush import abstract
from shared_model.color import ColorStats, transfer
from shared_model.config import HeadConfig
from shared_model.destylise import destylise
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import resize_short

__all__ = ["MIN_PX", "Batch", "at_least", "make_records", "photo_record", "photo_records", "restyle_record"]

MIN_PX = 48  # smallest side of a record: below it the coarse bands have too few samples for the losses


@dataclass(frozen=True)
class Batch:
    """Records stacked along the first dimension.

    Parameters
    ----------
    photo
        ``(N, 3, S, S) float in [0, 1]`` without its grain (:func:`shared_model.brush.abstract`); the
        pseudo-photo in a restyle record.
    colored, draft
        The head's two inputs to the generator, same shape and range.
    reference
        A crop of the painting that the style encoder and the discriminator may see.
    real
        Another crop of it (photo record) or the pixel-aligned target (restyle record).
    restyle
        ``(N,)`` 1.0 for restyle records, else 0.0.
    """

    photo: Tensor
    colored: Tensor
    draft: Tensor
    reference: Tensor
    real: Tensor
    restyle: Tensor

    def __len__(self) -> int:
        """How many records."""
        return len(self.restyle)

    @property
    def size_px(self) -> int:
        """Side of a record in pixels."""
        return int(self.photo.shape[-1])

    def tensors(self) -> tuple[Tensor, ...]:
        """All fields in order."""
        return tuple(getattr(self, item.name) for item in dataclasses.fields(self))

    def select(self, indices: Tensor | Sequence[int]) -> Batch:
        """Return the records at ``indices``."""
        index = torch.as_tensor(indices, dtype=torch.long, device=self.restyle.device)
        return Batch(*(t[index] for t in self.tensors()))

    def to(self, device: torch.device | str) -> Batch:
        """Return a copy on ``device``."""
        return Batch(*(t.to(device) for t in self.tensors()))

    @staticmethod
    def stack(batches: Iterable[Batch]) -> Batch:
        """Join batches of equal record size."""
        return Batch(*(torch.cat(parts) for parts in zip(*(b.tensors() for b in batches), strict=True)))


def photo_record(
    photo: Tensor, style: Tensor, head: Head, *, size_px: int, random_state: random.Random, detail: float = 0.5
) -> Batch:
    """Make one photo record: a random crop of the drafted photo and two crops of the painting.

    Parameters
    ----------
    photo, style
        ``(1, 3, H, W) float in [0, 1]`` at canvas scale; enlarged if smaller than ``size_px``.
    head
        The frozen head that drafts; fitted on ``style``.
    size_px
        Side of the record.
    random_state
        Chooses crops and strokes.
    detail
        See :meth:`Head.draft`.
    """
    return photo_records(photo, style, head, count=1, size_px=size_px, random_state=random_state, detail=detail)[0]


def photo_records(
    photo: Tensor,
    style: Tensor,
    head: Head,
    *,
    count: int,
    size_px: int,
    random_state: random.Random,
    detail: float = 0.5,
) -> list[Batch]:
    """Make ``count`` photo records from one draft of a photo; see :func:`photo_record`.

    The whole photo is drafted, as it is when somebody paints: a head's last touch depends on all of it.
    """
    photo, style = at_least(photo, size_px), at_least(style, size_px)
    draft = head.draft(photo, seed=random_state.randrange(1 << 16), detail=detail)
    guide = abstract(photo, head.config.abstraction)
    records = []
    for _ in range(count):
        at = _corner(photo, size_px, random_state)
        records.append(
            Batch(
                _cut(guide, at, size_px),
                _cut(draft.colored, at, size_px),
                _cut(draft.painted, at, size_px),
                _random_cut(style, size_px, random_state),
                _random_cut(style, size_px, random_state),
                torch.zeros(1),
            )
        )
    return records


def restyle_record(
    target: Tensor, rest: Tensor, head: Head, *, size_px: int, random_state: random.Random, detail: float = 0.5
) -> Batch:
    """Make one restyle record from two disjoint parts of a painting.

    Parameters
    ----------
    target
        The part to destylise and restore, ``(1, 3, H, W) float in [0, 1]``.
    rest
        The part that ``head`` was fitted on.
    """
    target, rest = at_least(target, size_px), at_least(rest, size_px)
    at = _corner(target, size_px, random_state)
    real = _cut(target, at, size_px)
    photo = destylise(real, random_state)
    colored = transfer(photo, ColorStats.of([real]))
    draft = head.redraft(colored, seed=random_state.randrange(1 << 16), detail=detail)
    reference = _random_cut(rest, size_px, random_state)
    return Batch(photo, colored, draft.painted, reference, real, torch.ones(1))


def make_records(
    photos: Sequence[Tensor],
    arts: Sequence[Tensor],
    *,
    count: int,
    size_px: int = 128,
    seed: int = 0,
    head_config: HeadConfig | None = None,
) -> Batch:
    """Make a device's fixed photo records: record i pairs photo i with artwork i, both repeated in turn.

    Parameters
    ----------
    photos, arts
        ``(1, 3, H, W) float in [0, 1]`` each, any size; resized to the head's canvas.
    count
        How many records.
    size_px, seed, head_config
        Side of a record, seed of all choices, and how the frozen heads (one per artwork) are built.

    Raises
    ------
    InputError
        If there is no photo or no artwork, or records would be too small to learn from.
    """
    if size_px < MIN_PX or size_px % 4:
        raise InputError(f"records must be at least {MIN_PX} pixels wide and a multiple of 4, not {size_px}")
    if not photos or not arts:
        raise InputError("training needs at least one photo and one artwork", hint="check both folders")
    config = head_config or HeadConfig()
    random_state = random.Random(seed)
    heads: dict[int, tuple[Head, Tensor]] = {}
    records = []
    for index in range(count):
        which = index % len(arts)
        if which not in heads:
            style = resize_short(arts[which], config.canvas_px)
            heads[which] = Head.fit([style], config=config, seed=seed), style
        head, style = heads[which]
        photo = resize_short(photos[index % len(photos)], config.canvas_px)
        records.append(photo_record(photo, style, head, size_px=size_px, random_state=random_state))
    return Batch.stack(records)


def at_least(picture: Tensor, short_px: int) -> Tensor:
    """Enlarge ``(1, 3, H, W)`` so that its short side has ``short_px`` pixels or more."""
    return picture if min(picture.shape[-2:]) >= short_px else resize_short(picture, short_px)


def _corner(picture: Tensor, size_px: int, random_state: random.Random) -> tuple[int, int]:
    height, width = picture.shape[-2:]
    return random_state.randint(0, height - size_px), random_state.randint(0, width - size_px)


def _cut(picture: Tensor, at: tuple[int, int], size_px: int) -> Tensor:
    return picture[:, :, at[0] : at[0] + size_px, at[1] : at[1] + size_px]


def _random_cut(picture: Tensor, size_px: int, random_state: random.Random) -> Tensor:
    return _cut(picture, _corner(picture, size_px, random_state), size_px)
