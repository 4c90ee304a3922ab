"""The trial of a backbone before its release: it paints sample photos in four manners, and the paintings are measured.

Everything that it looks at comes with easel, so it costs no privacy and gives the same figures for the same weights:
six sample photos, and four paintings by easel's own classical painters. Figures are rounded to four digits, far above
what the number of threads changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model.assets import find_asset
from shared_model.backbone import Backbone
from shared_model.head import Head
from shared_model.images import load_picture, to_tensor, to_uint8
from shared_model.metrics import Distances, Painting, photo_distances, score_pair
from shared_model.samples import sample_photos
from shared_model.stylize import Options, stylize

__all__ = ["FIGURES", "Pair", "Trial"]

_TILES, _SIDE = 4, 320
_OPTIONS = Options(size_px=512)
#: Means over the pairs; the largest of all pairs; 1 if every pixel was a number in [0, 1].
FIGURES = ("quality", "content", "style", "checker_db", "finite")
_WORST = {"quality": 0.0, "content": 0.0, "style": 0.0, "checker_db": 99.0, "finite": 0.0}


@dataclass(frozen=True)
class Pair:
    """One photo, the painting whose manner it gets, and the head made from that painting.

    Attributes
    ----------
    photo, art
        ``(1, 3, H, W) float in [0, 1]``.
    painting
        The painting, analysed.
    head
        Without modulation numbers: each backbone reads its own.
    before
        How far the photo itself is from the painting.
    """

    photo: Tensor
    art: Tensor
    painting: Painting
    head: Head
    before: Distances | None = None


class Trial:
    """Paints and measures; prepared once, used for each backbone.

    Parameters
    ----------
    pairs
        What to paint; default: the four that come with easel.
    progress
        Called with the share done of preparing them, in [0, 1].
    """

    def __init__(
        self,
        pairs: tuple[Pair, ...] | None = None,
        *,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        self.pairs = _pairs(progress) if pairs is None else pairs

    def measure(self, backbone: Backbone) -> dict[str, float]:
        """Return the figures of a backbone (:data:`FIGURES`); the worst ones if it paints what is no number."""
        rows = [self._measure(pair, backbone) for pair in self.pairs]
        if not all(rows):
            return dict(_WORST)
        means = {name: sum(row[name] for row in rows) / len(rows) for name in ("quality", "content", "style")}
        return {name: round(value, 4) for name, value in means.items()} | {
            "checker_db": round(max(row["checker_db"] for row in rows), 4),
            "finite": 1.0,
        }

    @torch.no_grad()
    def _measure(self, pair: Pair, backbone: Backbone) -> Mapping[str, float]:
        """Return the figures of one pair; nothing if a pixel is no number in [0, 1]."""
        head = pair.head.attuned(backbone, [pair.art])
        try:
            painted = stylize(pair.photo, head=head, backbone=backbone, options=_OPTIONS)
        except RuntimeError:  # curves cannot be read at NaN
            return {}
        if not bool(torch.isfinite(painted).all()) or bool((painted < 0).any()) or bool((painted > 1).any()):
            return {}
        output, photo = to_uint8(painted), to_uint8(pair.photo)
        before = pair.before or photo_distances(photo, pair.painting, like=output)
        scores = score_pair(output, photo, pair.painting, before=before)
        figures = {name: scores[key] for name, key in (("quality", "headline"), ("content", "content"))}
        figures |= {"style": scores["style"], "checker_db": scores["checker_db"]}
        return figures if all(math.isfinite(value) for value in figures.values()) else {}


def _pairs(progress: Callable[[float], None]) -> tuple[Pair, ...]:
    sheet = to_tensor(load_picture(find_asset("data/paintings.jpg")).rgb)
    photos = sample_photos()
    pairs = []
    for index in range(_TILES):
        art = sheet[:, :, :, index * _SIDE : (index + 1) * _SIDE]
        photo = photos[(index + 1) % len(photos)]
        painting = Painting.of(to_uint8(art))
        like = to_uint8(torch.zeros(1, 3, 512, 512))
        before = photo_distances(to_uint8(photo), painting, like=like)
        pairs.append(Pair(photo, art, painting, Head.fit([art]), before))
        progress((index + 1) / _TILES)
    return tuple(pairs)
