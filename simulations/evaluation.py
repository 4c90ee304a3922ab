"""What the simulation measures on held-out pictures: loss and picture quality of a backbone.

Nothing here runs on a device and nothing measured here comes from one: the records and pictures
belong to nobody in the population.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.head import Head
from shared_model.images import to_uint8
from shared_model.metrics import IDENTIFIABLE, Painting, score_pair
from shared_model.objective import Draws, draw, generator_loss
from shared_model.records import Batch, make_records
from shared_model.stylize import Options, stylize

__all__ = ["Judge", "Measured", "loss_on"]

_CHUNK = 4  # records whose loss is computed at a time
_PLAIN = LossConfig(adversarial="none")


@dataclass(frozen=True)
class Measured:
    """How good a backbone is on the held-out pictures.

    Parameters
    ----------
    loss
        Mean generator loss over the held-out records, without the adversarial term, which
        compares a backbone with its own critic and says nothing across rounds.
    quality, content, style
        Means over the held-out pairs (NaN if there is none), 0 to 1 (:mod:`shared_model.metrics`); pairs whose photo
        cannot be told from the painting by texture are left out, unless all are so.
    """

    loss: float
    quality: float
    content: float
    style: float


@dataclass(frozen=True)
class Pair:
    """One photo, the painting whose style it gets, and the head fitted on that painting."""

    photo: Tensor
    art: Tensor
    painting: Painting
    head: Head


@dataclass(frozen=True)
class Judge:
    """Fixed held-out records and pairs; the same for every backbone.

    Parameters
    ----------
    pairs
        On which quality is measured.
    records
        On which the loss is measured.
    draws
        The loss's random projections.
    options
        How the pairs are painted.
    """

    pairs: tuple[Pair, ...]
    records: Batch
    draws: Draws
    options: Options

    @staticmethod
    def of(
        photos: Sequence[Tensor],
        arts: Sequence[Tensor],
        *,
        pairs: int,
        records: int,
        record_px: int,
        options: Options,
        seed: int,
    ) -> Judge:
        """Prepare: pair photos and artworks in turn, analyse them and make the records.

        Parameters
        ----------
        photos, arts
            ``(1, 3, H, W) float in [0, 1]`` each.
        pairs
            How many pairs at most.
        records, record_px
            How many records, and their side in pixels.
        options
            How the pairs are painted.
        seed
            Of everything random.

        Raises
        ------
        InputError
            If there is no photo or no artwork.
        """
        made = make_records(photos, arts, count=records, size_px=record_px, seed=seed)
        ready = [(art, Painting.of(to_uint8(art)), Head.fit([art], seed=seed)) for art in arts[:pairs]]
        chosen = tuple(
            Pair(photos[index % len(photos)], *ready[index % len(ready)])
            for index in range(min(pairs, max(len(photos), len(arts))))
        )
        draws = draw(torch.Generator().manual_seed(seed), size_px=record_px)
        return Judge(chosen, made, draws, options)

    def measure(self, backbone: Backbone) -> Measured:
        """Return loss and quality of a backbone."""
        rows = [self._score(pair, backbone) for pair in self.pairs]
        kept = [row for row in rows if row["identifiability"] >= IDENTIFIABLE] or rows

        def mean(key: str) -> float:
            return sum(row[key] for row in kept) / len(kept) if kept else math.nan

        return Measured(self.loss_of(backbone), mean("headline"), mean("content"), mean("style"))

    def _score(self, pair: Pair, backbone: Backbone) -> Mapping[str, float]:
        head = pair.head.attuned(backbone, [pair.art], seed=self.options.seed)
        painted = stylize(pair.photo, head=head, backbone=backbone, options=self.options)
        return score_pair(to_uint8(painted), to_uint8(pair.photo), pair.painting)

    def loss_of(self, backbone: Backbone) -> float:
        """Return the mean generator loss over the held-out records."""
        return loss_on(self.records, backbone, draws=self.draws)


@torch.no_grad()
def loss_on(records: Batch, backbone: Backbone, *, draws: Draws) -> float:
    """Return the mean generator loss over records, without the adversarial term (see :class:`Measured`)."""
    parts = [
        generator_loss(backbone, records.select(some), draws, loss=_PLAIN)[0]
        for some in torch.arange(len(records)).split(_CHUNK)
    ]
    return float(torch.cat(parts).mean())
